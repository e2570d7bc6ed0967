# SPDX-License-Identifier: Apache-2.0
"""The certificate authority: what it signs is believed, also while an old one still counts."""

import contextlib
import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.errors import Conflict, InvalidRequest, NotFound
from cnsmo.trust import authority, certificates, keys
from cnsmo.trust.authority import Authority

NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
NONCE = "n" * 32


def host_certificate(
    by: Authority, now: datetime.datetime = NOW, life: datetime.timedelta = 90 * DAY
) -> x509.Certificate:
    return by.sign_host(keys.new_key().public_key(), "h-1", "shop", "web1", now, life)


def roots(of: Authority, now: datetime.datetime) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(of.bundle(now).encode())


def vouches(of: Authority, made: x509.Certificate, now: datetime.datetime) -> bool:
    """Whether who believes these authorities believes a certificate, as a broker does."""
    for root in roots(of, now):
        with contextlib.suppress(InvalidSignature, ValueError):
            made.verify_directly_issued_by(root)
            return made.not_valid_before_utc <= now < made.not_valid_after_utc
    return False


def verify_core(of: Authority, root: x509.Certificate, now: datetime.datetime) -> None:
    """As an agent does that trusts ``root`` alone."""
    leaf, *between = x509.load_pem_x509_certificates(of.core_chain(now).certificates.encode())
    verifier = (
        verification.PolicyBuilder().store(verification.Store([root])).time(now)
        .build_server_verifier(x509.DNSName(certificates.CORE_NAME))
    )  # fmt: skip
    verifier.verify(leaf, between)


def test_a_core_is_believed_by_who_trusts_its_authority_and_by_nobody_else() -> None:
    ca, other = Authority.new(NOW), Authority.new(NOW)
    verify_core(ca, ca.certificate, NOW)
    with pytest.raises(verification.VerificationError):
        verify_core(ca, other.certificate, NOW)


def test_a_hosts_certificate_says_who_it_is_and_serves_no_server() -> None:
    made = host_certificate(Authority.new(NOW))
    assert made.subject.rfc4514_string() == "CN=agent-h-1"
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("cnsmo://shop/web1")]
    use = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(use) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_certificate_counts_in_its_time_only() -> None:
    ca = Authority.new(NOW)
    made = host_certificate(ca)
    assert vouches(ca, made, NOW)
    assert vouches(ca, made, NOW + 89 * DAY)
    assert not vouches(ca, made, NOW + 90 * DAY)
    assert not vouches(ca, made, NOW - 2 * DAY)


def test_a_hosts_certificate_never_outlives_the_authority() -> None:
    ca = Authority.new(NOW)
    made = host_certificate(ca, NOW + authority.LIFE - DAY)
    assert made.not_valid_after_utc == ca.certificate.not_valid_after_utc


def test_both_authorities_are_believed_until_the_overlap_is_over() -> None:
    old = Authority.new(NOW)
    new = old.successor(NOW, 30 * DAY)
    before, after = host_certificate(old), host_certificate(new)
    during, later = NOW + 29 * DAY, NOW + 30 * DAY
    assert (vouches(new, before, during), vouches(new, after, during)) == (True, True)
    assert (vouches(new, before, later), vouches(new, after, later)) == (False, True)
    assert [keys.fingerprint(it) for it in roots(new, during)] == [
        new.fingerprint, old.fingerprint,
    ]  # fmt: skip
    assert [keys.fingerprint(it) for it in roots(new, later)] == [new.fingerprint]


def test_who_pinned_a_former_authority_still_finds_the_core() -> None:
    oldest = Authority.new(NOW)
    old = oldest.successor(NOW + DAY, 30 * DAY)
    new = old.successor(NOW + 2 * DAY, 30 * DAY)
    for root in (oldest, old, new):
        verify_core(new, root.certificate, NOW + 3 * DAY)


def test_an_authority_that_was_thrown_out_leads_to_no_core() -> None:
    old = Authority.new(NOW)
    new = old.successor(NOW, 0 * DAY)
    assert not vouches(new, host_certificate(old), NOW)
    with pytest.raises(verification.VerificationError):
        verify_core(new, old.certificate, NOW)


