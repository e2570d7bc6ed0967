# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage ca: made once, shown, replaced with an overlap; the key is never shown."""

import pytest
from cryptography import x509

from cnsmo.trust import authority, keys
from tests.functional.manage.person import Person


@pytest.fixture
def person(conf, tmp_path) -> Person:
    return Person(tmp_path)


def shown(person: Person, line: str) -> dict[str, object]:
    found: dict[str, object] = person.does(f"{line} -f json").json
    assert "PRIVATE" not in str(found)
    return found


def test_an_authority_is_made_once_and_shown(person: Person, tmp_path) -> None:
    assert "'cnsmo-manage ca init' makes it" in person.fails(4, "ca show")
    made = shown(person, "ca init")
    assert made["directory"] == str(tmp_path / "ca")
    assert shown(person, "ca show") == made
    (root,) = x509.load_pem_x509_certificates(str(made["certificates"]).encode())
    assert keys.fingerprint(root) == made["fingerprint"]
    told = person.fails(5, "ca init")
    assert "ca rotate" in told
    assert person.fails(5, "ca init --dry-run") == told
    assert shown(person, "ca show") == made


def test_the_fingerprint_alone_is_one_word_for_user_data(person: Person) -> None:
    person.does("ca init")
    said = person.does("ca show -f value -c fingerprint").out
    assert keys.check_fingerprint(said.strip()) == said.strip()


def test_a_rotation_keeps_the_old_one_for_the_overlap(person: Person) -> None:
    old = shown(person, "ca init")
    new = shown(person, "ca rotate --overlap 30d")
    assert new["fingerprint"] != old["fingerprint"]
    assert new["also_believed"] == [old["fingerprint"]]
    assert str(new["certificates"]).count("BEGIN CERTIFICATE") == 2
    table = person.does("ca show").out
    assert f"{old['fingerprint']} (until 20" in table
    last = shown(person, "ca rotate --overlap 0s")
    assert last["also_believed"] == []


def test_dry_runs_change_nothing(person: Person, tmp_path) -> None:
    assert "nothing was made" in person.does("ca init --dry-run").err
    assert not (tmp_path / "ca").exists()
    made = shown(person, "ca init")
    assert "90 days more" in person.does("ca rotate --dry-run").err
    assert shown(person, "ca show") == made


def test_a_damaged_authority_is_named(person: Person, tmp_path) -> None:
    person.does("ca init")
    (tmp_path / "ca" / authority.FILE).write_text("{")
    assert "restore it from a backup" in person.fails(2, "ca show")
