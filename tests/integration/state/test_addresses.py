# SPDX-License-Identifier: Apache-2.0
"""Addresses of a VPN when two cores take hosts in at the same moment."""

import itertools
import multiprocessing.pool

import pytest
from oslo_config import cfg

from cnsmo.core.context import Core
from cnsmo.core.declare import Declare
from cnsmo.core.membership import Membership
from cnsmo.model.audit import Act
from cnsmo.model.errors import NotAdmitted
from cnsmo.model.messages import Announcement, JoinAnswer, TokenRequest
from cnsmo.state import tokens
from cnsmo.state.store import Store
from tests.integration.state import processes
from tests.joining import join_request, make_authority

ANNA = Act.of_operator("anna", "test")


@pytest.fixture
def core(store: Store, conf: cfg.ConfigOpts, database_url: str) -> Core:
    make_authority(conf)
    return processes.make_core(database_url, conf.join.ca_directory)


@pytest.fixture
def token(core: Core) -> str:
    request = TokenRequest(uses=100)
    made = core.write("shop", ANNA, lambda writer: tokens.create(writer, request)).value
    return made.token or ""


def declare(core: Core, cidr: str, quarantine: int = 3600) -> None:
    spec = f"{{cidr: {cidr}, quarantine: {quarantine}, driver: noop}}"
    text = f"deployment: shop\nvpn: {{backbone: {spec}}}"
    Declare(core).apply(text, ANNA, None)


def join(core: Core, token: str, host: str, chance: str = "") -> JoinAnswer:
    nonce = f"{host}{chance}".ljust(32, "x")
    return Membership(core).join(join_request(token, host, nonce=nonce))


def announce(core: Core, answer: JoinAnswer) -> list[str]:
    who = core.identities.authenticate(answer.id, answer.secret)
    offer = Announcement(service="vpn", instance="backbone", body={"driver": "noop"})
    Membership(core).announce(who, offer)
    row = core.store.view("shop").members("vpn", "backbone")[answer.host]
    return list(row.body["addresses"])


def test_two_cores_at_once_never_give_an_address_two_owners(
    core: Core, token: str, database_url: str, rivals: multiprocessing.pool.Pool
) -> None:
    declare(core, "10.66.0.0/27")  # 30 usable addresses for 36 hosts
    hosts = [[f"{side}{number}" for number in range(18)] for side in ("east", "west")]
    found = rivals.starmap(
        processes.join_many,
        [(database_url, core.conf.join.ca_directory, token, some) for some in hosts],
        chunksize=1,
    )
    told = {**found[0], **found[1]}
    assert len(told) == 36
    given = [tuple(got) for got in told.values() if not isinstance(got, str)]
    assert len(given) == len(set(given)) == 30
    assert set(given) == {(f"10.66.0.{last}",) for last in range(1, 31)}
    refused = [got for got in told.values() if isinstance(got, str)]
    assert len(refused) == 6
    assert all("no address is left in 10.66.0.0/27 (30 in use" in text for text in refused)
    uses_left = core.tokens.list("shop")[0].uses_left
    assert uses_left == 100 - 36


def test_a_host_that_comes_back_gets_its_address_back_and_nobody_else_does(
    core: Core, token: str
) -> None:
    declare(core, "10.66.0.0/24")
    first = announce(core, join(core, token, "web1"))
    Membership(core).remove("shop", "web1", ANNA, keep_tokens=True)
    other = announce(core, join(core, token, "web2"))
    again = announce(core, join(core, token, "web1", chance="again"))
    assert (first, other, again) == (["10.66.0.1"], ["10.66.0.2"], ["10.66.0.1"])


def test_without_quarantine_an_address_is_free_at_once(core: Core, token: str) -> None:
    declare(core, "10.66.0.0/24", quarantine=0)
    announce(core, join(core, token, "web1"))
    Membership(core).remove("shop", "web1", ANNA, keep_tokens=True)
    assert announce(core, join(core, token, "web2")) == ["10.66.0.1"]


def test_a_full_pool_is_an_error_of_the_host_that_got_none(core: Core, token: str) -> None:
    declare(core, "10.66.0.0/30")
    answers = [join(core, token, f"web{number}") for number in range(3)]
    assert announce(core, answers[0]) == ["10.66.0.1"]
    assert announce(core, answers[1]) == ["10.66.0.2"]
    for _ in range(2):
        with pytest.raises(NotAdmitted, match=r"backbone: no address is left in 10\.66\.0\.0/30"):
            announce(core, answers[2])
    assert announce(core, answers[0]) == ["10.66.0.1"]
    Membership(core).remove("shop", "web0", ANNA, keep_tokens=True)
    with pytest.raises(NotAdmitted, match="at most 1 rest after a removal"):
        announce(core, answers[2])


def test_every_host_keeps_its_address_however_often_it_announces(core: Core, token: str) -> None:
    declare(core, "[10.66.0.0/24, 'fd66::/64']")
    answers = [join(core, token, f"web{number}") for number in range(3)]
    first = [announce(core, answer) for answer in answers]
    assert first[1] == ["10.66.0.2", "fd66::2"]
    head = core.store.changes("shop").head
    for order in itertools.permutations(range(3)):
        assert [announce(core, answers[i]) for i in order] == [first[i] for i in order]
    assert core.store.changes("shop").head == head
