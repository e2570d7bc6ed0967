# SPDX-License-Identifier: Apache-2.0
"""The hunt for secrets finds what it is to find."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cnsmo.state.vault import Vault
from cnsmo.trust import keys
from tests.eventually import eventually
from tests.hunt import Hunt, open_to_others

SECRET = "correct-horse-battery-staple"


@pytest.fixture
def hunt() -> Hunt:
    made = Hunt()
    made.know("token", SECRET)
    return made


def test_a_secret_in_a_log_is_found(hunt: Hunt, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(f"DEBUG x [-] join {SECRET} refused\n")
    (tmp_path / "b.log").write_text("DEBUG x [-] join refused\n")
    assert hunt.found_in_logs(tmp_path.glob("*.log")) == {"a.log": {"token"}}


@pytest.mark.parametrize("where", ["argument", "environment"])
def test_a_secret_that_a_program_is_started_with_is_found(hunt: Hunt, where: str) -> None:
    words = [SECRET] if where == "argument" else []
    env = {"TOKEN": SECRET} if where == "environment" else {}
    with hunt:
        subprocess.run([sys.executable, "-c", "", *words], env=env, check=True)
    assert hunt.found_in_processes() == {"token"}


def test_a_secret_in_an_argument_of_somebody_elses_program_is_found(hunt: Hunt) -> None:
    code = "import subprocess, sys; subprocess.run(['sleep', '60', *sys.argv[1:]])"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", code, SECRET], **quiet) as process:
        with hunt:
            eventually(lambda: hunt.found_in_processes() == {"token"})
        process.kill()


def test_secrets_are_known_by_the_files_that_hold_them(tmp_path: Path) -> None:
    hunt, key = Hunt(), keys.key_pem(keys.new_key())
    (tmp_path / "identity.json").write_text(json.dumps({"secret": SECRET, "id": "h-1"}))
    (tmp_path / "host.key").write_text(key)
    Vault(tmp_path / "secrets.json").create()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "keys.json").write_text(json.dumps({"current": {"private": "k" * 44}}))
    hunt.know_all(tmp_path)
    assert hunt.found_in(SECRET) == {"agent-secret"}
    assert hunt.found_in(f"what {key.splitlines()[1]} is") == {"key host.key"}
    assert hunt.found_in("k" * 44) == {"keys"}
    assert hunt.found_in((tmp_path / "secrets.json").read_text()) == {"secrets"}


def test_what_others_may_read_is_found(tmp_path: Path) -> None:
    inside = tmp_path / "state"
    inside.mkdir(mode=0o700)
    (inside / "key").touch()
    (inside / "key").chmod(0o640)
    (inside / "own").touch(mode=0o600)
    assert open_to_others(inside) == {str(inside / "key"): "640"}
