# SPDX-License-Identifier: Apache-2.0
"""deployment, token, plan, apply, service: what is declared."""

import json

import pytest
import yaml

from cnsmo.core.health import Health
from cnsmo.manage.errors import EXIT_CODES
from cnsmo.model.lifecycle import State
from tests.eventually import eventually
from tests.functional.manage.person import DOCUMENT


def test_a_deployment_from_its_creation_to_its_end(person):
    assert "There is no deployment yet" in person.does("deployment list").out
    assert "would make" in person.does("deployment create lab --dry-run").out
    assert person.does("deployment list -f json").json == []
    person.does("deployment create lab")
    assert "exists already" in person.fails(5, "deployment create lab")
    assert "exists already" in person.fails(5, "deployment create lab --dry-run")
    assert "is not a name" in person.fails(2, "deployment create", "La b")
    listed = person.does("deployment list -f json").json
    assert [row["name"] for row in listed] == ["lab"]
    shown = person.does("deployment show -f json").json
    assert shown["hosts"] == shown["services"] == shown["agents_behind"] == 0
    assert shown["agents"] == {}
    assert person.does("deployment export").out == "deployment: lab\n"
    assert "would delete" in person.does("deployment delete lab --dry-run").out
    person.does("deployment delete lab")
    person.fails(4, "deployment delete lab")
    person.fails(4, "deployment delete lab --dry-run")


def test_a_deployment_with_hosts_is_not_deleted(person, puppet):
    puppet("web1")
    assert "host remove" in person.fails(5, "deployment delete lab --dry-run")
    assert "host remove" in person.fails(5, "deployment delete lab")


def test_the_deployment_is_named_or_in_the_environment_or_the_only_one(person):
    assert "there is no deployment yet" in person.fails(4, "host list")
    person.does("deployment create lab")
    person.does("host list")
    person.does("deployment create shop")
    assert "lab, shop" in person.fails(2, "host list")
    person.does("host list -d shop")
    person.env["CNSMO_DEPLOYMENT"] = "shop"
    assert person.does("deployment show -f value -c name").out == "shop\n"
    assert person.does("deployment show lab -f value -c name").out == "lab\n"
    assert "no deployment 'nix'" in person.fails(4, "host list --deployment nix")


def test_tokens(person):
    person.does("deployment create lab")
    assert "no token yet" in person.does("token list").out
    dry = person.does("token create -g web --dry-run -f json")
    assert dry.json["groups"] == ["web"]
    assert "token" not in dry.json
    assert "no token yet" in person.does("token list").out
    made = person.does("token create -g web -g edge --uses 20 --lifetime 7d -f json").json
    assert made["groups"] == ["edge", "web"]
    assert made["uses"] == 20
    assert made["token"].startswith(made["id"] + ".")
    listed = person.does("token list -f json").json
    assert [(row["id"], row["status"]) for row in listed] == [(made["id"], "valid")]
    assert made["token"] not in person.does("token list").out
    assert "would revoke" in person.does(f"token revoke {made['id']} --dry-run").out
    person.does(f"token revoke {made['id']}")
    assert person.does("token list -f value -c status").out == "revoked\n"
    person.fails(4, "token revoke t-nix")
    person.fails(4, "token revoke t-nix --dry-run")


def test_a_token_is_shown_once_with_the_place_where_it_goes(person):
    person.does("deployment create lab")
    assert "/etc/cnsmo/join.token" in person.does("token create").err
    assert person.does("token create -f value -c token").err == ""


def test_a_used_up_token_says_so(person, puppet):
    puppet("web1")
    assert person.does("token list -f value -c status").out == "used up\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--group all", "never granted"),
        ("--group Web", "is not a name"),
        ("--uses 0", "--uses: from 1"),
        ("--uses x", "invalid int"),
        ("--lifetime 0", "--lifetime: from 1 second"),
        ("--lifetime 2000d", "365 days"),
        ("--lifetime 5x", "is no duration"),
    ],
)
def test_a_wrong_token_is_refused_before_it_is_made(person, options, said):
    person.does("deployment create lab")
    assert said in person.fails(2, f"token create {options}")
    assert person.does("token list -f json").json == []


