# SPDX-License-Identifier: Apache-2.0
"""firewall explain, test, show and diff, as a person uses them."""

import pytest

from cnsmo.bus.clients import CoreClient
from cnsmo.core.membership import Membership
from cnsmo.model.host import HostFacts
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import AgentReport, Announcement, TokenRequest
from cnsmo.services.firewall.service import FirewallService
from tests.joining import join_request
from tests.unit.manage.kernel import kernel, present

HOSTS = {
    "edge1": ("edge", "10.1.0.11/24", "198.51.100.11"),
    "web1": ("web", "10.1.0.21/24", "198.51.100.21"),
    "web2": ("web", "10.2.0.22/24", "198.51.100.22"),
    "db1": ("db", "10.2.0.31/24", "198.51.100.31"),
}
DOCUMENT = """\
deployment: shop
vpn:
  backbone: {cidr: 10.66.0.0/16, driver: noop}
firewall:
  perimeter:
    inbound:
      - {from: edge, to: web, protocol: tcp, ports: 8080}
      - {from: web, to: db, protocol: tcp, ports: postgresql, name: sql}
      - {from: 203.0.113.9, protocol: tcp, ports: 22, action: reject}
    tests:
      - {from: web, to: db, port: 5432, expect: accept}
      - {from: edge1, to: db1, port: 5432, expect: drop}
  next:
    mode: audit
    inbound:
      - {from: edge, to: db, action: accept}
"""
SQL = "{from: web, to: db, protocol: tcp, ports: 5432, name: sql}"


class Host:
    """A host with agents of both services, that says what a test wants."""

    def __init__(self, core, operator, name: str) -> None:
        group, private, public = HOSTS[name]
        self.token = str(operator.token_create("shop", TokenRequest(groups=[group])).token)
        self.name = name
        self.client = CoreClient(core.conf, 10)
        facts = HostFacts(
            site=private[:4].replace(".", "-") + "x", private=(private,), public=(public,)
        )
        answer = Membership(core).join(
            join_request(self.token, name, services=["vpn", "firewall"], facts=facts)
        )
        self.client.identify(answer.id, answer.secret)

    def announces(self) -> None:
        self.client.announce(
            Announcement(service="vpn", instance="backbone", body={"driver": "noop"})
        )

    def reports(self, observation, state=State.READY, reason="") -> None:
        head = self.client.sync(0).head
        self.client.report(AgentReport(service="vpn", state="ready", applied_revision=head))
        self.client.report(
            AgentReport(
                service="firewall",
                state=state,
                reason=reason,
                applied_revision=head,
                observation=observation,
            )
        )


@pytest.fixture
def shop(core, operator, person) -> dict[str, Host]:
    """Four hosts in a VPN, with a policy."""
    operator.deployment_create("shop")
    made = {name: Host(core.core, operator, name) for name in HOSTS}
    person.writes(DOCUMENT, "shop.yaml")
    person.does("apply shop.yaml")
    for name in sorted(made):
        made[name].announces()
    return made


@pytest.fixture
def desired(operator, shop):
    """desired("web1"): the firewall of that host."""
    view = present(operator.rows("shop"))
    return lambda host: FirewallService().firewall(view, host)


def lines(person, words: str) -> list[str]:
    return person.does(f"firewall {words}").out.splitlines()


def test_a_flow_is_explained_by_the_words_of_the_rule(person, shop):
    assert lines(person, "explain web1 db1 tcp postgresql") == [
        "web1 (10.66.0.3) to db1 (10.66.0.1), tcp/5432 over the VPN backbone: accept",
        "  by perimeter/inbound/sql on db1:",
        f"      {SQL}",
        "  next default of inbound, on trial, would not let it pass:",
        "      no rule of it matches, and its default is not to accept",
    ]
    said = lines(person, "explain edge1 db1 tcp/80")
    assert said[0].endswith("tcp/80 over the VPN backbone: drop")
    assert said[-1].strip() == "no rule matches; perimeter has default {inbound: drop}"


