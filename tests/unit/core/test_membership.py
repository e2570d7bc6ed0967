# SPDX-License-Identifier: Apache-2.0
"""Hosts come, tell about themselves, report, and go; nobody does so in another's name."""

import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from cnsmo.core.context import Core
from cnsmo.core.membership import Membership
from cnsmo.model.errors import (
    Conflict,
    Denied,
    InvalidRequest,
    NotAdmitted,
    NotFound,
    Removed,
)
from cnsmo.model.host import HostFacts
from cnsmo.model.messages import AgentReport, Announcement, Heartbeat
from cnsmo.model.resource import AGENT, HOST
from cnsmo.state.engine import transaction
from cnsmo.state.tables import JOIN_TOKENS
from cnsmo.state.tokens import BAD_TOKEN
from tests.unit.conftest import Caller, Operator, Told, join, request_to_join

MESH = "deployment: shop\nvpn: {backbone: {cidr: 10.66.0.0/16, driver: noop, members: [all]}}"
OFFER = {"service": "vpn", "instance": "backbone", "body": {"driver": "noop"}}
REPORT = {"service": "vpn", "state": "ready", "applied_revision": 1}


@pytest.fixture
def web1(operator: Operator) -> Caller:
    return operator.join("web1", operator.token(groups=["web"]))


def state_of(core: Core, host: str) -> tuple[str, str] | None:
    row = core.store.view("shop").get(AGENT, f"{host}/vpn")
    return (row.body["state"], row.body["reason"]) if row else None


# joining


def test_a_join_makes_a_host_with_the_groups_of_its_token(
    core: Core, operator: Operator, told: Told
) -> None:
    token = operator.token(groups=["web", "edge"])
    told.types()
    operator.join("web1", token, site="east", private=["10.1.0.5/24"])
    host = core.store.view("shop").hosts["web1"]
    assert host.groups == {"web", "edge"}
    assert (host.site, host.private) == ("east", ("10.1.0.5/24",))
    assert state_of(core, "web1") == ("joining", "")
    assert told.types() == ["agent.joining", "host.announced"]
    assert told.hints[-1] == ("shop", core.store.deployment("shop").revision)


def spoil_used_up(operator: Operator) -> str:
    token = operator.token(uses=1)
    operator.join("first", token)
    return token


def spoil_revoked(operator: Operator) -> str:
    token = operator.token()
    operator.token_revoke(deployment="shop", ident=token.partition(".")[0])
    return token


def spoil_expired(operator: Operator) -> str:
    token = operator.token()
    past = datetime.datetime(2020, 1, 1)  # noqa: DTZ001  as the database keeps it
    with transaction(operator.core.store.engine) as connection:
        connection.execute(sa.update(JOIN_TOKENS).values(expires_at=past))
    return token


def spoil_deleted_deployment(operator: Operator) -> str:
    operator.deployment_create(name="lab")
    token = operator.token("lab")
    operator.deployment_delete(name="lab")
    return token


def spoil_secret(operator: Operator) -> str:
    return operator.token().partition(".")[0] + ".guess"


def spoil_all(_operator: Operator) -> str:
    return "nonsense"


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_used_up,
        spoil_revoked,
        spoil_expired,
        spoil_deleted_deployment,
        spoil_secret,
        spoil_all,
    ],
)
def test_every_bad_token_gets_the_same_answer(core: Core, operator: Operator, spoil: Any) -> None:
    token = spoil(operator)
    before = core.store.changes("shop")
    with pytest.raises(Denied) as caught:
        operator.join("web1", token)
    assert str(caught.value) == BAD_TOKEN
    assert core.store.changes("shop") == before


def test_a_token_of_another_deployment_leads_only_there(core: Core, operator: Operator) -> None:
    operator.deployment_create(name="lab")
    assert operator.join("web1", operator.token("lab")).name == "web1"
    assert list(core.store.view("lab").hosts) == ["web1"]
    assert not core.store.view("shop").hosts


