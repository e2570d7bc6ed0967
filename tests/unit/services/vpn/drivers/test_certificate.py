# SPDX-License-Identifier: Apache-2.0
"""Certificates: what is in them, and how one follows another."""

from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.services.vpn.drivers.certificate import (
    Certificate,
    CertificateFile,
    Certificates,
    issuer_pem,
)
from cnsmo.services.vpn.spec import VpnAnnouncement

DAY = 86400.0


@pytest.fixture(scope="module")
def first() -> Certificates:
    return Certificates(current=Certificate.new("web1", generation=0, now=1000.0))


def test_fingerprint_is_what_the_announcement_takes(first: Certificates) -> None:
    VpnAnnouncement(driver="openvpn", fingerprint=first.current.fingerprint)


def test_certificate_names_its_host_and_is_issued_by_the_formal_issuer(first: Certificates) -> None:
    made = x509.load_pem_x509_certificate(first.current.certificate.encode())
    issuer = x509.load_pem_x509_certificate(issuer_pem().encode())
    assert first.current.host == "web1"
    made.verify_directly_issued_by(issuer)


def test_a_clock_that_is_wrong_does_not_matter(first: Certificates) -> None:
    made = x509.load_pem_x509_certificate(first.current.certificate.encode())
    assert made.not_valid_before_utc.year == 2000
    assert made.not_valid_after_utc.year == 9999


def test_the_key_is_not_shown(first: Certificates) -> None:
    assert "PRIVATE" not in repr(first)
    assert "PRIVATE" in first.current.pem


@pytest.mark.parametrize("name", ["", "Web1", "a b", "a/b", "a\nb", "-a", "a" * 64])
def test_a_name_that_is_no_name_gets_no_certificate(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        Certificate.new(name, 0, 0.0)


def test_nothing_is_due(first: Certificates) -> None:
    assert first.advanced(0, 30 * DAY, confirmed=True, now=2000.0) is first
    assert first.advanced(0, 0, confirmed=True, now=1e12) is first


def test_the_next_one_is_announced_then_used_then_alone(first: Certificates) -> None:
    ahead = first.advanced(1, 0, confirmed=True, now=2000.0)  # of what was announced before
    assert ahead.next is not None
    assert not ahead.promoting
    assert ahead.wanted == first.current
    assert ahead.advanced(1, 0, confirmed=False, now=3000.0) is ahead
    used = ahead.advanced(1, 0, confirmed=True, now=3000.0)
    assert used.promoting
    assert used.wanted == ahead.next
    assert used.advanced(1, 0, confirmed=True, now=3001.0) == used
    alone = used.promoted()
    assert alone == Certificates(current=ahead.next)
    assert alone.advanced(1, 0, confirmed=True, now=3002.0) is alone


def test_a_second_command_replaces_what_was_not_used_yet(first: Certificates) -> None:
    ahead = first.advanced(1, 0, confirmed=False, now=2000.0)
    again = ahead.advanced(2, 0, confirmed=True, now=2001.0)
    assert again.next is not None
    assert again.next != ahead.next
    assert not again.promoting


@given(age=st.floats(0, 60 * DAY))
def test_age_asks_for_another_within_a_tenth_of_its_time(age: float) -> None:
    due = OLD.due(0, 30 * DAY, now=1000.0 + age)
    if age < 27 * DAY - 1:
        assert not due
    if age > 33 * DAY + 1:
        assert due


OLD = Certificate.new("web1", generation=0, now=1000.0)


# --- on the disk ------------------------------------------------------------------------------


def test_certificates_are_made_once(tmp_path: Path) -> None:
    made = CertificateFile(tmp_path / "unit", "web1").ensure(3, now=5.0)
    assert made.current.generation == 3
    assert CertificateFile(tmp_path / "unit", "web1").ensure(4, now=6.0) == made


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"current": {"key": "x", "certificate": "y", "created": 0, "generation": 0}}'],
)
def test_a_damaged_file_is_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "certificates.json").write_text(text)
    assert CertificateFile(tmp_path, "web1").ensure(0, now=5.0).current.host == "web1"


def test_a_copied_disk_does_not_keep_the_others_name(tmp_path: Path) -> None:
    theirs = CertificateFile(tmp_path, "web1").ensure(0, now=5.0)
    ours = CertificateFile(tmp_path, "web2").ensure(0, now=5.0)
    assert ours.current.host == "web2"
    assert ours.current.key != theirs.current.key
