# SPDX-License-Identifier: Apache-2.0
"""host, agent, vpn, watch: how things stand."""

import json
import re
import threading

from cnsmo.model.lifecycle import State
from tests.eventually import eventually
from tests.functional.manage.person import DOCUMENT


def peers(**ages):
    return {
        "peers": {
            name: {
                "handshake_age": age,
                "rx": 2048,
                "tx": 3 * 2**20,
                "path": "direct",
                "endpoint": f"198.18.1.1:{51820}",
            }
            for name, age in ages.items()
        },
        "relayed": {},
    }


def mesh(person, puppet):
    """Three members: a hears b, and c through b; b hears both; c has not observed anything."""
    made = [puppet(name, site="east", public=("198.18.1.1",)) for name in ("a", "b", "c")]
    person.does("apply -", stdin=DOCUMENT)
    for host in made:
        host.announces()
    seen = {**peers(b=12), "relayed": {"c": "b"}}
    made[0].reports(backbone=seen)
    made[1].reports(backbone=peers(a=11, c=None))
    made[2].reports(State.ERROR, "no wg here")
    return made


def test_hosts_are_shown_with_all_that_matters(person, puppet):
    assert "no deployment yet" in person.fails(4, "host list")
    mesh(person, puppet)
    row, _b, c = person.does("host list -f json").json
    assert row["name"] == "a"
    assert row["groups"] == ["web"]
    assert row["site"] == "east"
    assert row["vpn_addresses"] == {"backbone": ["10.66.0.1"]}
    assert row["endpoint"] == "198.18.1.1"
    assert row["state"] == {"vpn": "ready"}
    assert row["handshakes"]["peers"] == row["handshakes"]["heard"] == 1
    assert 12 <= row["handshakes"]["oldest"] < 20
    assert row["heartbeat"] < 10
    assert c["state"] == {"vpn": "error"}
    table = person.does("host list").out
    assert "| a    | web    | east | 10.66.0.1     | 198.18.1.1 | ready | 1/1, 12 s ago |" in table
    assert max(len(line) for line in table.splitlines()) < 120
    assert person.does("host list -f value -c name -c groups").out.splitlines()[0] == "a web"


def test_columns_are_chosen_by_either_name_and_wrong_ones_are_told(person, puppet):
    puppet("a")
    wanted = person.does("host list -f csv -c VPN_addresses -c name").out
    assert wanted.splitlines()[0] == '"name","vpn_addresses"'
    assert "| Name |" in person.does("host list -c name").out
    assert "there are: name, groups" in person.fails(2, "host list -c nix")
    assert "there are: name, id" in person.fails(2, "host show a -c nix")


def test_one_host(person, puppet):
    mesh(person, puppet)
    shown = person.does("host show c -f json").json
    assert shown["agents"] == ["vpn: error: no wg here"]
    assert shown["behind_nat"] is False
    table = person.does("host show c").out
    assert re.search(r"\| Behind NAT +\| no ", table)
    assert "None" not in table
    assert "no host 'nix'" in person.fails(4, "host show nix")


def test_hosts_are_removed(person, puppet):
    mesh(person, puppet)
    said = person.does("host remove a b --dry-run").out
    assert "would remove a (last heartbeat" in said
    assert "member of VPNs: backbone" in said
    assert "'nix'" in person.fails(4, "host remove a nix")
    assert len(person.does("host list -f json").json) == 3, "all or nothing was named right"
    person.does("host remove a b a")
    assert [row["name"] for row in person.does("host list -f json").json] == ["c"]
    person.fails(4, "host remove a --dry-run")
    shown = person.does("host show a -f json").json
    assert shown["confirmed_by_all_others"] is None
    assert shown["waiting_for"] == ["c"]
    assert shown["removed_in_revision"] > 0
    assert "| Waiting for " in person.does("host show a").out


def test_hosts_go_into_quarantine_and_come_back(person, puppet):
    mesh(person, puppet)
    said = person.does("host quarantine a --dry-run").out
    assert "would take a out of everything (member of VPNs: backbone)" in said
    assert person.does("host show a -f json").json["in_quarantine"] is False
    assert "Host a in quarantine since revision " in person.does("host quarantine a a").out
    assert person.does("host show a -f json").json["in_quarantine"] is True
    assert person.does("host list").out.count("in quarantine") == 1
    assert "'nix'" in person.fails(4, "host quarantine nix")
    assert "would let a back" in person.does("host quarantine a --release --dry-run").out
    assert "Host a let back since revision " in person.does("host quarantine a --release").out
    assert person.does("host show a -f json").json["in_quarantine"] is False


def test_agents(person, puppet):
    mesh(person, puppet)
    states = {row["host"]: row["state"] for row in person.does("agent list -f json").json}
    assert states == {"a": "ready", "b": "ready", "c": "error"}
    assert person.does("agent list --state error -f value -c host").out == "c\n"
    assert "no such agent" in person.does("agent list --service nix").out
    shown = person.does("agent show a -f json").json
    assert shown["observation"]["backbone"]["relayed"] == {"c": "b"}
    assert "handshake_age: 12" in person.does("agent show a vpn").out
    assert "no agent of nix; it has: vpn" in person.fails(4, "agent show a nix")
    person.fails(4, "agent show nix")
    person.fails(2, "agent list --state nix")


