# SPDX-License-Identifier: Apache-2.0
"""Who is let in: tokens that are bound, keys that are known, certificates that end."""

import datetime
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509

from cnsmo.core.context import Core
from cnsmo.core.membership import Membership
from cnsmo.model.errors import Conflict, Denied, InvalidRequest, Lapsed, NotFound, Removed
from cnsmo.model.messages import JoinAnswer
from cnsmo.state.engine import transaction, utc_now
from cnsmo.state.tables import IDENTITIES
from cnsmo.state.tokens import BAD_TOKEN
from cnsmo.trust import authority, keys
from cnsmo.trust.certificates import public_key
from tests.joining import join_request
from tests.unit.conftest import Caller, Operator, Told

KEY, OTHER, THIRD = keys.new_key(), keys.new_key(), keys.new_key()
SHOP = "deployment: shop\nvpn: {a: {cidr: 10.66.0.0/16, driver: noop}}"
NONCE = "n" * 32


@pytest.fixture
def web1(core: Core, operator: Operator) -> JoinAnswer:
    """Has joined with KEY."""
    return joins(core, operator.token(groups=["web"]))


def joins(core: Core, token: str, source: str = "", **more: Any) -> JoinAnswer:
    request = join_request(token, more.pop("host", "web1"), **{"key": KEY, **more})
    return Membership(core).join(request, source)


def caller(core: Core, answer: JoinAnswer) -> Caller:
    return Caller(core, {"agent_id": answer.id, "agent_secret": answer.secret})


def lapse(core: Core) -> None:
    """All certificates have ended."""
    past = utc_now() - datetime.timedelta(days=1)
    with transaction(core.store.engine) as connection:
        connection.execute(sa.update(IDENTITIES).values(expires_at=past))


def certificate(answer: JoinAnswer) -> x509.Certificate:
    return x509.load_pem_x509_certificate(answer.certified.certificate.encode())


# tokens that are bound


def test_a_token_that_is_bound_to_a_name_takes_no_other(core: Core, operator: Operator) -> None:
    token = operator.token(uses=1, host="web1")
    with pytest.raises(Denied) as caught:
        joins(core, token, host="web2")
    assert str(caught.value) == BAD_TOKEN
    assert joins(core, token, host="web1").host == "web1"


@pytest.mark.parametrize(
    ("network", "source", "taken"),
    [
        ("10.1.0.0/24", "10.1.0.7", True),
        ("10.1.0.0/24", "10.1.1.7", False),
        ("10.1.0.0/24", "", False),
        ("10.1.0.0/24", "fd00::7", False),
        ("fd00::/64", "fd00::7", True),
        ("fd00::/64", "10.1.0.7", False),
    ],
)
def test_a_token_that_is_bound_to_addresses_takes_no_other(
    core: Core, operator: Operator, network: str, source: str, taken: bool
) -> None:
    token = operator.token(uses=1, source=network)
    if taken:
        joins(core, token, source)
    else:
        with pytest.raises(Denied) as caught:
            joins(core, token, source)
        assert str(caught.value) == BAD_TOKEN
    (status,) = operator.token_list(deployment="shop")
    assert (status["uses_left"], status["source"]) == (0 if taken else 1, network)