def test_plan_writes_nothing_and_apply_does(person):
    person.does("deployment create lab")
    file = person.writes(DOCUMENT)
    for line in (f"plan {file}", f"apply {file} --dry-run"):
        said = person.does(line).out
        assert "+ vpn backbone\n      cidr: 10.66.0.0/16\n      driver: noop" in said
        assert "1 to add, 0 to change, 0 to remove; no host is touched." in said
    assert person.does("deployment show -f value -c revision").out == "0\n"
    assert "Applied as revision 1." in person.does(f"apply {file}").out
    assert "as the document says" in person.does(f"apply {file}").out
    assert person.does("deployment show -f value -c revision").out == "1\n"


def test_plans_for_programs(person):
    person.does("deployment create lab")
    file = person.writes(DOCUMENT)
    plan = person.does(f"plan {file} -f json").json
    assert [change["action"] for change in plan["changes"]] == ["add"]
    assert yaml.safe_load(person.does(f"plan {file} -f yaml").out) == plan
    assert person.does(f"apply {file} -f json").json["revision"] == 1


def test_what_is_exported_can_be_applied(person):
    person.does("deployment create lab")
    person.does("apply -", stdin=DOCUMENT)
    exported = person.does("deployment export").out
    assert "as the document says" in person.does("plan -", stdin=exported).out


def test_a_wrong_document_is_told_like_a_compiler_does(person):
    person.does("deployment create lab")
    file = person.writes(
        "deployment: lab\nvpn:\n  a: {cidr: 10.66.0.1/16}\n  b: {cdir: 1}\nfirewal: {}\n"
    )
    for command in ("plan", "apply", "apply --dry-run"):
        lines = person.fails(3, f"{command} {file}").splitlines()
        assert lines[0].startswith("lab.yaml:3:7: vpn.a.cidr: 10.66.0.1/16 has host bits set")
        assert lines[-1] == "4 mistakes; nothing was changed."
        assert all(line.startswith("lab.yaml:") for line in lines[:-1])
    assert person.fails(3, "plan -", stdin="{").startswith("<stdin>:2:1: not YAML")
    assert person.does("deployment show -f value -c revision").out == "0\n"


def test_a_document_that_cannot_be_read(person):
    assert "nix.yaml: No such file" in person.fails(2, "plan nix.yaml")
    (person.cwd / "bad.yaml").write_bytes(b"\xff")
    assert person.fails(3, "apply bad.yaml").startswith("bad.yaml:1:1: not UTF-8")
    assert "larger than 1 MB" in person.fails(3, "plan -", stdin="#" * 1_000_001)


def test_a_document_for_a_deployment_that_is_not_there(person):
    said = person.fails(4, f"apply {person.writes(DOCUMENT)}")
    assert "lab.yaml: there is no deployment 'lab'" in said
    assert "deployment create" in said


def test_services(person, puppet):
    member = puppet("web1")
    assert "Nothing is declared yet" in person.does("service list").out
    person.does("apply -", stdin=DOCUMENT)
    member.announces()
    (row,) = person.does("service list -f json").json
    assert (row["service"], row["name"], row["driver"], row["members"]) == (
        "vpn",
        "backbone",
        "noop",
        1,
    )
    shown = person.does("service show vpn backbone -f json").json
    assert shown["spec"]["cidr"] == ["10.66.0.0/16"]
    assert shown["members"]["web1"]["addresses"] == ["10.66.0.1"]
    assert "driver: noop" in person.does("service show vpn backbone").out
    assert "but vpn backbone" in person.fails(4, "service show vpn nix")
    assert "from web1" in person.does("service delete vpn backbone --dry-run").out
    person.does("service show vpn backbone")
    person.does("service delete vpn backbone")
    person.fails(4, "service delete vpn backbone")
    assert "declares no vpn 'backbone', but nothing" in person.fails(
        4, "service delete vpn backbone --dry-run"
    )
    assert "no service 'nix' is installed" in person.fails(2, "service delete nix nix")