def test_the_mesh_is_a_matrix_for_people(person, puppet):
    mesh(person, puppet)
    said = person.does("vpn show backbone --patience 0").out.splitlines()
    assert said[0] == "VPN backbone: 10.66.0.0/16, mesh, noop, 3 members"
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in said
        if line.startswith("|")
    }
    assert cells["From \\ to"] == ["Address", "a", "b", "c", "Received", "Sent"]
    assert cells["a"] == ["10.66.0.1", "", "12 s", "via b", "2.0 KiB", "3.0 MiB"]
    assert cells["b"] == ["10.66.0.2", "11 s", "", "quiet", "4.0 KiB", "6.0 MiB"]
    assert cells["c"] == ["10.66.0.3", "?", "?", "", "-", "-"]
    assert said[-1] == "c is error: no wg here"


def test_the_mesh_is_a_line_for_each_pair_for_programs(person, puppet):
    mesh(person, puppet)
    rows = person.does("vpn show backbone --patience 0 -f json").json
    assert len(rows) == 6
    first, second = rows[:2]
    assert (first["from"], first["to"], first["path"]) == ("a", "b", "direct")
    assert first["endpoint"] == "198.18.1.1:51820"
    assert (first["received"], first["sent"]) == (2048, 3 * 2**20)
    assert 12 <= first["handshake"] < 20
    assert (second["path"], second["via"], second["handshake"]) == ("relayed", "b", None)
    assert (
        "| a    | b  | direct  | -   |" in person.does("vpn show backbone --patience 0 --long").out
    )


def test_pairs_without_a_way_are_named(person, puppet):
    one, two, _three = mesh(person, puppet)
    one.reports(backbone=peers())
    two.reports(backbone=peers(a=1, c=1))
    said = person.does("vpn show backbone --patience 0").out
    assert "No way: a -> b\nNo way: a -> c\n" in said


def test_large_meshes_get_a_line_for_each_member(person, puppet, monkeypatch):
    monkeypatch.setattr("cnsmo.manage.vpn.WIDEST", 2)
    mesh(person, puppet)
    said = person.does("vpn show backbone --patience 0").out
    assert (
        "| a    | 10.66.0.1 | 2/2  | 12 s ago         | -            | 2.0 KiB  | 3.0 MiB |" in said
    )
    assert "| c    | 10.66.0.3 | 0/2  | -                | a, b         |" in said


def test_observations_are_made_now(person, hosts):
    hosts("web1", "web2", heartbeat=30)
    person.does("deployment list")
    person.does("apply -", "--wait", stdin=DOCUMENT)
    eventually(lambda: len(person.does("host list -f json").json) == 2)
    person.does("apply -", "--wait", stdin=DOCUMENT)
    rows = person.does("vpn show backbone -f json").json
    assert {(row["from"], row["to"], row["path"]) for row in rows} == {
        ("web1", "web2", "peer"),
        ("web2", "web1", "peer"),
    }
    observed = person.does("agent show web1 -f json").json["observed"]
    assert observed < 10
    person.does("host list --look")
    assert person.does("agent show web1 -f json").json["observed"] < 3


def test_members_that_do_not_answer_are_not_waited_for_long(person, puppet):
    mesh(person, puppet)
    person.does("vpn show backbone --patience 0.3")


def test_a_vpn_without_members(person):
    person.does("deployment create lab")
    person.does("apply -", stdin=DOCUMENT)
    assert "No host has a place in it yet." in person.does("vpn show backbone").out
    assert "declares no vpn 'nix', but vpn backbone" in person.fails(4, "vpn show nix")


def test_keys_are_rotated_on_command(person, puppet, operator):
    mesh(person, puppet)
    before = operator.deployment_show("lab").revision
    assert "would ask 3 members of VPN backbone" in person.does("vpn rotate backbone --dry-run").out
    assert operator.deployment_show("lab").revision == before
    assert "Asked 3 members" in person.does("vpn rotate backbone").out
    assert operator.deployment_show("lab").revision == before + 1
    person.fails(4, "vpn rotate nix")
    person.fails(4, "vpn rotate nix --dry-run")


def watched(person, line: str, cause) -> tuple[int, list[str], str]:
    """What `watch` says while something is caused again and again, until it ends."""
    said = []
    thread = threading.Thread(target=lambda: said.append(person.run(line)))
    thread.start()
    while thread.is_alive():
        cause()
        thread.join(0.05)
    return said[0].code, said[0].out.splitlines(), said[0].err


def test_events_are_printed_as_they_happen(person, puppet):
    host = puppet("web1")
    states = [State.READY, State.DEGRADED]

    def cause():
        host.reports(states[0], "because", revision=1)
        states.reverse()

    code, lines, _err = watched(person, "watch --type agent.degraded --host web* --count 1", cause)
    assert code == 0
    assert len(lines) == 1
    assert "lab  r" in lines[0]
    assert "agent.degraded" in lines[0]
    assert lines[0].endswith("web1/vpn          because")
    code, lines, _err = watched(
        person, "watch -d lab -f json --service vpn --type agent.* --count 2", cause
    )
    assert code == 0
    assert {json.loads(line)["type"] for line in lines} <= {"agent.ready", "agent.degraded"}
    code, lines, err = watched(person, "watch -d other --count 1 --timeout 1s", cause)
    assert (code, lines) == (9, [])
    assert "0 of 1 events came within 1 s" in err


def test_watch_ends_in_time(person):
    assert person.does("watch --timeout 0").out == ""
    assert "is no number" in person.fails(2, "watch --count 0")
    assert "is no duration" in person.fails(2, "watch --timeout x")
