# SPDX-License-Identifier: Apache-2.0
"""Declare: plan, apply, and what happens when two do so."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cnsmo.core.context import Core
from cnsmo.core.declare import Declare
from cnsmo.model.audit import Act
from cnsmo.model.errors import Conflict, InvalidDocument, InvalidRequest, NotFound
from cnsmo.model.resource import OPERATOR, renewal_kind
from tests.unit.conftest import Operator, Told

ANNA, BERT, CARL, DORA = (
    Act.of_operator(name, "apply") for name in ("anna", "bert", "carl", "dora")
)

HEAD = "deployment: shop\n"
ONE = HEAD + "vpn: {backbone: {cidr: 10.66.0.0/16, driver: noop}}\n"
TWO = HEAD + (
    "vpn:\n"
    "  backbone: {cidr: 10.66.0.0/16, driver: noop, mtu: 1400}\n"
    "  inner: {cidr: fd77::/64, driver: noop, listen_port: 51821, members: [web]}\n"
)
RULE = "{from: all, protocol: tcp, ports: [22], via: backbone}"
GUARDED = TWO + f"firewall: {{perimeter: {{driver: noop, inbound: [{RULE}]}}}}\n"
OFFER = {"service": "vpn", "instance": "backbone", "body": {"driver": "noop"}}


@pytest.fixture
def declare(core: Core, operator: Operator) -> Declare:
    operator.join("web1", operator.token(groups=["web"]))
    operator.join("db1")
    return Declare(core)


def head(core: Core) -> int:
    return core.store.deployment("shop").revision


def test_a_plan_shows_rows_and_hosts_and_writes_nothing(declare: Declare, core: Core) -> None:
    before = head(core)
    plan = declare.plan(TWO)
    assert [(change.action, change.kind, change.name) for change in plan.changes] == [
        ("add", "vpn", "backbone"),
        ("add", "vpn", "inner"),
    ]
    assert plan.changes[0].before is None
    assert plan.hosts == ["db1", "web1"]
    assert (plan.base_revision, plan.revision) == (before, None)
    assert head(core) == before


def test_an_apply_is_one_revision_with_all_its_rows(
    declare: Declare, core: Core, told: Told
) -> None:
    before = head(core)
    told.events.clear()
    done = declare.apply(TWO, ANNA, before)
    assert done.revision == head(core) == before + 1
    assert {row.revision for row in core.store.changes("shop", before).rows} == {before + 1}
    assert [event.message for event in told.events] == ["backbone", "inner"]
    assert told.types() == ["vpn.declared", "vpn.declared"]


def test_what_the_document_leaves_out_is_removed_with_what_hosts_said_to_it(
    declare: Declare, core: Core, operator: Operator
) -> None:
    declare.apply(TWO, ANNA, None)
    operator.join("web2").announce(announcement=OFFER)
    declare.renew("shop", "vpn", "backbone", ANNA)
    plan = declare.apply(HEAD, ANNA, None)
    assert [(change.action, change.name) for change in plan.changes] == [
        ("remove", "backbone"),
        ("remove", "inner"),
    ]
    view = core.store.view("shop")
    assert not list(view.rows("vpn"))
    assert not view.members("vpn", "backbone")
    assert view.get(renewal_kind("vpn"), "backbone") is None
    assert len(view.hosts) == 3


def test_a_change_touches_only_the_hosts_that_it_concerns(declare: Declare) -> None:
    declare.apply(TWO, ANNA, None)
    plan = declare.plan(TWO.replace("51821", "51999"))
    assert [(change.action, change.name) for change in plan.changes] == [("change", "inner")]
    (change,) = plan.changes
    assert change.before is not None
    assert change.after is not None
    assert (change.before["listen_port"], change.after["listen_port"]) == (51821, 51999)
    assert plan.hosts == ["web1"]


def test_applying_the_same_again_changes_nothing(declare: Declare, core: Core, told: Told) -> None:
    declare.apply(TWO, ANNA, None)
    before = head(core)
    told.events.clear()
    done = declare.apply(TWO.replace("mtu: 1400", "mtu: 1400, keepalive: 25"), BERT, None)
    assert (done.changes, done.hosts, done.revision) == ([], [], before)
    assert head(core) == before
    assert not told.events


def test_an_overtaken_plan_is_refused_and_says_by_whom(declare: Declare, core: Core) -> None:
    base = declare.plan(TWO).base_revision
    declare.apply(ONE, BERT, base)
    declare.apply(HEAD, CARL, None)
    declare.apply(ONE, DORA, None)
    before = core.store.changes("shop")
    with pytest.raises(Conflict) as caught:
        declare.apply(TWO, ANNA, base)
    assert str(caught.value) == (
        f"the deployment changed after revision {base}, on which you planned: dora changed vpn "
        f"backbone in revision {base + 3}. Plan again."
    )
    assert core.store.changes("shop") == before


def test_a_removal_overtakes_as_well(declare: Declare) -> None:
    declare.apply(ONE, BERT, None)
    base = declare.plan(TWO).base_revision
    declare.delete("shop", "vpn", "backbone", CARL)
    with pytest.raises(Conflict, match="carl removed vpn backbone in revision"):
        declare.apply(TWO, ANNA, base)


def test_what_hosts_write_overtakes_no_plan(declare: Declare, operator: Operator) -> None:
    declare.apply(ONE, ANNA, None)
    base = declare.plan(TWO).base_revision
    web2 = operator.join("web2")
    web2.announce(announcement=OFFER)
    web2.report(report={"service": "vpn", "state": "ready", "applied_revision": base})
    assert declare.apply(TWO, ANNA, base).revision == base + 4


def test_a_wrong_document_beats_an_overtaken_plan(declare: Declare) -> None:
    declare.apply(ONE, BERT, None)
    with pytest.raises(InvalidDocument):
        declare.apply(HEAD + "vpn: {a: {}}", ANNA, 0)


def test_an_unknown_deployment_is_named(declare: Declare) -> None:
    for attempt in (declare.plan, lambda text: declare.apply(text, ANNA, None)):
        with pytest.raises(NotFound, match="there is no deployment 'shoe'"):
            attempt("deployment: shoe\n")


def test_an_export_leads_back_to_the_same_state(declare: Declare) -> None:
    declare.apply(TWO, ANNA, None)
    text = declare.export("shop")
    wanted = yaml.safe_load(TWO)
    for spec in wanted["vpn"].values():
        spec["cidr"] = [spec["cidr"]]
    assert yaml.safe_load(text) == wanted
    assert declare.plan(text).changes == []
    declare.apply(HEAD, ANNA, None)
    declare.apply(text, ANNA, None)
    assert declare.export("shop") == text


def test_an_export_of_nothing_is_a_document(declare: Declare) -> None:
    assert declare.export("shop") == HEAD


specs = st.fixed_dictionaries(
    {"cidr": st.sampled_from(["10.1.0.0/16", "fd01::/64"]), "driver": st.just("noop")},
    optional={
        "mtu": st.integers(1280, 9000),
        "members": st.sampled_from([["web"], ["all"]]),
        "routes": st.just([{"subnet": "10.9.0.0/16", "via": "web1"}]),
        "keepalive": st.integers(1, 3600),
    },
)


@settings(max_examples=30)
@given(spec=specs, name=st.sampled_from(["on", "no", "null", "7", "true"]))
def test_whatever_can_be_declared_survives_its_export(
    declare: Declare, core: Core, spec: dict[str, object], name: str
) -> None:
    declare.apply(yaml.safe_dump({"deployment": "shop", "vpn": {name: spec}}), ANNA, None)
    assert declare.plan(declare.export("shop")).changes == []


def test_a_single_instance_can_be_deleted(declare: Declare, core: Core) -> None:
    declare.apply(TWO, ANNA, None)
    assert declare.delete("shop", "vpn", "inner", ANNA) == head(core)
    assert [row.name for row in core.store.view("shop").rows("vpn")] == ["backbone"]
    with pytest.raises(NotFound, match="deployment 'shop' declares no vpn 'inner'"):
        declare.delete("shop", "vpn", "inner", ANNA)
    with pytest.raises(
        InvalidRequest,
        match="no service 'dns' is installed; there are: firewall, loadbalancer, vpn",
    ):
        declare.delete("shop", "dns", "inner", ANNA)


def test_nothing_is_deleted_that_others_need(declare: Declare, core: Core) -> None:
    declare.apply(GUARDED, ANNA, None)
    before = head(core)
    for attempt in (
        lambda: declare.delete("shop", "vpn", "backbone", ANNA),
        lambda: declare.plan_delete("shop", "vpn", "backbone"),
    ):
        with pytest.raises(Conflict) as caught:
            attempt()
        assert str(caught.value) == (
            "vpn backbone of 'shop' is needed by others:\n"
            "firewall.perimeter.inbound.0.via: no VPN 'backbone' is declared (known: inner)\n"
            "Delete or change these first; or take all of it out of the document in force "
            "('cnsmo-manage deployment export shop') and apply that."
        )
    assert head(core) == before
    declare.delete("shop", "firewall", "perimeter", ANNA)
    declare.delete("shop", "vpn", "backbone", ANNA)
    assert declare.plan(declare.export("shop")).changes == []


def test_what_was_wrong_before_stands_in_the_way_of_no_deletion(
    declare: Declare, core: Core, operator: Operator
) -> None:
    declare.apply(TWO, ANNA, None)
    (token,) = [row["id"] for row in operator.token_list(deployment="shop") if row["groups"]]
    operator.token_revoke(deployment="shop", ident=token)
    operator.host_remove(deployment="shop", host="web1")
    declare.delete("shop", "vpn", "backbone", ANNA)
    assert [row.name for row in core.store.view("shop").rows("vpn")] == ["inner"]


POOL = (
    "{driver: noop, on: lb, listen: 80, pool: {hosts: [web1, db1], port: 80, weights: {web1: 2}}}"
)
TESTED = TWO + (
    f"loadbalancer: {{www: {POOL}}}\n"
    "firewall:\n"
    "  perimeter:\n"
    "    driver: noop\n"
    "    inbound: [{from: web1, protocol: tcp, ports: [5432]}]\n"
    "    tests:\n"
    "    - {from: web1, to: db1, protocol: tcp, port: 5432, expect: accept}\n"
    "    - {from: lb1, to: db2, protocol: tcp, port: 5432, expect: drop}\n"
)


def test_who_left_stands_in_the_way_of_no_other_change(
    declare: Declare, operator: Operator
) -> None:
    operator.join("lb1", operator.token(groups=["lb"]), private=["10.0.0.3/24"])
    operator.join("db2", private=["10.0.0.4/24"])
    declare.apply(TESTED, ANNA, None)
    for token in operator.token_list(deployment="shop"):
        operator.token_revoke(deployment="shop", ident=token["id"])
    operator.host_remove(deployment="shop", host="web1")
    opened = TESTED.replace(
        "inbound: [", "inbound: [{from: 10.0.0.0/8, ports: [53], protocol: udp}, "
    )
    plan = declare.plan(opened)
    assert [change.name for change in plan.changes] == ["perimeter"]
    assert {(found.path, found.line) for found in plan.absent} == {
        ("vpn.inner.members", 4),
        ("loadbalancer.www.pool.hosts", 5),
        ("loadbalancer.www.pool.weights", 5),
        ("firewall.perimeter.inbound.1.from", 9),
        ("firewall.perimeter.tests.0.from", 11),
    }
    with pytest.raises(InvalidDocument, match="there is no host 'web2'"):
        declare.plan(opened.replace("hosts: [web1", "hosts: [web2"))
    with pytest.raises(InvalidDocument, match="drop by the default of inbound on db2"):
        declare.plan(opened.replace("expect: drop", "expect: accept"))
    declare.apply(opened, ANNA, None)


def test_an_instance_whose_driver_is_not_installed_any_more_can_be_deleted(
    declare: Declare, core: Core
) -> None:
    declare.apply(GUARDED, ANNA, None)
    for name in ("backbone", "inner"):
        row = core.store.view("shop").get("vpn", name)
        assert row is not None
        body = {**row.body, "driver": "gone"}
        core.write("shop", ANNA, lambda writer, n=name, b=body: writer.put("vpn", n, b, OPERATOR))
    (effect,) = declare.plan_delete("shop", "vpn", "inner").effects
    (line,) = effect.lines
    assert line.startswith(
        "firewall: what changes here cannot be told: vpn cannot say its listens: "
        "no driver 'gone' for vpn"
    )
    declare.delete("shop", "vpn", "inner", ANNA)
    assert [row.name for row in core.store.view("shop").rows("vpn")] == ["backbone"]


def test_a_deletion_can_be_planned(declare: Declare, core: Core) -> None:
    declare.apply(TWO, ANNA, None)
    before = head(core)
    plan = declare.plan_delete("shop", "vpn", "inner")
    (change,) = plan.changes
    assert (change.action, change.kind, change.name) == ("remove", "vpn", "inner")
    assert (plan.hosts, plan.base_revision, head(core)) == (["web1"], before, before)
    with pytest.raises(NotFound, match="deployment 'shop' declares no vpn 'outer'"):
        declare.plan_delete("shop", "vpn", "outer")


def test_every_service_says_what_a_change_comes_to(declare: Declare, operator: Operator) -> None:
    declare.apply(GUARDED, ANNA, None)
    plan = declare.plan(GUARDED.replace("mtu: 1400", "mtu: 1400, members: [web]"))
    assert [(change.kind, change.name) for change in plan.changes] == [("vpn", "backbone")]
    (effect,) = plan.effects
    assert effect.hosts == ["db1"]
    assert effect.lines == [
        "closes tcp/22 from all via backbone (perimeter/inbound/1 goes: accept)"
    ]


def test_a_renewal_counts_up(declare: Declare, core: Core) -> None:
    declare.apply(ONE, ANNA, None)
    for generation in (1, 2):
        declare.renew("shop", "vpn", "backbone", ANNA)
        row = core.store.view("shop").get(renewal_kind("vpn"), "backbone")
        assert row is not None
        assert row.body == {"generation": generation}
    with pytest.raises(NotFound, match="declares no vpn 'inner'"):
        declare.renew("shop", "vpn", "inner", ANNA)


BALANCED = ONE + (
    "loadbalancer: {www: {on: web, listen: 80, pool: {group: web, port: 81}, driver: noop}}\n"
)


def adjustments(core: Core) -> dict[str, dict[str, object]]:
    return {row.name: row.body for row in core.store.view("shop").rows("loadbalancer.adjustment")}


def test_what_is_said_of_one_host_stays_until_it_is_taken_back(
    declare: Declare, core: Core
) -> None:
    declare.apply(BALANCED, ANNA, None)
    before = head(core)
    done = declare.adjust("shop", "loadbalancer", ["www"], "web1", {"drain": True}, ANNA)
    assert done == before + 1
    declare.apply(BALANCED.replace("81", "82"), ANNA, None)
    assert adjustments(core) == {"www/web1": {"drain": True}}
    declare.adjust("shop", "loadbalancer", ["www"], "web1", {"weight": 3}, ANNA)
    assert adjustments(core) == {"www/web1": {"drain": True, "weight": 3}}
    declare.adjust("shop", "loadbalancer", ["www"], "web1", {"drain": None}, BERT)
    assert adjustments(core) == {"www/web1": {"weight": 3}}
    declare.adjust("shop", "loadbalancer", ["www"], "web1", {"weight": None}, ANNA)
    assert adjustments(core) == {}


def test_what_is_said_of_several_balancers_is_one_write_or_none(
    declare: Declare, core: Core
) -> None:
    more = "driver: noop}, www2: {on: web, listen: 82, pool: {group: web, port: 1}, driver: noop}}"
    declare.apply(more.join(BALANCED.rsplit("driver: noop}}", 1)), ANNA, None)
    before, both = head(core), ["www", "www2"]
    declare.adjust("shop", "loadbalancer", both, "web1", {"drain": True}, ANNA)
    assert head(core) == before + 1
    assert adjustments(core) == {f"{name}/web1": {"drain": True} for name in both}
    with pytest.raises(NotFound, match="declares no loadbalancer 'www3'"):
        declare.adjust("shop", "loadbalancer", ["www", "www3"], "web1", {"drain": None}, ANNA)
    assert len(adjustments(core)) == 2


def test_what_was_said_of_a_host_goes_with_it_and_with_the_instance(
    declare: Declare, core: Core, operator: Operator
) -> None:
    declare.apply(BALANCED, ANNA, None)
    for host in ("web1", "db1"):
        declare.adjust("shop", "loadbalancer", ["www"], host, {"drain": True}, ANNA)
    operator.host_remove(deployment="shop", host="web1")
    assert list(adjustments(core)) == ["www/db1"]
    declare.delete("shop", "loadbalancer", "www", ANNA)
    assert adjustments(core) == {}


@pytest.mark.parametrize(
    ("service", "instance", "host", "body", "said"),
    [
        ("vpn", "backbone", "web1", {}, "nothing can be said of single hosts of a vpn"),
        ("loadbalancer", "w", "web1", {}, "declares no loadbalancer 'w'"),
        ("loadbalancer", "www", "web9", {}, "has no host 'web9'"),
        ("loadbalancer", "www", "web1", {"weight": 257}, "weight"),
        ("loadbalancer", "www", "web1", {"weight": True}, "weight"),
        ("loadbalancer", "www", "web1", {"drain": "yes"}, "drain"),
        ("loadbalancer", "www", "web1", {"colour": 1}, "colour"),
        ("loadbalancer", "www", "web1", {"colour": None}, "colour"),
    ],
)
def test_what_cannot_be_said_of_a_host(
    declare: Declare, core: Core, service: str, instance: str, host: str,
    body: dict[str, object], said: str,
) -> None:  # fmt: skip
    declare.apply(BALANCED, ANNA, None)
    before = head(core)
    with pytest.raises((InvalidRequest, NotFound), match=said):
        declare.adjust("shop", service, [instance], host, body, ANNA)
    assert head(core) == before


def test_operators_see_what_is_declared(declare: Declare, operator: Operator) -> None:
    declare.apply(TWO, ANNA, None)
    rows = operator.service_list(deployment="shop")
    assert [(row["kind"], row["name"], row["author"]) for row in rows] == [
        ("vpn", "backbone", "anna"),
        ("vpn", "inner", "anna"),
    ]
    status = operator.deployment_show(name="shop")
    assert (status["hosts"], status["services"]) == (2, 2)
    assert operator.deployment_list() == [status]
    operator.join("web2").announce(announcement=OFFER)
    members = operator.member_list(deployment="shop", service="vpn", instance="backbone")
    assert list(members) == ["web2"]


@pytest.mark.parametrize("name", ["Shop", "a b", "", "x" * 64, "shop\n"])
def test_a_deployment_needs_a_name_that_is_one(operator: Operator, name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a name"):
        operator.deployment_create(name=name)


def test_tokens_are_made_listed_and_revoked(operator: Operator) -> None:
    token = operator.token(groups=["web", "db", "web"], lifetime=60, uses=3)
    ident = token.partition(".")[0]
    (status,) = operator.token_list(deployment="shop")
    assert (status["id"], status["groups"], status["uses_left"]) == (ident, ["db", "web"], 3)
    operator.token_revoke(deployment="shop", ident=ident)
    assert operator.token_list(deployment="shop")[0]["revoked"]
    with pytest.raises(NotFound, match="deployment 'shop' has no token 't-none'"):
        operator.token_revoke(deployment="shop", ident="t-none")
    with pytest.raises(InvalidRequest, match="'all' is every host"):
        operator.token(groups=["all"])