def test_a_token_serves_as_often_as_it_says(operator: Operator) -> None:
    token = operator.token(uses=2)
    operator.join("web1", token)
    operator.join("web2", token)
    with pytest.raises(Denied):
        operator.join("web3", token)
    (status,) = operator.token_list(deployment="shop")
    assert (status["uses_left"], status["token"]) == (0, None)


def test_a_repeated_join_is_the_same_join(core: Core, operator: Operator) -> None:
    token = operator.token(uses=1)
    request = request_to_join("web1", token)
    first, again = join(core, request), join(core, request)
    for answer in (first, again):
        assert "CERTIFICATE" in answer.pop("certified")["certificate"]
    assert first == again, "tries that overtake each other agree on the secret"
    operator.token_revoke(deployment="shop", ident=token.partition(".")[0])
    assert join(core, request)["secret"] == first["secret"]
    Caller(core, {"agent_id": first["id"], "agent_secret": first["secret"]}).sync(since=0)


def test_of_two_hosts_with_one_name_the_second_is_told_what_to_do(
    core: Core, operator: Operator, web1: Caller
) -> None:
    token = operator.token(uses=1)
    with pytest.raises(Conflict) as caught:
        operator.join("web1", token)
    assert str(caught.value) == (
        "a host named 'web1' is already in deployment 'shop', with another key: choose another "
        "name ([host] name); or, if this is the same VM made anew, let it take the old one's place "
        "('cnsmo-manage host readmit web1') or remove the old one first "
        "('cnsmo-manage host remove web1')"
    )
    operator.join("web2", token)  # the refused try used nothing up
    web1.sync(since=0)


def test_a_join_that_comes_late_undoes_nothing_that_was_reported_since(
    core: Core, operator: Operator
) -> None:
    request = request_to_join("web1", operator.token())
    answer = join(core, request)
    web1 = Caller(core, {"agent_id": answer["id"], "agent_secret": answer["secret"]})
    web1.report(report=REPORT)
    assert join(core, request)["id"] == answer["id"]
    assert state_of(core, "web1") == ("ready", "")
    assert core.liveness.signs("shop")["web1", "vpn"].applied_revision == 1


def test_a_name_is_free_again_when_its_host_was_removed(
    core: Core, operator: Operator, web1: Caller
) -> None:
    operator.host_remove(deployment="shop", host="web1")
    again = operator.join("web1")
    assert again.ident != web1.ident
    assert state_of(core, "web1") == ("joining", "")


def test_a_service_that_the_core_does_not_have_is_passed_over(
    core: Core, operator: Operator
) -> None:
    request = {**request_to_join("web1", operator.token()), "services": ["dns", "vpn"]}
    join(core, request)
    assert [row.name for row in core.store.view("shop").rows(AGENT)] == ["web1/vpn"]


# who calls


@pytest.mark.parametrize("name", ["host", "host_name", "agent_id", "who"])
def test_nobody_reports_in_anothers_name(
    core: Core, operator: Operator, web1: Caller, name: str
) -> None:
    db1 = operator.join("db1")
    for victim in ("web1", web1.ident):
        with pytest.raises(InvalidRequest):
            db1.report(report={**REPORT, name: victim})
        with pytest.raises(InvalidRequest):
            db1.report(report=REPORT, **{name: victim})
        with pytest.raises(InvalidRequest):
            db1.heartbeat(beat={"applied": {"vpn": 1}, name: victim})
    assert state_of(core, "web1") == ("joining", "")


def test_the_secret_is_kept_as_a_hash_only(core: Core, web1: Caller, sqlite_url: str) -> None:
    with transaction(core.store.engine) as connection:
        dump = "".join(
            str(row)
            for table in ("identities", "join_tokens", "resources", "agents")
            for row in connection.execute(sa.text(f"SELECT * FROM {table}"))
        )
    assert web1.context["agent_secret"] not in dump
    assert web1.ident in dump


# announcing


def test_an_announcement_becomes_a_row_that_only_its_host_owns(
    core: Core, operator: Operator, web1: Caller
) -> None:
    operator.apply(document=MESH, base_revision=None)
    revision = web1.announce(announcement=OFFER)
    row = core.store.view("shop").members("vpn", "backbone")["web1"]
    assert (row.owner, row.revision) == (web1.ident, revision)
    assert row.body == {"driver": "noop", "addresses": ["10.66.0.1"]}


