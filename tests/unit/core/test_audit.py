# SPDX-License-Identifier: Apache-2.0
"""What operators and hosts do is written down: by whom, from where; never a secret with it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from cnsmo.core.context import Core
from cnsmo.core.periodic import Periodic
from cnsmo.model.audit import AuditLine, AuditQuery
from cnsmo.model.errors import CnsmoError
from cnsmo.state.engine import transaction
from cnsmo.state.secrets import digest
from cnsmo.state.tables import AUDIT_CHAINS
from cnsmo.trust import keys
from tests.unit.conftest import Caller, Operator, Told, join, request_to_join
from tests.unit.core.test_periodic import all_is_due

MESH = "deployment: shop\nvpn: {backbone: {cidr: 10.66.0.0/16, driver: noop}}"
OFFER = {"service": "vpn", "instance": "backbone", "body": {"driver": "noop"}}
ANNA = ("operator", "anna", "desk")


@pytest.fixture
def operator(core: Core) -> Operator:
    made = Operator(core, "anna@desk")
    made.deployment_create(name="shop")
    return made


@pytest.fixture
def web1(operator: Operator) -> Caller:
    operator.apply(document=MESH, base_revision=None)
    return operator.join("web1", operator.token(groups=["web"]))


def lines(core: Core, **query: Any) -> list[AuditLine]:
    return core.trail.page("shop", AuditQuery(limit=1000, **query)).lines[::-1]


def news(core: Core, since: int) -> list[tuple[str, str, str]]:
    """What was done after that line, to which things."""
    return [(it.action, it.kind, it.name) for it in lines(core) if it.number > since]


def last(core: Core) -> int:
    return lines(core)[-1].number


def by(core: Core) -> set[tuple[str, str, str]]:
    """Who did what the newest write tells of."""
    newest = lines(core)[-1]
    return {(it.role, it.who, it.source) for it in lines(core, action=newest.action)}


def body(text: str) -> Any:
    return json.loads(text) if text else None


# operators

CALLS: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "apply": ({"document": MESH + "\n", "base_revision": None}, [("vpn", "backbone")]),
    "token_create": ({"deployment": "shop", "request": {}}, [("token", "t-…")]),
    "host_readmit": (
        {"deployment": "shop", "host": "web1", "seconds": 60},
        [("identity", "h-…")],
    ),
    "host_quarantine": (
        {"deployment": "shop", "host": "web1", "release": False},
        [("host", "web1")],
    ),
    "renew": (
        {"deployment": "shop", "service": "vpn", "instance": "backbone"},
        [("vpn.renewal", "backbone")],
    ),
    "service_delete": (
        {"deployment": "shop", "service": "vpn", "instance": "backbone"},
        [("vpn", "backbone"), ("vpn.member", "backbone/web1")],
    ),
    "host_remove": (
        {"deployment": "shop", "host": "web1"},
        [
            ("identity", "h-…"),
            ("token", "t-…"),
            ("host", "web1"),
            ("vpn.member", "backbone/web1"),
        ],
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_each_call_of_an_operator_that_writes_is_told(
    core: Core, operator: Operator, web1: Caller, call: str
) -> None:
    web1.announce(announcement=OFFER)
    if call == "apply":
        operator.apply(document=MESH.replace("noop", "noop, keepalive: 9"), base_revision=None)
    before = last(core)
    arguments, things = CALLS[call]
    getattr(operator, call)(**arguments)
    told = news(core, before)
    assert [(kind, f"{name[:2]}…" if "-" in name else name) for _, kind, name in told] == things
    assert {action for action, _kind, _name in told} == {call.replace("_", " ")}
    assert by(core) == {ANNA}


def test_a_call_of_an_operator_that_only_looks_is_not_told(
    core: Core, operator: Operator, web1: Caller
) -> None:
    before = lines(core)
    operator.plan(document=MESH)
    operator.host_list(deployment="shop")
    operator.audit_list(deployment="shop", query={})
    operator.look(deployment="shop")
    assert lines(core) == before


def test_a_revoked_token_is_told_once(core: Core, operator: Operator) -> None:
    ident = operator.token().partition(".")[0]
    for _ in range(2):
        operator.token_revoke(deployment="shop", ident=ident)
    (line,) = lines(core, action="token revoke")
    assert (body(line.before)["revoked"], body(line.after)["revoked"]) == (False, True)


def test_the_name_of_a_machine_is_no_trick_on_a_terminal(core: Core) -> None:
    Operator(core, "eve\x1b[2J@\nbox").deployment_create(name="shop")
    assert (lines(core)[-1].who, lines(core)[-1].source) == ("eve?[2J", "?box")


def test_an_operator_without_a_machine_is_told_as_its_name(core: Core) -> None:
    Operator(core, "cron").deployment_create(name="shop")
    assert (lines(core)[-1].who, lines(core)[-1].source) == ("cron", "")


# hosts


def test_a_join_tells_the_token_the_key_and_where_it_came_from(
    core: Core, operator: Operator
) -> None:
    token, before = operator.token(groups=["web"], uses=3), last(core)
    request = request_to_join("web1", token)
    answer = join(core, request, "10.1.2.3")
    assert news(core, before) == [
        ("join", "token", token.partition(".")[0]),
        ("join", "identity", answer["id"]),
        ("join", "identity", answer["id"]),
        ("join", "host", "web1"),
    ]
    assert by(core) == {("host", "web1", "10.1.2.3")}
    used, key, certified, host = lines(core, action="join")
    assert (body(used.before)["uses_left"], body(used.after)["uses_left"]) == (3, 2)
    known = keys.key_digest(keys.requested_key(request["csr"], request["nonce"]))
    assert body(key.after) == {"key": known}
    assert body(certified.before) == {"key": known, "certified_until": None}
    assert body(certified.after)["certified_until"] > str(certified.at)
    assert body(host.after)["groups"] == ["web"]
    assert {it.host for it in lines(core, action="join")} == {"web1"}


def test_what_a_host_announces_is_told_when_it_changed(core: Core, web1: Caller) -> None:
    before = last(core)
    for _ in range(2):
        web1.facts(facts={"private": ["10.1.0.5/24"]})
        web1.announce(announcement=OFFER)
    web1.withdraw(service="vpn", instance="backbone")
    assert news(core, before) == [
        ("facts", "host", "web1"),
        ("announce", "vpn.member", "backbone/web1"),
        ("withdraw", "vpn.member", "backbone/web1"),
    ]
    assert by(core) == {("host", "web1", web1.ident)}


def test_reports_and_heartbeats_are_not_told(core: Core, web1: Caller) -> None:
    before = lines(core)
    web1.report(report={"service": "vpn", "state": "ready", "applied_revision": 1})
    web1.report(report={"service": "vpn", "state": "error", "reason": "x", "applied_revision": 1})
    web1.heartbeat(beat={"applied": {"vpn": 1}})
    assert lines(core) == before


def test_a_renewed_certificate_is_told(core: Core, operator: Operator) -> None:
    key = keys.new_key()
    nonce = "n" * 40
    request = request_to_join("web1", operator.token())
    request |= {"nonce": nonce, "csr": keys.request(key, nonce)}
    answer = join(core, request)
    web1 = Caller(core, {"agent_id": answer["id"], "agent_secret": answer["secret"]}, "web1")
    web1.certify(csr=keys.request(key, web1.ident))
    (line,) = lines(core, action="certify")
    assert (line.kind, line.host, line.source) == ("identity", "web1", web1.ident)


def test_a_host_that_leaves_is_told_as_its_own_doing(core: Core, web1: Caller) -> None:
    web1.leave()
    assert {(it.role, it.who) for it in lines(core, action="leave")} == {("host", "web1")}


def test_a_refused_call_leaves_no_line(core: Core, operator: Operator, web1: Caller) -> None:
    before = lines(core)
    token = operator.token(host="web2")
    with pytest.raises(CnsmoError):
        operator.join("web1", token)
    with pytest.raises(CnsmoError):
        operator.host_remove(deployment="shop", host="web9")
    assert [it.action for it in lines(core)[len(before) :]] == ["token create"]


# what it costs


@pytest.fixture
def statements(core: Core) -> Iterator[list[str]]:
    """What is said to the tables of the audit alone, from now on."""
    said: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if re.match(r"(INSERT INTO|UPDATE|DELETE FROM|SELECT .* FROM) audit", statement, re.S):
            said.append(statement.split(" (")[0].split(" SET")[0])

    sa.event.listen(core.store.engine, "before_cursor_execute", note)
    yield said
    sa.event.remove(core.store.engine, "before_cursor_execute", note)


def test_a_write_costs_two_statements_whatever_it_changes(
    core: Core, operator: Operator, web1: Caller, statements: list[str]
) -> None:
    web1.announce(announcement=OFFER)
    statements.clear()
    two = "vpn: {a: {cidr: 10.1.0.0/16}, b: {cidr: 10.2.0.0/16, listen_port: 5}}"
    for services in ("vpn: {}", two):
        operator.apply(document=f"deployment: shop\n{services}", base_revision=None)
        assert statements == ["INSERT INTO audit", "UPDATE audit_chains"]
        statements.clear()


def test_what_hosts_report_costs_nothing(web1: Caller, statements: list[str]) -> None:
    web1.report(report={"service": "vpn", "state": "ready", "applied_revision": 1})
    web1.heartbeat(beat={"applied": {"vpn": 1}})
    web1.sync(since=0)
    assert statements == []


# events, secrets


def test_each_write_is_an_event_that_tells_the_new_end(
    core: Core, operator: Operator, told: Told
) -> None:
    told.audits.clear()
    operator.apply(document=MESH, base_revision=None)
    (event,) = told.audits
    end = lines(core)[-1]
    assert event.type == "audit.apply"
    assert (event.deployment, event.revision) == ("shop", 1)
    assert event.message == f"anna from desk: vpn backbone; line {end.number}, head {end.hash}"


def test_deployments_that_come_and_go_are_events(
    core: Core, operator: Operator, told: Told
) -> None:
    operator.deployment_delete(name="shop")
    assert [event.type for event in told.audits] == [
        "audit.deployment-create",
        "audit.deployment-delete",
    ]


def test_no_secret_is_in_any_line_or_event(core: Core, operator: Operator, told: Told) -> None:
    token = operator.token()
    request = request_to_join("web1", token)
    answer = join(core, request)
    web1 = Caller(core, {"agent_id": answer["id"], "agent_secret": answer["secret"]}, "web1")
    web1.facts(facts={"private": ["10.1.0.5/24"]})
    operator.host_remove(deployment="shop", host="web1")
    secrets = [token, token.partition(".")[2], answer["secret"], request["nonce"]]
    said = "".join(it.model_dump_json() for it in (*lines(core), *told.audits, *told.events))
    assert len(lines(core)) > 8
    for secret in secrets:
        assert secret not in said
        assert digest(secret) not in said


def test_that_somebody_changed_the_audit_is_told_by_the_next_look(
    core: Core, operator: Operator, web1: Caller, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    with transaction(core.store.engine) as connection:
        connection.execute(sa.update(AUDIT_CHAINS).values(lines=3))
    told.audits.clear()
    for _again in range(2):
        Periodic(core).tick()
        all_is_due(core)
    (event,) = told.audits
    assert (event.type, event.deployment) == ("audit.broken", "shop")
    (line,) = lines(core, action="broken")
    assert line.hash in event.message
    said = [it.getMessage() for it in caplog.records if it.levelname == "ERROR"]
    assert said == [
        "deployment=shop: the audit was changed by no core: "
        "that it ends with line 3 is not what a core sealed"
    ]
