# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage ca: made once, shown, replaced with an overlap; the key is never shown."""

import ssl
from pathlib import Path

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


def test_a_broker_gets_a_certificate_that_hosts_believe(person: Person, tmp_path) -> None:
    person.does("ca init")
    there = tmp_path / "tls"
    assert "broker.key" in person.does(f"ca broker broker.example.net {there} --dry-run").out
    assert not there.exists()
    person.does(f"ca broker broker.example.net {there}")
    assert {it.name: it.stat().st_mode & 0o777 for it in there.iterdir()} == dict.fromkeys(
        ("authorities.pem", "broker.key", "broker.pem"), 0o600
    )
    assert (there / "authorities.pem").read_text() == str(shown(person, "ca show")["certificates"])
    assert connects(there, "broker.example.net")
    assert not connects(there, "other.example.net")
    person.does(f"ca broker 10.1.0.5 {there}")
    assert connects(there, "10.1.0.5")


def connects(there: Path, name: str) -> bool:
    """Whether who believes the authorities believes who has the other two files, by that name."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(there / "broker.pem", there / "broker.key")
    calling = ssl.create_default_context(cafile=there / "authorities.pem")
    sent, heard = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = calling.wrap_bio(heard, sent, server_hostname=name)
    server = serving.wrap_bio(sent, heard, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return True


@pytest.mark.parametrize("address", ["", "a_b", "a b", "10.1.0.5/24", "x.", "cnsmo-core"])
def test_a_broker_has_an_address_or_a_name_of_its_own(person: Person, tmp_path, address) -> None:
    person.does("ca init")
    assert "neither an address nor a name" in person.fails(2, "ca broker", address, str(tmp_path))