def test_a_former_authority_has_no_key_any_more(tmp_path: Path) -> None:
    old = authority.create(tmp_path, NOW)
    text = (tmp_path / authority.FILE).read_text()
    old.successor(NOW, 30 * DAY).save(tmp_path)
    now = (tmp_path / authority.FILE).read_text()
    key = authority.Kept.model_validate_json(text).key.replace("\n", "\\n")
    assert key in text
    assert key not in now
    assert now.count("PRIVATE KEY") == 2


def test_the_file_is_its_owners_alone_and_reads_back(tmp_path: Path) -> None:
    made = authority.create(tmp_path / "ca", NOW)
    path = tmp_path / "ca" / authority.FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert authority.load(tmp_path / "ca").fingerprint == made.fingerprint
    with pytest.raises(Conflict, match="ca rotate"):
        authority.create(tmp_path / "ca", NOW)


def test_a_missing_and_a_damaged_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cnsmo-manage ca init"):
        authority.load(tmp_path)
    made = authority.create(tmp_path, NOW)
    path = tmp_path / authority.FILE
    key = keys.key_pem(keys.new_key())
    foreign = authority.Kept(key=key, certificate=certificates.pem(made.certificate))
    for text in ("", "{}", path.read_text()[:-9], foreign.model_dump_json()):
        path.write_text(text)
        with pytest.raises(InvalidRequest, match="is damaged") as caught:
            authority.load(tmp_path)
        assert "PRIVATE" not in str(caught.value)


def test_no_key_is_shown_by_chance(tmp_path: Path) -> None:
    ca = Authority.new(NOW)
    assert "PRIVATE" not in repr(ca.core_chain(NOW))
    assert "PRIVATE" not in repr(ca._kept)


# requests


def test_a_request_proves_its_key_for_its_nonce_alone() -> None:
    key = keys.new_key()
    made = keys.request(key, NONCE)
    assert keys.requested_key(made, NONCE) == key.public_key()
    with pytest.raises(InvalidRequest, match="not signed by its key for this nonce"):
        keys.requested_key(made, "m" * 32)


def other_requests() -> list[str]:
    name = x509.Name([])
    builder = x509.CertificateSigningRequestBuilder(name)
    signers = (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048))
    return [signed_pem(builder, signer) for signer in (*signers, keys.new_key())] + [
        "",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    ]


def signed_pem(builder: x509.CertificateSigningRequestBuilder, key: object) -> str:
    signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("request_pem", other_requests())
def test_other_keys_and_other_requests_are_refused(request_pem: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^csr: "):
        keys.requested_key(request_pem, NONCE)


@given(
    place=st.integers(min_value=30, max_value=330), byte=st.integers(min_value=33, max_value=126)
)
def test_a_request_that_was_touched_is_refused_or_means_the_same(place: int, byte: int) -> None:
    key = keys.new_key()
    text = keys.request(key, NONCE)
    touched = text[:place] + chr(byte) + text[place + 1 :]
    try:
        assert keys.requested_key(touched, NONCE) == key.public_key()
    except InvalidRequest:
        assert touched != text


# fingerprints


def test_a_fingerprint_is_known_in_every_spelling() -> None:
    text = Authority.new(NOW).fingerprint
    for spelled in (text, text.lower(), text.replace(":", ""), f" {text}\n"):
        assert keys.check_fingerprint(spelled) == spelled
        assert keys.same_fingerprint(spelled, text)
    assert not keys.same_fingerprint(text, Authority.new(NOW).fingerprint)


@pytest.mark.parametrize("value", ["", "AB:CD", "g" * 64, "ä" * 64, "0" * 65])
def test_what_is_no_fingerprint_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="ca show"):
        keys.check_fingerprint(value)


@pytest.mark.parametrize("address", ["10.1.0.4", "2001:db8::1", "core.example.net"])
def test_a_broker_proves_its_address_and_is_no_core(address: str) -> None:
    ca = Authority.new(NOW)
    chain = ca.broker_chain(address, NOW)
    (made,) = x509.load_pem_x509_certificates(chain.certificates.encode())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == [address]
    assert vouches(ca, made, NOW)
    uses = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize(
    "name",
    ["cnsmo-core", "CNSMO-Core", "cnsmo-core.", "*", "*-core", "", "a..b", "x\ny", "ä.example"],
)
def test_no_broker_is_called_a_core_or_any_name_at_all(name: str) -> None:
    with pytest.raises(InvalidRequest, match="a name that a broker can have"):
        Authority.new(NOW).broker_chain(name, NOW)