def test_nobody_announces_to_what_is_not_declared(web1: Caller) -> None:
    with pytest.raises(NotFound, match=r"vpn backbone is not declared \(any more\)"):
        web1.announce(announcement=OFFER)


def test_nobody_announces_to_what_it_is_no_member_of(operator: Operator, web1: Caller) -> None:
    operator.token(groups=["db"])
    operator.apply(document=MESH.replace("[all]", "[db]"), base_revision=None)
    with pytest.raises(NotAdmitted, match="web1 is not a member of vpn backbone"):
        web1.announce(announcement=OFFER)


@pytest.mark.parametrize(
    "wrong",
    [
        {"service": "dns"},
        {"instance": "../x"},
        {"body": {"driver": "noop", "addresses": ["10.66.0.9"]}},
        {"body": {"driver": "noop", "public_key": "x" * 100_000}},
        {"body": {}},
        {"host": "db1"},
    ],
)
def test_a_wrong_announcement_is_refused(
    core: Core, operator: Operator, web1: Caller, wrong: dict[str, Any]
) -> None:
    operator.apply(document=MESH, base_revision=None)
    with pytest.raises(InvalidRequest):
        web1.announce(announcement={**OFFER, **wrong})
    assert not core.store.view("shop").members("vpn", "backbone")


def test_a_withdrawal_takes_back_ones_own_row_only(
    core: Core, operator: Operator, web1: Caller
) -> None:
    operator.apply(document=MESH, base_revision=None)
    db1 = operator.join("db1")
    web1.announce(announcement=OFFER)
    db1.withdraw(service="vpn", instance="backbone")
    assert list(core.store.view("shop").members("vpn", "backbone")) == ["web1"]
    web1.withdraw(service="vpn", instance="backbone")
    assert not core.store.view("shop").members("vpn", "backbone")


def test_facts_change_where_a_host_is_but_not_its_groups(core: Core, web1: Caller) -> None:
    web1.facts(facts={"site": "west", "public": ["203.0.113.9"]})
    host = core.store.view("shop").hosts["web1"]
    assert (host.site, host.public, host.groups) == ("west", ("203.0.113.9",), {"web"})
    head = core.store.deployment("shop").revision
    web1.facts(facts={"site": "west", "public": ["203.0.113.9"]})
    assert core.store.deployment("shop").revision == head


# reporting


def test_a_beat_that_comes_late_is_not_the_next_hosts_of_that_name(
    core: Core, operator: Operator, web1: Caller
) -> None:
    who = core.identities.authenticate(web1.ident, web1.context["agent_secret"])
    operator.host_remove(deployment="shop", host="web1")
    operator.join("web1")
    with pytest.raises(Removed):
        Membership(core).heartbeat(who, Heartbeat(applied={"vpn": 7}))
    assert core.liveness.signs("shop")["web1", "vpn"].applied_revision == 0


def test_a_transition_is_a_row_and_an_event_with_its_reason(
    core: Core, web1: Caller, told: Told
) -> None:
    told.events.clear()
    web1.report(report={**REPORT, "state": "degraded", "reason": "one peer is silent"})
    assert state_of(core, "web1") == ("degraded", "one peer is silent")
    (event,) = told.events
    assert (event.type, event.host, event.service, event.message) == (
        "agent.degraded",
        "web1",
        "vpn",
        "one peer is silent",
    )
    assert event.revision == core.store.deployment("shop").revision


def test_a_report_of_the_same_state_makes_no_revision(core: Core, web1: Caller) -> None:
    web1.report(report=REPORT)
    head = core.store.deployment("shop").revision
    web1.report(report={**REPORT, "applied_revision": 2, "observation": {"a": {"up": 1}}})
    assert core.store.deployment("shop").revision == head
    sign = core.liveness.signs("shop")["web1", "vpn"]
    assert (sign.applied_revision, sign.observation) == (2, {"a": {"up": 1}})