@pytest.mark.parametrize("bound", [{"host": "Web 1"}, {"source": "10.1.0.7/24"}, {"source": "x"}])
def test_a_token_is_bound_to_what_makes_sense(operator: Operator, bound: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        operator.token(**bound)


# the same key, and another one


def test_the_certificate_is_for_the_hosts_key_and_by_the_authority(
    core: Core, web1: JoinAnswer
) -> None:
    made = certificate(web1)
    assert public_key(made) == KEY.public_key()
    assert made.subject.rfc4514_string() == f"CN=agent-{web1.id}"
    roots = x509.load_pem_x509_certificates(web1.certified.authorities.encode())
    made.verify_directly_issued_by(roots[0])
    assert web1.certified.life == pytest.approx(core.conf.join.certificate_life, abs=1)


def test_a_known_host_with_its_own_key_is_the_same_host(
    core: Core, operator: Operator, web1: JoinAnswer
) -> None:
    again = joins(core, operator.token(groups=["web"], uses=1), nonce=NONCE)
    assert again.id == web1.id
    assert caller(core, again).sync(since=0)
    with pytest.raises(Denied):
        caller(core, web1).sync(since=0)


def test_a_stolen_token_cannot_push_a_living_host_out(
    core: Core, operator: Operator, web1: JoinAnswer
) -> None:
    token = operator.token(uses=1)
    before = core.store.changes("shop")
    for nonce in (NONCE, f"{'web1':0>32}"):
        with pytest.raises(Conflict, match="host readmit web1"):
            joins(core, token, key=OTHER, nonce=nonce)
    assert core.store.changes("shop") == before
    caller(core, web1).sync(since=0)
    assert operator.token_list(deployment="shop")[-1]["uses_left"] == 1


def test_who_has_no_valid_token_is_not_told_that_a_name_is_taken(
    core: Core, operator: Operator, web1: JoinAnswer
) -> None:
    token = operator.token(uses=1)
    joins(core, token, host="web2", key=OTHER)
    with pytest.raises(Denied):
        joins(core, token, key=OTHER)


def test_after_readmit_another_key_takes_the_place_once(
    core: Core, operator: Operator, web1: JoinAnswer
) -> None:
    token = operator.token(groups=["edge"])
    operator.host_readmit(deployment="shop", host="web1", seconds=60)
    again = joins(core, token, key=OTHER)
    assert again.groups == ["edge"]
    assert caller(core, again).sync(since=0)
    with pytest.raises(Conflict):
        joins(core, token, key=THIRD)
    operator.host_readmit(deployment="shop", host="web1", seconds=60)
    with pytest.raises(Conflict, match="this key was revoked"):
        joins(core, token, key=KEY, nonce=NONCE)


def test_whose_place_was_taken_is_a_removed_host(
    core: Core, operator: Operator, web1: JoinAnswer, told: Told
) -> None:
    """Its id (and so its account at the broker), secret, key and announcements are worthless."""
    operator.apply(document=SHOP, base_revision=None)
    announced = {"announcement": {"service": "vpn", "instance": "a", "body": {"driver": "noop"}}}
    caller(core, web1).announce(**announced)
    (address,) = vpn_addresses(core)
    operator.host_readmit(deployment="shop", host="web1", seconds=60)
    again = joins(core, operator.token(), key=OTHER)
    assert again.id != web1.id
    assert core.identities.everybody(0) == ({again.id}, set())
    assert told.parted == [(web1.id, core.store.deployment("shop").revision)]
    with pytest.raises(Removed):
        caller(core, web1).sync(since=0)
    assert vpn_addresses(core) == []
    caller(core, again).announce(**announced)
    assert vpn_addresses(core) == [address], "its address is its name's"


def vpn_addresses(core: Core) -> list[str]:
    return [str(row.body["addresses"]) for row in core.store.view("shop").rows("vpn.member")]


def test_readmit_is_over_when_its_time_is(core: Core, operator: Operator, web1: JoinAnswer) -> None:
    operator.host_readmit(deployment="shop", host="web1", seconds=60)
    (host,) = operator.host_list(deployment="shop")
    assert host["readmit_until"] is not None
    past = utc_now() - datetime.timedelta(seconds=1)
    with transaction(core.store.engine) as connection:
        connection.execute(sa.update(IDENTITIES).values(readmit_until=past))
    with pytest.raises(Conflict):
        joins(core, operator.token(), key=OTHER)


@pytest.mark.parametrize("seconds", [0, -1, 31 * 86400, "60", True])
def test_readmit_has_bounds(operator: Operator, web1: JoinAnswer, seconds: Any) -> None:
    with pytest.raises(InvalidRequest):
        operator.host_readmit(deployment="shop", host="web1", seconds=seconds)
    with pytest.raises(NotFound):
        operator.host_readmit(deployment="shop", host="web9", seconds=60)


def test_a_key_is_revoked_with_its_host(core: Core, operator: Operator, web1: JoinAnswer) -> None:
    operator.host_remove(deployment="shop", host="web1")
    for host in ("web1", "web2"):
        with pytest.raises(Conflict, match="this key was revoked when host 'web1' was removed"):
            joins(core, operator.token(), host=host)
    assert joins(core, operator.token(), key=OTHER).id != web1.id


# renewal


def renewed(core: Core, answer: JoinAnswer, key: Any = KEY, bound_to: str = "") -> dict[str, Any]:
    csr = keys.request(key, bound_to or answer.id)
    return dict(caller(core, answer).certify(csr=csr))


def test_a_renewal_makes_a_certificate_for_the_same_key_and_no_revision(
    core: Core, operator: Operator, web1: JoinAnswer
) -> None:
    head = core.store.deployment("shop").revision
    (before,) = operator.host_list(deployment="shop")
    made = x509.load_pem_x509_certificate(renewed(core, web1)["certificate"].encode())
    assert public_key(made) == KEY.public_key()
    (after,) = operator.host_list(deployment="shop")
    assert after["certified_until"] >= before["certified_until"]
    assert core.store.deployment("shop").revision == head


def test_a_renewal_takes_no_other_key_and_no_foreign_request(core: Core, web1: JoinAnswer) -> None:
    with pytest.raises(Conflict, match="host readmit web1"):
        renewed(core, web1, key=OTHER)
    with pytest.raises(InvalidRequest):
        renewed(core, web1, bound_to="h-000000000000")
    with pytest.raises(InvalidRequest):
        caller(core, web1).certify(csr="x" * 5000)


def test_a_host_from_before_there_were_certificates_gets_one(core: Core, web1: JoinAnswer) -> None:
    with transaction(core.store.engine) as connection:
        connection.execute(sa.update(IDENTITIES).values(key_hash=None, expires_at=None))
    caller(core, web1).sync(since=0)
    renewed(core, web1, key=OTHER)
    with pytest.raises(Conflict):
        renewed(core, web1, key=KEY)


def test_a_removed_host_renews_nothing(core: Core, operator: Operator, web1: JoinAnswer) -> None:
    operator.host_remove(deployment="shop", host="web1")
    with pytest.raises(Removed):
        renewed(core, web1)


# certificates that ended


def test_who_slept_through_its_certificate_is_told_so_and_can_do_nothing(
    core: Core, web1: JoinAnswer
) -> None:
    lapse(core)
    for call in (lambda: caller(core, web1).sync(since=0), lambda: renewed(core, web1)):
        with pytest.raises(Lapsed, match="give it a fresh token"):
            call()
    thief = Caller(core, {"agent_id": web1.id, "agent_secret": "x"})
    with pytest.raises(Denied) as caught:
        thief.sync(since=0)
    assert type(caught.value) is Denied


def test_it_comes_back_by_a_fresh_token_as_the_same_host(
    core: Core, operator: Operator, web1: JoinAnswer
) -> None:
    used_up = operator.token(uses=1)
    joins(core, used_up, host="web2", key=OTHER)
    lapse(core)
    with pytest.raises(Denied) as caught:
        joins(core, used_up)
    assert str(caught.value) == BAD_TOKEN
    again = joins(core, operator.token(groups=["web"], uses=1))
    assert again.id == web1.id
    assert caller(core, again).sync(since=0)


# the authority


def test_certificates_follow_a_rotation(core: Core, operator: Operator, web1: JoinAnswer) -> None:
    directory = Path(core.conf.join.ca_directory)
    now = datetime.datetime.now(datetime.UTC)
    new = authority.load(directory).successor(now, datetime.timedelta(days=1))
    new.save(directory)
    made = renewed(core, web1)
    x509.load_pem_x509_certificate(made["certificate"].encode()).verify_directly_issued_by(
        new.certificate
    )
    assert made["authorities"].count("BEGIN") == 2


def test_without_an_authority_nobody_joins_and_nothing_is_written(
    core: Core, operator: Operator
) -> None:
    token = operator.token(uses=1)
    shutil.rmtree(core.conf.join.ca_directory)
    with pytest.raises(NotFound, match="ca init"):
        joins(core, token)
    assert core.identities.living("shop") == {}
    assert operator.token_list(deployment="shop")[0]["uses_left"] == 1
