# SPDX-License-Identifier: Apache-2.0
"""The hunt through a whole session fails where a secret is told, wherever that is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START = """
import base64, logging, os, secrets, subprocess, sys
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization as to
from cryptography.hazmat.primitives.asymmetric import ec, x25519

def pem():
    form = to.Encoding.PEM, to.PrivateFormat.PKCS8, to.NoEncryption()
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(*form).decode()

def wireguard():
    return base64.b64encode(x25519.X25519PrivateKey.generate().private_bytes_raw()).decode()

def run(*words, **options):
    subprocess.run([sys.executable, *words], check=True, **options)

CHILD = '''
# Tells a secret at debug when it has an argument.
import sys
from oslo_config import cfg
from oslo_log import log
log.register_options(cfg.CONF)
cfg.CONF([])
log.setup(cfg.CONF, "x")
from cnsmo.state import secrets
made = secrets.derived(secrets.new_secret(), "h-1")
log.getLogger("sqlalchemy.engine").debug("made %s", made if len(sys.argv) > 1 else "it")
'''
"""
TOLD = {
    "a word in a log of its own": "(tmp_path / 'a.log').write_text('x' + secrets.token_hex(32))",
    "a log line": "logging.getLogger('x').warning('join %s', secrets.token_hex(32))",
    "a log line at debug": "logging.getLogger('x').debug('join %s', secrets.token_hex(32))",
    "a line of a key": "logging.getLogger('x').info(pem().splitlines()[1])",
    "a key of WireGuard": "logging.getLogger('x').info('key=%s.', wireguard())",
    "a key of the database": "logging.getLogger('x').info(Fernet.generate_key().decode())",
    "what is printed": "print(secrets.token_hex(16))",
    "an argument": "run('-c', '', secrets.token_hex(32))",
    "an environment": "run('-c', '', env={'A': secrets.token_hex(32)})",
    "an argument of a program that a program starts":
        "run('-c', 'import os, secrets; os.execv(\"/bin/true\", [\"x\", secrets.token_hex(32)])')",
    "a log of a program at debug":
        "run('-c', CHILD, 'told', stdout=open(tmp_path / 'child.log', 'w'))",
}  # fmt: skip
SILENT = {
    "a file of secrets": "(tmp_path / 'identity.json').write_text(secrets.token_urlsafe(32))",
    "a log without one": "(tmp_path / 'a.log').write_text('x'); secrets.token_urlsafe(32)",
    "a program that tells nothing": "run('-c', CHILD)",
    "an id": "print('h-' + secrets.token_hex(6)); secrets.token_hex(32)",
}


def session(path: Path, does: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A session of pytest of one test that passes."""
    (path / "test_it.py").write_text(f"{START}\ndef test_it(tmp_path):\n    {does}\n")
    (path / "pytest.ini").write_text("[pytest]\n")
    mine = {name: value for name, value in os.environ.items() if not name.startswith("CNSMO_SPY")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.hunting",
         "--basetemp", str(path / "temp"), *options, "test_it.py"],
        cwd=path, env={**mine, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("where", TOLD)
def test_a_session_in_which_a_secret_is_told_fails(tmp_path: Path, where: str) -> None:
    done = session(tmp_path, TOLD[where], "--hunt")
    assert "1 passed" in done.stdout, done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "secrets were told" in done.stdout


@pytest.mark.parametrize("what", SILENT)
def test_a_session_in_which_none_is_told_passes(tmp_path: Path, what: str) -> None:
    done = session(tmp_path, f"logging.getLogger('x').debug('x'); {SILENT[what]}", "--hunt")
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    assert "none was told" in done.stdout


@pytest.mark.parametrize("does", ["pass", "secrets.token_hex(32)"])
def test_a_hunt_that_saw_nothing_fails(tmp_path: Path, does: str) -> None:
    done = session(tmp_path, does, "--hunt")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout


def test_the_report_does_not_tell_it_again(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    done = session(
        tmp_path,
        f"s = secrets.token_hex(32); open({str(secret)!r}, 'w').write(s); print(s)",
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "test_it.test_it" in done.stdout
    assert secret.read_text() not in done.stdout