def test_a_large_observation_does_not_silence_its_agent(
    core: Core, operator: Operator, web1: Caller
) -> None:
    rules = [{"rule": f"perimeter/inbound/{n}", "realm": "", "packets": n} for n in range(20_000)]
    observation = {"host": {"rules": rules}, "other": {"rules": []}}
    web1.report(report={**REPORT, "state": "degraded", "observation": observation})
    assert state_of(core, "web1") == ("degraded", "")
    (host,) = operator.host_list(deployment="shop")
    (agent,) = host["agents"]
    assert agent["applied_revision"] == 1
    assert agent["observation"]["other"] == {"rules": []}
    assert "where all units together may have 1,000,000" in agent["observation"]["host"]["left_out"]


@pytest.mark.parametrize("state", ["joining", "down", "left"])
def test_no_agent_says_what_only_the_core_can_know(web1: Caller, state: str) -> None:
    with pytest.raises(InvalidRequest, match=f"does not report itself {state}"):
        web1.report(report={**REPORT, "state": state})


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "happy"},
        {"service": "dns"},
        {"applied_revision": -1},
        {"applied_revision": 2**63},
        {"reason": "x" * 501},
    ],
)
def test_a_wrong_report_is_refused(core: Core, web1: Caller, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        web1.report(report={**REPORT, **wrong})
    assert state_of(core, "web1") == ("joining", "")


# heartbeats


def test_a_heartbeat_tells_the_head_and_what_everybody_applied(
    core: Core, operator: Operator, web1: Caller
) -> None:
    db1 = operator.join("db1")
    for host in (web1, db1):
        host.report(report=REPORT)
    head = core.store.deployment("shop").revision
    web1.heartbeat(beat={"applied": {"vpn": head}})
    answer = db1.heartbeat(beat={"applied": {"vpn": head - 1}})
    assert (answer["head"], answer["confirmed"]) == (head, {"vpn": head - 1})
    assert answer["forgotten"] == []
    assert db1.heartbeat(beat={"applied": {"vpn": head}})["confirmed"] == {"vpn": head}


def test_an_agent_in_error_holds_nobody_up(core: Core, operator: Operator, web1: Caller) -> None:
    db1 = operator.join("db1")
    web1.report(report=REPORT)
    db1.report(report={**REPORT, "state": "error"})
    head = core.store.deployment("shop").revision
    assert web1.heartbeat(beat={"applied": {"vpn": head}})["confirmed"] == {"vpn": head}


def test_nobody_has_applied_what_is_yet_to_come(core: Core, web1: Caller) -> None:
    web1.report(report={**REPORT, "applied_revision": 99})
    head = core.store.deployment("shop").revision
    assert web1.heartbeat(beat={"applied": {"vpn": 99}})["confirmed"] == {"vpn": head}


def test_a_silent_agent_holds_nobody_up(core: Core, operator: Operator, web1: Caller) -> None:
    for host in (web1, operator.join("db1")):
        host.report(report=REPORT)
    core.conf.set_override("down_after", 30, "core")
    with transaction(core.store.engine) as connection:
        connection.execute(
            sa.text("UPDATE agents SET heartbeat_at = '2020-01-01 00:00:00' WHERE host = 'db1'")
        )
    head = core.store.deployment("shop").revision
    assert web1.heartbeat(beat={"applied": {"vpn": head}})["confirmed"] == {"vpn": head}


def test_an_agent_that_the_core_does_not_know_is_asked_to_report(
    core: Core, operator: Operator
) -> None:
    request = {**request_to_join("web1", operator.token()), "services": []}
    answer = join(core, request)
    web1 = Caller(core, {"agent_id": answer["id"], "agent_secret": answer["secret"]})
    assert web1.heartbeat(beat={"applied": {"vpn": 0}})["forgotten"] == ["vpn"]
    web1.report(report=REPORT)
    assert web1.heartbeat(beat={"applied": {"vpn": 0}})["forgotten"] == []


def test_heartbeats_and_changes_say_when_an_operator_looks(
    operator: Operator, web1: Caller
) -> None:
    beat = {"applied": {"vpn": 0}}
    assert web1.heartbeat(beat=beat)["observe_at"] is None
    assert web1.sync(since=0)["observe_at"] is None
    assert web1.sync_part(since=0, mark=None)["observe_at"] is None
    operator.look(deployment="shop")
    looked = web1.heartbeat(beat=beat)["observe_at"]
    assert looked is not None
    assert web1.sync(since=0)["observe_at"] == looked
    assert web1.sync_part(since=0, mark=None)["observe_at"] == looked


def test_a_wrong_heartbeat_is_refused(web1: Caller) -> None:
    for wrong in ({"vpn": -1}, {"vpn": 2**63}, {"no name": 1}, {"vpn": "x"}):
        with pytest.raises(InvalidRequest):
            web1.heartbeat(beat={"applied": wrong})


@pytest.mark.parametrize("since", [-1, 2**63, "x", None, 1.5, True])
def test_a_wrong_revision_is_refused(web1: Caller, since: Any) -> None:
    with pytest.raises(InvalidRequest, match="since is a revision"):
        web1.sync(since=since)


# leaving


def test_who_leaves_takes_its_rows_along_and_gets_a_last_hint(
    core: Core, operator: Operator, web1: Caller, told: Told
) -> None:
    operator.apply(document=MESH, base_revision=None)
    web1.announce(announcement=OFFER)
    told.events.clear()
    web1.leave()
    view = core.store.view("shop")
    assert not view.hosts
    assert not view.members("vpn", "backbone")
    assert state_of(core, "web1") is None
    assert core.liveness.signs("shop") == {}
    assert told.types() == ["agent.left", "host.removed", "vpn.member.removed"]
    assert told.parted == [(web1.ident, core.store.deployment("shop").revision)]


def test_removing_who_is_not_there_says_so(operator: Operator) -> None:
    with pytest.raises(NotFound, match="has no host 'web9'; 'cnsmo-manage host list' shows all"):
        operator.host_remove(deployment="shop", host="web9")


def test_a_deployment_with_hosts_is_not_deleted(operator: Operator, web1: Caller) -> None:
    with pytest.raises(Conflict, match=r"still has 1 hosts \(web1\)"):
        operator.deployment_delete(name="shop")
    web1.leave()
    operator.deployment_delete(name="shop")
    with pytest.raises(Denied):
        web1.sync(since=0)


def test_hosts_are_listed_with_their_agents(operator: Operator, web1: Caller) -> None:
    web1.report(report={**REPORT, "observation": {"peers": {}}})
    (host,) = operator.host_list(deployment="shop")
    assert (host["name"], host["groups"]) == ("web1", ["web"])
    (agent,) = host["agents"]
    assert (agent["state"], agent["applied_revision"]) == ("ready", 1)
    assert 0 <= agent["heartbeat_age"] < 10
    assert agent["observation"] == {"peers": {}}


def test_an_announced_host_row_is_the_cores(core: Core, web1: Caller) -> None:
    row = core.store.view("shop").get(HOST, "web1")
    assert row is not None
    assert row.owner == "core"


OVERTAKEN: dict[str, Any] = {
    "facts": HostFacts(site="elsewhere"),
    "announce": Announcement.model_validate(OFFER),
    "report": AgentReport.model_validate(REPORT),
}


@pytest.mark.parametrize("call", [*OVERTAKEN, "leave"])
def test_a_call_that_waited_while_another_took_the_name_touches_nothing(
    core: Core, operator: Operator, web1: Caller, call: str
) -> None:
    """Its caller proved who it was before; what counts is who it is when it is carried out."""
    operator.apply(document=MESH, base_revision=None)
    old = core.identities.authenticate(web1.ident, web1.context["agent_secret"])
    operator.host_remove(deployment="shop", host="web1")
    operator.join("web1")
    before = core.store.view("shop").revision
    arguments = [OVERTAKEN[call]] if call in OVERTAKEN else []
    with pytest.raises(Removed, match="'web1' was removed"):
        getattr(Membership(core), call)(old, *arguments)
    assert core.store.view("shop").revision == before
