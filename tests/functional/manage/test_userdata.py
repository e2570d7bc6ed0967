# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage userdata: what a person gives to a cloud."""

import email
import gzip
import json
from pathlib import Path

import pytest
import yaml

from tests.functional.manage.person import Person

CORE = "--core https://198.51.100.10:8743"
CA = "0123456789abcdef" * 4


@pytest.fixture
def person(conf, tmp_path) -> Person:
    """Somebody at a core of an own."""
    made = Person(tmp_path, embed=True)
    made.does("deployment create shop")
    return made


def given(text: str) -> dict[str, str]:
    """The parameters that stand in a user-data."""
    found: dict[str, str] = json.loads(yaml.safe_load(text)["write_files"][0]["content"])
    return {name: value for name, value in found.items() if value}


def test_a_token_is_made_for_the_vms_and_the_authority_is_pinned(person: Person) -> None:
    pinned = person.does("ca init -f value -c fingerprint").out.strip()
    text = person.does(f"userdata agent {CORE} --group web --uses 3 --services vpn").out
    found = given(text)
    (token,) = person.does("token list -f json").json
    assert (token["groups"], token["uses_left"]) == (["web"], 3)
    assert found.pop("token").startswith(token["id"])
    assert found == {
        "role": "agent",
        "core": "https://198.51.100.10:8743",
        "ca": pinned,
        "services": "vpn",
        "wait": "900",
    }


def test_a_dry_run_makes_no_token(person: Person) -> None:
    said = person.does(f"userdata agent {CORE} --ca {CA} --group web --dry-run")
    assert "no token was made" in said.err
    assert person.does("token list -f json").json == []


def test_what_is_wrong_is_named_before_a_token_is_made(person: Person) -> None:
    for line, told in (
        ("userdata agent", "--core: say where to join"),
        (f"userdata agent --core http://x --ca {CA}", "--core: 'http://x': https://ADDRESS:PORT"),
        (f"userdata agent {CORE} --ca zz", "--ca: 'zz' is no SHA-256 fingerprint"),
        (f"userdata agent {CORE} --ca {CA} --name A_B", "--name: 'A_B' is not a name"),
        (f"userdata agent {CORE} --ca {CA} --token t.x --group web", "--group: what groups"),
        (f"userdata agent {CORE} --ca {CA} --gzip", "--gzip: say with --output"),
        (f"userdata agent {CORE} --ca {CA} --with none.sh", "--with none.sh: No such file"),
        ("userdata core --group web=2", "--group: say with --deployment"),
        ("userdata core --deployment shop --group web", "--groups: 'web': GROUP=USES"),
        ("userdata core --volume disk", "--volume: 'disk': a volume's id or a device"),
    ):
        assert told in person.fails(2, line), line
    assert person.does("token list -f json").json == []


def test_a_core_gets_its_first_deployment(person: Person) -> None:
    line = "userdata core --deployment shop --group web=2 --group edge=1 --lifetime 1h --wait 10m"
    assert given(person.does(line).out) == {
        "role": "core",
        "deployment": "shop",
        "groups": "web=2,edge=1",
        "token_life": "3600",
        "wait": "600",
    }


def test_it_is_written_for_its_owner_alone_packed_and_with_other_parts(
    person: Person, tmp_path: Path
) -> None:
    (tmp_path / "more.sh").write_text("#!/bin/sh\necho more\n")
    said = person.does("userdata core --with more.sh --gzip -o core.gz")
    assert "Treat it as a secret" in said.err
    made = tmp_path / "core.gz"
    assert made.stat().st_mode & 0o777 == 0o600
    whole = email.message_from_bytes(gzip.decompress(made.read_bytes()))
    kinds = [part.get_content_type() for part in whole.walk() if not part.is_multipart()]
    assert kinds == ["text/cloud-config", "text/x-shellscript"]