def test_what_others_need_is_not_deleted(person):
    rule = "{from: all, protocol: tcp, ports: [22], via: backbone}"
    gate = f"firewall: {{gate: {{driver: noop, inbound: [{rule}]}}}}\n"
    person.does("deployment create lab")
    person.does("apply -", stdin=DOCUMENT + gate)
    for command in ("service delete vpn backbone", "service delete vpn backbone --dry-run"):
        said = person.fails(5, command)
        assert "vpn backbone of 'lab' is needed by others" in said
        assert "firewall.gate.inbound.0.via: no VPN 'backbone' is declared" in said
        assert "cnsmo-manage deployment export lab" in said
    person.does("service show vpn backbone")
    person.does("service delete firewall gate")
    said = person.does("service delete vpn backbone --dry-run").out
    assert "- vpn backbone" in said
    assert "Dry run: would delete vpn backbone of lab" in said
    person.does("service delete vpn backbone")


def test_apply_waits_until_it_is_in_force_everywhere(person, hosts):
    hosts("web1", "web2", "web3")
    file = person.writes(DOCUMENT)
    said = person.does(f"apply {file} --wait 30s")
    assert "In force on 3 hosts" in said.err or "No host is there yet" in said.err
    said = person.does(f"apply {file} --wait 30s")
    person.writes(DOCUMENT.replace("noop}", "noop, keepalive: 15}"))
    said = person.does(f"apply {file} --wait 30s")
    assert "~ vpn backbone\n      keepalive: 25 -> 15" in said.out
    assert "3 hosts are touched: web1, web2, web3." in said.out
    assert "In force on 3 hosts" in said.err
    revision = int(said.out.partition("Applied as revision ")[2].partition(".")[0])
    assert all(row["revision"] >= revision for row in person.does("host list -f json").json)


def test_apply_does_not_wait_where_nobody_is(person):
    person.does("deployment create lab")
    said = person.does(f"apply {person.writes(DOCUMENT)} --wait")
    assert "No host is there yet" in said.err


def test_apply_names_who_is_not_ready_and_why_when_time_is_over(person, puppet):
    puppet("web1").reports(reason="it is so")
    puppet("web2").reports(State.CONFIGURING, "waiting for a place in backbone")
    said = person.run(f"apply {person.writes(DOCUMENT)} --wait 1s -f json")
    assert said.code == 9
    assert json.loads(said.out)["revision"]
    assert "web2 vpn: configuring: waiting for a place in backbone" in said.err
    assert "2 not ready after 1 s" in said.err


def test_apply_tells_which_revision_a_slow_host_is_at(person, puppet):
    slow = puppet("web1")
    slow.reports()
    said = person.run(f"apply {person.writes(DOCUMENT)} --wait 1s")
    assert said.code == 9
    assert "web1 vpn: ready: is at revision" in said.err


def test_apply_gives_up_early_on_hosts_in_error(person, puppet, monkeypatch):
    monkeypatch.setattr("cnsmo.manage.inforce.SECOND_CHANCE", 0.2)
    puppet("web1").reports(State.ERROR, "no wg here: install wireguard-tools")
    said = person.run(f"apply {person.writes(DOCUMENT)} --wait 30s")
    assert said.code == 9
    assert "web1 vpn: error: no wg here: install wireguard-tools" in said.err
    assert "1 in error" in said.err


def test_apply_does_not_wait_for_hosts_that_are_down(person, puppet, core, conf):
    puppet("web1").reports()
    conf.set_override("down_after", 0.5, "core")
    health = Health(core.core)

    def is_down() -> bool:
        health.look("lab", listening=60)
        return "down" in person.does("host list").out

    eventually(is_down)
    said = person.does(f"apply {person.writes(DOCUMENT)} --wait 30s")
    assert "Not waited for, because they are down: web1." in said.err


def test_every_exit_code_is_in_the_help(person):
    said = person.does("--help").out
    for code, meaning in EXIT_CODES.items():
        assert f"{code:>3}  {meaning}" in said