def test_a_flow_is_explained_by_what_no_rule_can_close(person, shop):
    said = lines(person, "explain 203.0.113.9 web1 tcp ssh")
    assert said[0] == "203.0.113.9 to web1 (10.1.0.21), tcp/22 over the underlay: accept"
    assert said[-1].strip() == "a fail-safe port: perimeter has failsafe {ports: 22}"
    said = lines(person, "explain 10.66.0.3 db1 tcp 5432 --via underlay")
    assert said[0].endswith("over the underlay: drop")
    assert said[1] == "  by always/anti-spoofing, inbound on db1:"
    assert said[-1].startswith("10.66.0.3 is an address of web1: say web1")


def test_groups_are_explained_pair_by_pair(person, shop):
    said = person.does("firewall explain web db tcp 5432").out
    for web in ("web1", "web2"):
        row = f"| {web} | db1 | backbone | accept  | perimeter/inbound/sql | db1 inbound |"
        assert row in said
    assert said.count(SQL) == 1
    assert max(map(len, said.splitlines())) <= 80


def test_programs_are_told_the_same(person, shop):
    (row,) = person.does("firewall explain web1 db1 tcp 5432 -f json").json
    assert row == {
        "from": "web1", "from_address": "10.66.0.3", "to": "db1", "to_address": "10.66.0.1",
        "over": "backbone", "protocol": "tcp", "port": 5432,
        "verdict": "accept", "rule": "perimeter/inbound/sql", "host": "db1",
        "direction": "inbound", "why": SQL, "audits": ["next default of inbound"],
    }  # fmt: skip
    assert person.does("firewall explain web1 web1 tcp 1 -f json").json == []


WRONG = [
    (4, "wbe1 db1 tcp 1", "did you mean 'web1'? known: all, db, db1"),
    (4, "group:web1 db1 tcp 1", "no host is in the group 'web1'"),
    (4, "web1 db1 tcp 1 --via bakbone", "did you mean 'backbone'? known: backbone, underlay"),
    (2, "web1 db1 tpc 1", "'tpc' is no protocol (did you mean 'tcp'?"),
    (2, "web1 db1 ssh", "a port comes after one: tcp ssh"),
    (2, "web1 db1 any", "A flow has one"),
    (2, "web1 db1", "which port? Write tcp and its number or name"),
    (2, "web1 db1 icmp 8", "icmp has no ports"),
    (2, "web1 db1 tcp 99999", "99999 is no port"),
    (2, "web1 db1 tcp 80-90", "one port, not a range"),
    (2, "any db1 tcp 1", "say who"),
    (2, "web1 vpn:backbone tcp 1", "say who"),
    (2, "web1 10.1.0.0/24 tcp 1", "say one address of it, as 10.1.0.1"),
    (2, "web1 10.1.0.999 tcp 1", "10.1.0.999"),
    (2, "web1 db1 tcp 1 --via Backbone", "--via Backbone"),
]
ODD = [
    ("web1 web1 tcp 1", "web1 is one host"),
    ("web1 192.0.2.1 tcp 1 --via vpn:backbone", "are not both in the VPN backbone."),
    ("web1 fd00::1 tcp 1", "no addresses of the same IP version"),
    ("web1 db1 22", "22 is the number of a protocol here; for a port: tcp 22"),
    ("192.0.2.1 192.0.2.2 tcp 1", "no policy holds for an address outside"),
    ("web1 db1 esp", "no rule matches"),
]


def test_words_that_mean_nothing_are_told_what_would(person, shop):
    for code, words, said in WRONG:
        assert said in person.fails(code, f"firewall explain {words}")


def test_odd_questions_have_answers(person, shop):
    for words, said in ODD:
        assert said in person.does(f"firewall explain {words}").out


def test_a_host_without_a_policy_accepts(person, shop):
    person.does("apply -", stdin=DOCUMENT.partition("firewall:")[0])
    said = lines(person, "explain web1 db1 tcp 1")
    assert said[0].endswith(": accept")
    assert said[-1].strip() == "no policy holds for web1 or db1"


def test_a_documents_tests_pass(person, shop):
    said = person.does("firewall test shop.yaml").out
    assert "|   11 | web   | db  | tcp/5432 | accept | accept  | pass   |" in said
    assert said.endswith("2 tests: 2 pass\n")
    person.does("firewall test -", stdin=DOCUMENT)


