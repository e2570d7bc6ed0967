# SPDX-License-Identifier: Apache-2.0
"""What holds for every file of the tree."""

import configparser
import pathlib
import re
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cnsmo.agent.identity import StateDir
from cnsmo.agent.notice import EVERY_SERVICE
from cnsmo.conf import agent
from cnsmo.services.firewall.drivers import guard
from cnsmo.services.firewall.service import UNIT

TOP = pathlib.Path(__file__).resolve().parents[2]
# Made by tools, or not ours to write.
NOT_SOURCE = {
    ".git",
    ".tox",
    ".hypothesis",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    "__pycache__",
}
LONGEST_MODULE = 400
SPDX = "SPDX-License-Identifier: Apache-2.0"


def files() -> list[pathlib.Path]:
    """Every file that belongs to the tree: what git would commit, or all but what tools made."""
    if (TOP / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(
            ["git", "-C", TOP, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True,
            check=True,
        )
        found = [TOP / name for name in listed.stdout.decode().split("\0") if name]
    else:
        found = [
            path
            for path in TOP.rglob("*")
            if not any(
                part in NOT_SOURCE or part.startswith(".venv") or part.endswith(".egg-info")
                for part in path.relative_to(TOP).parts
            )
        ]
    return sorted({path for path in found if path.is_file()})


FILES = files()
TEXTS = [path for path in FILES if b"\0" not in path.read_bytes()]


def names(paths: list[pathlib.Path]) -> list[str]:
    return [str(path.relative_to(TOP)) for path in paths]


def is_shell(path: pathlib.Path) -> bool:
    return path.suffix == ".sh" or path.read_bytes()[:40].startswith(
        (b"#!/usr/bin/env bash", b"#!/bin/sh")
    )


def test_the_tree_was_found():
    assert {"setup.cfg", "cnsmo/__init__.py", "tools/demo.sh", ".ci/run"} <= set(names(FILES))


def test_no_module_is_longer_than_one_idea():
    long = {
        name: lines
        for name, path in zip(names(FILES), FILES, strict=True)
        if name.startswith("cnsmo/") and path.suffix == ".py"
        if (lines := path.read_text().count("\n")) > LONGEST_MODULE
    }
    assert not long, f"a module that passes {LONGEST_MODULE} lines is two modules"


def test_every_source_file_names_its_license_once():
    wrong = {}
    for path in TEXTS:
        name = str(path.relative_to(TOP))
        commented = path.suffix in {
            ".py",
            ".sh",
            ".j2",
            ".mako",
            ".service",
            ".cfg",
            ".toml",
            ".ini",
            ".yaml",
        }
        if not commented and not is_shell(path):
            continue
        head = path.read_text().splitlines()[:5]
        if sum(SPDX in line for line in head) != 1:
            wrong[name] = "no such line among the first five, or more than one"
    assert not wrong


# Spelled so that this file itself names none of them.
REGISTRIES = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "deb.debian" + ".org",
    "security.debian" + ".org",
]
REGISTRIES += [
    "archive.ubuntu" + ".com",
    "npmjs" + ".org",
    "proxy.golang" + ".org",
    "snapshot.debian" + ".org",
]


@pytest.mark.parametrize("host", REGISTRIES)
def test_no_registry_is_named(host):
    assert not [
        name for name, path in zip(names(TEXTS), TEXTS, strict=True) if host in path.read_text()
    ]


def test_no_path_of_the_machine_that_wrote_it():
    places = re.compile("/" + "work/(main|shared)|/" + "tmp/w/|/" + r"root/\.pyenv")
    assert not [
        name
        for name, path in zip(names(TEXTS), TEXTS, strict=True)
        if places.search(path.read_text())
    ]


# A first line with content after it; code that only speaks of such lines has none.
PRIVATE_KEY = re.compile(
    rb"-{5}BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----[\s\\nr]*[A-Za-z0-9+/=]{16}"
    rb"|-{5}BEGIN OpenVPN Static key"
)


def made_key() -> bytes:
    """As any tool would have written it."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def test_no_private_key_is_in_the_tree():
    """Nor a file of a kind that holds one; the original's repositories have several."""
    assert PRIVATE_KEY.search(made_key())
    assert PRIVATE_KEY.search(repr(made_key()).encode()), "in a program's text, too"
    assert not [path for path in FILES if path.suffix in {".key", ".p12", ".pfx", ".jks"}]
    assert not [path for path in FILES if PRIVATE_KEY.search(path.read_bytes())]


def test_texts_are_utf8_with_unix_line_ends():
    assert not [
        name for name, path in zip(names(TEXTS), TEXTS, strict=True) if b"\r" in path.read_bytes()
    ]
    for path in TEXTS:
        path.read_bytes().decode()


def test_scripts_can_be_run_and_stop_at_the_first_error():
    for path in FILES:
        head = path.read_bytes()[:2]
        if head == b"#!":
            assert path.stat().st_mode & 0o111, f"{path} starts with #! and is not executable"
    for path in filter(is_shell, TEXTS):
        text = path.read_text()
        assert "set -euo pipefail" in text or "lib.sh" in text, path


def test_shellcheck_has_nothing_to_say():
    scripts = [str(path) for path in TEXTS if is_shell(path)]
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: tools/test.sh installs it")
    said = subprocess.run(
        [shellcheck, "-x", *scripts], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert not said.stdout


def boot_rules() -> pathlib.Path:
    """Where an agent with default settings keeps the firewall that was confirmed last."""
    (state_dir,) = [option.default for option in agent.OPTS if option.name == "state_dir"]
    return (
        StateDir(pathlib.Path(state_dir), EVERY_SERVICE).unit("firewall", UNIT, "nftables")
        / guard.GOOD
    )


def test_units_keep_what_operators_rely_on():
    for unit in sorted(TOP.glob("etc/systemd/*.service")):
        parser = configparser.RawConfigParser(strict=False, interpolation=None)
        parser.optionxform = str
        parser.read_string(unit.read_text())
        if unit.name == "cnsmo-broker.service":
            continue  # started by its timer
        if unit.name == "cnsmo-leave.service":
            assert "cnsmo-agent.service" in parser["Unit"]["Before"], "stopped after the agent"
            continue
        if parser["Service"]["Type"] == "oneshot":
            assert "network-pre.target" in parser["Unit"]["Before"], "before there is a network"
            rules = boot_rules()
            assert parser["Unit"]["ConditionPathExists"] == str(rules)
            assert parser["Service"]["ExecStart"].endswith(f"nft -f {rules}")
            continue
        assert parser["Service"]["Restart"] == "always"
        assert parser["Service"]["StateDirectoryMode"] == "0700"
        if "agent" in unit.name:
            assert parser["Install"]["Also"] == "cnsmo-firewall.service"
            assert parser["Service"]["KillMode"] == "process", "tunnels survive the agent"


def test_all_data_is_installed():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(TOP / "setup.cfg")
    patterns = "\n".join(parser["options.data_files"].values()).split()
    installed = {path for pattern in patterns for path in TOP.glob(pattern)}
    assert all(path.is_file() for path in installed), "setuptools cannot install a directory so"
    data = {
        path
        for path in FILES
        if path.relative_to(TOP).parts[0] in {"cloudinit", "etc", "examples", "heat_templates"}
    }
    assert not names(sorted(data - installed))


def entry_points() -> list[tuple[str, str]]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(TOP / "setup.cfg")
    return [
        (group, line.strip())
        for group, lines in parser["options.entry_points"].items()
        for line in lines.splitlines()
        if line.strip()
    ]


@pytest.mark.parametrize(("group", "line"), entry_points())
def test_every_entry_point_leads_somewhere(group, line):
    from importlib.metadata import EntryPoint

    name, _, value = (part.strip() for part in line.partition("="))
    assert callable(EntryPoint(name, value, group).load())


def test_the_version_is_the_same_everywhere():
    import cnsmo

    parser = configparser.ConfigParser(interpolation=None)
    parser.read(TOP / "setup.cfg")
    assert parser["metadata"]["version"] == cnsmo.__version__


def test_nothing_of_ours_shadows_cloud_init():
    """A Python package of that name would hide the real one from anybody who runs here."""
    assert not list(TOP.glob("cloudinit/**/*.py"))


def test_every_package_that_is_needed_is_pinned():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(TOP / "setup.cfg")
    needed = "\n".join(
        [
            parser["options"]["install_requires"],
            *parser["options.extras_require"].values(),
            (TOP / "tools" / "requirements.txt").read_text(),
        ]
    )
    wanted = {
        re.split(r"[\[><=;]", line)[0].strip().lower().replace(".", "-").replace("_", "-")
        for line in needed.splitlines()
        if line.strip() and not line.startswith(("#", "%"))
    }
    pinned = {line.split("==")[0] for line in (TOP / "constraints.txt").read_text().splitlines()}
    assert not wanted - pinned