def test_a_documents_tests_fail_by_the_documents_policy_not_by_that_in_force(person, shop):
    person.writes(DOCUMENT.replace("from: web, to: db, protocol", "from: web2, to: db, protocol"))
    said = person.run("firewall test lab.yaml")
    assert (said.code, said.err) == (1, "")
    *_table, failed, counts = said.out.splitlines()
    assert failed == (
        "lab.yaml:11:9: firewall.perimeter.tests.0: web1 (10.66.0.3) to db1 (10.66.0.1), "
        "tcp/5432 over the VPN backbone: drop by the default of inbound on db1; accept is expected"
    )
    assert counts == "2 tests: 1 pass, 1 FAIL"
    said = person.run("firewall test lab.yaml -f json")
    assert said.code == 1
    assert [row["result"] for row in said.json] == ["FAIL", "pass"]
    assert said.json[0]["rule"] == "the default of inbound"


def test_a_test_of_which_nobody_can_make_the_flow_says_so(person, shop):
    person.writes(DOCUMENT.replace("from: edge1, to: db1", "from: db, to: db1"))
    said = person.does("firewall test lab.yaml").out
    assert said.endswith("2 tests: 1 pass, 1 nobody\n")


def test_a_wrong_document_is_refused_as_plan_refuses_it(person, shop):
    for wrong in ("from: edeg1, to: db1", "form: edge1, to: db1"):
        person.writes(DOCUMENT.replace("from: edge1, to: db1", wrong))
        said = person.fails(3, "firewall test lab.yaml")
        assert said == person.fails(3, "plan lab.yaml")
        assert "did you mean" in said
    assert "deployment create" in person.fails(4, "firewall test -", stdin="deployment: nix\n")
    assert "has no tests" in person.does("firewall test -", stdin="deployment: shop\n").out


HITS = {"perimeter/inbound/sql": 7, "inbound/default": 17, "outbound/default": 40}


def test_all_firewalls_in_a_line_each(person, shop, desired):
    found = kernel(desired("web1"), HITS)
    found["host"]["trial"] = {"seconds_left": 21.0, "since": 1}
    shop["web1"].reports(found)
    shop["db1"].reports(kernel(desired("db1"), HITS))
    shop["web2"].reports({}, State.ERROR, "host: nft is missing")
    said = person.does("firewall show --patience 0").out
    assert "| db1   | ready   | nftables |     3 |      17 | no    |" in said
    assert "| web1  | ready   | nftables |     2 |      17 | yes   |" in said
    assert "| edge1 | joining | nftables |     - |       - | -     |" in said
    assert said.endswith("web2: host: nft is missing\n")
    row = person.does("firewall show --patience 0.1 -f json").json[0]
    assert row == {
        "host": "db1", "state": "ready", "driver": "nftables", "rules": 3, "dropped": 17,
        "trial": False, "reason": None,
    }  # fmt: skip


def test_the_rules_of_one_with_what_they_counted(person, shop, desired):
    found = kernel(desired("db1"), HITS)
    found["host"]["trial"] = {"seconds_left": 21.0, "since": 1}
    shop["db1"].reports(found)
    said = person.does("firewall show db1 --patience 0").out
    assert said.startswith("Firewall of db1: ready, nftables\nOn trial: unless the core")
    assert "| in  | underlay | perimeter/inbound/sql | accept   |       7 | 420 B |" in said
    assert "| in  | backbone | next/inbound/1        | (accept) |       0 | 0 B   |" in said
    assert "  m_web_v_backbone_4 (2): 10.66.0.3, 10.66.0.4\n" in said
    assert "  inbound, underlay, dropped: 17 packets, 1020 B\n" in said
    assert "always/dhcp" not in said
    assert "always/dhcp" in person.does("firewall show db1 --patience 0 --all").out
    assert max(map(len, said.splitlines())) <= 80
    rows = person.does("firewall show db1 --patience 0 -f json").json
    (sql,) = (
        row for row in rows if (row["rule"], row["over"]) == ("perimeter/inbound/sql", "underlay")
    )
    assert (sql["packets"], sql["bytes"], sql["action"]) == (7, 420, "accept")
    (default,) = (row for row in rows if row["default"] and row["packets"] == 17)
    assert default["rule"] == "inbound/default"
    sets = person.does("firewall show db1 --patience 0 --sets -f json").json
    assert {"set": "m_web_v_backbone_4", "count": 2, "members": ["10.66.0.3", "10.66.0.4"]} in sets


def test_who_has_nothing_to_show_says_why(person, shop, puppet):
    assert "has told of no rules" in person.does("firewall show edge1 --patience 0").out
    noop = DOCUMENT.replace("    inbound:", "    driver: noop\n    inbound:")
    person.does("apply -", stdin=noop)
    shop["web1"].reports({"host": {"rules": [], "sets": {"m_edge_u_4": {"count": 2}}}})
    said = person.does("firewall show web1 --patience 0").out
    assert "m_edge_u_4 (2)\n" in said
    assert said.endswith("The driver noop keeps no rules, and counts nothing.\n")
    assert "web1: no difference" in person.does("firewall diff web1 --patience 0").out
    assert "did you mean 'web1'?" in person.fails(4, "firewall show wbe1 --patience 0")
    puppet("lonely")
    said = person.does("firewall show -d lab --patience 0").out
    assert said.endswith("lonely: no policy holds for it\n")
    assert "runs no agent of the service firewall; it has: vpn" in person.fails(
        4, "firewall diff lonely -d lab --patience 0"
    )


def test_what_the_kernel_has_otherwise_is_told(person, shop, desired):
    found = kernel(desired("db1"), {})
    shop["db1"].reports(found)
    assert person.does("firewall diff db1 --patience 0").out == "db1: no difference\n"
    host = found["host"]
    lost = next(entry for entry in host["rules"] if entry["rule"] == "perimeter/inbound/sql")
    host["rules"].remove(lost)
    host["rules"].append({**lost, "rule": "perimeter/inbound/9"})
    host["sets"]["m_web_v_backbone_4"] = {"count": 2, "elements": ["10.66.0.3", "10.66.9.9"]}
    host["sets"]["m_web_u_4"] = {"count": 30, "elements": ["10.1.0.21"]}
    shop["db1"].reports(found)
    said = person.run("firewall diff db1 --patience 0")
    assert said.code == 1
    assert said.out.splitlines() == [
        f"db1: rule perimeter/inbound/sql (inbound, {lost['realm'] or 'underlay'}) is missing",
        f"db1: rule perimeter/inbound/9 (inbound, {lost['realm'] or 'underlay'}) "
        "is there, and not desired",
        "db1: set m_web_u_4 has 30 members, 4 are desired",
        "db1: set m_web_v_backbone_4 has 10.66.9.9, which is no member",
        "db1: set m_web_v_backbone_4 lacks 10.66.0.4",
    ]
    told = person.run("firewall diff db1 --patience 0 -f json")
    assert (told.code, len(told.json)) == (1, 5)


def test_a_host_that_could_not_is_different(person, shop):
    assert "has not told" in person.fails(9, "firewall diff web1 --patience 0")
    shop["web1"].reports({}, State.ERROR, "host: nft is missing")
    said = person.run("firewall diff web1 --patience 0")
    assert (said.code, said.out) == (1, "web1: its agent is in error: host: nft is missing\n")


def test_a_snapshot_of_rows_holds_what_is_compiled_from_and_no_secret(operator, shop):
    rows = operator.rows("shop")
    assert rows.snapshot
    assert rows.head == operator.deployment_show("shop").revision
    assert {row.kind for row in rows.rows} == {"host", "agent", "vpn", "vpn.member", "firewall"}
    assert not any(row.deleted for row in rows.rows)
    text = rows.model_dump_json()
    secrets = [
        value
        for host in shop.values()
        for value in (host.client.context["agent_secret"], host.token)
    ]
    assert len(secrets) == 8
    assert [secret for secret in secrets if secret in text or secret[-12:] in text] == []
    assert "secret" not in text
    operator.host_remove("shop", "web2")
    assert "web2" not in {row.name for row in operator.rows("shop").rows}
