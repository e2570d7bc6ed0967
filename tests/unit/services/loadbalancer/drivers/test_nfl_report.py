# SPDX-License-Identifier: Apache-2.0
"""What is told of a table: differences, figures, changes."""

import json

from cnsmo.services.loadbalancer.desired import Bind, Check, Checking
from cnsmo.services.loadbalancer.drivers import nfl_flows, nfl_report
from cnsmo.services.loadbalancer.drivers.leave import Leave
from cnsmo.services.loadbalancer.drivers.nfl_change import Loaded, plan
from cnsmo.services.loadbalancer.drivers.nfl_detail import Figures
from cnsmo.services.loadbalancer.drivers.nfl_health import Verdict
from cnsmo.services.loadbalancer.drivers.nfl_table import everything, mark
from cnsmo.services.loadbalancer.drivers.nfl_ways import Ways, ways
from cnsmo.services.loadbalancer.seen import LoadBalancerSeen
from tests.unit.services.loadbalancer.drivers.nfl_scenes import NOW, server, wanted

WELL = {f"10.66.0.{number} 80": True for number in range(10)}
UP = {key: Verdict(True, "connected", NOW, True) for key in WELL}


def listed(what, count=0):
    """As nft(8) lists the table when it was loaded."""
    entries = [{"metainfo": {}}, {"table": {"name": "cnsmo-lb-www"}}]
    entries += [{"map": {"name": f"clients-{version}"}} for version in (4, 6)]
    present = what.targets
    for name, chain in everything(what, present, present).items():
        body = {"name": name, "handle": 1}
        if chain.hook:
            hook = chain.hook
            body |= {"type": hook.kind, "hook": hook.name, "prio": hook.priority}
            body |= {"policy": "accept"}
        entries.append({"chain": body})
        entries += [
            {"rule": {"chain": name, "comment": comment,
                      "expr": ["odd", {"counter": {"packets": count, "bytes": 9}}]}}
            for comment in chain.comments
        ]  # fmt: skip
    return json.loads(json.dumps(entries))


def loaded(what):
    return plan(what, Loaded(), WELL, NOW).after


def test_what_is_there_as_loaded_has_not_drifted():
    what = wanted(server(1), server(2))
    assert nfl_report.drift(nfl_report.read(listed(what)), loaded(what)) == []


def test_every_difference_is_named():
    what = wanted(server(1), server(2))
    entries = listed(what)
    for entry in entries:
        body = next(iter(entry.values()))
        if body.get("name") == "prerouting":
            body["policy"] = "drop"
        if body.get("chain") == "allowed":
            body["comment"] = "another"
    entries = [it for it in entries if it.get("chain", {}).get("name") != "refuse"]
    entries = [it for it in entries if it.get("rule", {}).get("chain") != "refuse"]
    entries += [{"set": {"name": "mine"}}, {"chain": {"name": "mine"}}]
    assert nfl_report.drift(nfl_report.read(entries), loaded(what)) == [
        "the set mine was added by somebody",
        "the chain allowed was changed",
        "the chain mine was added by somebody",
        "the chain prerouting was changed",
        "the chain refuse is missing",
    ]
    assert nfl_report.drift(None, loaded(what)) == ["the table is missing"]
    assert nfl_report.drift(None, Loaded()) == ["the table is not loaded"]


def test_of_many_differences_some_are_told():
    what = wanted(*(server(number) for number in range(1, 101)))
    told = nfl_report.drift(nfl_report.read([]), loaded(what))
    assert len(told) == nfl_report.SHOWN + 1
    assert told[-1].startswith("... and ")


def test_changes_are_told():
    old = wanted(server(1), server(2), server(3), server(4))
    new = wanted(
        server(1, weight=2, name="other"), server(2, drain=True, backup=True), server(5),
        earlier=old, drain=9.0,
    )  # fmt: skip
    assert nfl_report.changes(old, new) == [
        "server other (10.66.0.1:80) has the weight 2, was web-1",
        "server web-2 (10.66.0.2:80) is drained, is a backup",
        "server web-5 (10.66.0.5:80) joins",
        "server web-3 (10.66.0.3:80) leaves",
        "server web-4 (10.66.0.4:80) leaves",
    ]
    back = wanted(server(1, weight=2, name="other"), server(2), server(3), earlier=new, drain=0.0)
    assert nfl_report.changes(new, back) == [
        "server web-2 (10.66.0.2:80) is not drained any more, is no backup any more",
        "server web-3 (10.66.0.3:80) is back",
        "server web-5 (10.66.0.5:80) leaves",
    ]
    assert nfl_report.changes(back, back) == []


def test_states_and_their_reasons():
    old = wanted(server(1), server(2), server(3, drain=True), server(4), server(5))
    what = wanted(server(1), server(2), server(3, drain=True), server(4), earlier=old, drain=9.0)
    verdicts = {
        "10.66.0.1 80": Verdict(True, "HTTP 200", NOW, True),
        "10.66.0.2 80": Verdict(False, "connection refused", NOW, True),
    }
    there = Loaded(leaving={"10.66.0.5 80": Leave(NOW, NOW + 9)})
    told = {it.name: nfl_report.standing(what, it, verdicts, there, NOW + 2) for it in what.targets}
    assert told == {
        "web-1": ("up", "HTTP 200"),
        "web-2": ("down", "connection refused"),
        "web-3": ("drain", "by an operator's word"),
        "web-4": ("down", "not checked yet"),
        "web-5": ("leaving", "its flows are ended in 7 s"),
    }
    none = wanted(server(1), check=Check(Checking.NONE))
    assert nfl_report.standing(none, none.targets[0], {}, Loaded(), NOW)[0] == "unchecked"


def test_problems_are_those_of_each_ip_version():
    what = wanted(server(1), server(2, address="fd66::2"))
    down = {key: Verdict(False, "refused", NOW, True) for key in ("10.66.0.1 80", "fd66::2 80")}
    assert nfl_report.problems(what, Loaded(), {}) == []  # the first checks are under way
    assert nfl_report.problems(what, Loaded(), down) == [
        "no server is up: new flows over IPv4 are refused",
        "no server is up: new flows over IPv6 are refused",
    ]
    assert nfl_report.problems(what, Loaded(usable=("fd66::2 80",)), down) == [
        "no server is up: new flows over IPv4 are refused"
    ]
    assert nfl_report.problems(wanted(), Loaded(), {}) == [
        "the pool has no servers: new flows are refused"
    ]


def test_figures_and_rates():
    what = wanted(server(1), binds=(Bind("10.0.0.1", 8080), Bind("", 81)))
    figures = Figures()
    lines = [
        "tcp 6 9 ESTABLISHED src=1.1.1.1 dst=10.0.0.1 sport=5 dport=8080 "
        "src=10.66.0.1 dst=10.0.0.1 sport=80 dport=5",
        "tcp 6 9 ESTABLISHED src=1.1.1.1 dst=10.0.0.7 sport=5 dport=81 "
        "src=10.66.0.1 dst=10.0.0.7 sport=80 dport=5",
    ]
    seen = nfl_report.read(listed(what, 10))
    first = figures.detail("web", what, UP, seen, Loaded(), nfl_flows.read(lines), 50.0)
    assert first["servers"]["web"]["web-1"] == {
        "state": "up", "why": "connected", "weight": 1, "backup": False,
        "address": "10.66.0.1:80", "sessions": 2, "total": 10, "rate": 0, "errors": None,
    }  # fmt: skip
    assert first["frontends"] == {
        "10.0.0.1:8080": {"sessions": 1, "total": 10, "rate": 0},
        "*:81": {"sessions": 1, "total": 10, "rate": 0},
    }
    seen = nfl_report.read(listed(what, 40))
    again = figures.detail("web", what, UP, seen, Loaded(), [], 52.0)
    assert again["servers"]["web"]["web-1"]["rate"] == 15
    anew = nfl_report.read(listed(what, 0))  # counted anew
    assert (
        figures.detail("web", what, UP, anew, Loaded(), [], 53.0)["frontends"]["*:81"]["rate"] == 0
    )
    assert (
        figures.detail("web", what, UP, None, Loaded(), [], 53.0)["frontends"]["*:81"]["total"] == 0
    )


def test_what_is_told_has_the_shape_that_operators_are_shown():
    what, figures = wanted(server(1), binds=(Bind("", 81),)), Figures()
    for total, now in ((10, 50.0), (13, 52.0)):
        seen = nfl_report.read(listed(what, total))
        LoadBalancerSeen.model_validate(figures.detail("web", what, UP, seen, Loaded(), [], now))


def test_the_comment_of_a_rule_is_of_its_text_alone():
    assert mark("counter") == mark("counter")
    assert mark("counter") != mark("counter accept")
    assert mark("counter", "web-1").startswith("web-1 ")


# --- ways ---------------------------------------------------------------------------------

LINKS = [
    {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "family": "inet", "scope": "host"}]},
    {"ifname": "eth0", "addr_info": [
        {"local": "10.0.0.1", "family": "inet", "scope": "global"},
        {"local": "fe80::1", "family": "inet6", "scope": "link"}]},
    {"ifname": "eth1", "addr_info": [{"local": "fd00::1", "family": "inet6", "scope": "global"}]},
    {"ifname": "cn-vpn", "addr_info": [{"local": "10.66.0.9", "family": "inet",
                                        "scope": "global"}]},
    {"ifname": "down0"},
]  # fmt: skip
VIA_VPN = [{"dst": "10.66.0.1", "dev": "cn-vpn"}]


def test_packets_are_passed_on_where_clients_and_answers_come_in():
    here = wanted(server(1), binds=(Bind("10.0.0.1", 80),))
    assert ways(here, LINKS, VIA_VPN) == Ways(("cn-vpn", "eth0"), (4,))
    everywhere = wanted(server(1))
    assert ways(everywhere, LINKS, VIA_VPN) == Ways(("cn-vpn", "eth0"), (4,))
    both = [*VIA_VPN, {"dst": "fd66::1", "dev": "cn-vpn"}]
    assert ways(everywhere, LINKS, both) == Ways(("cn-vpn", "eth0", "eth1"), (4, 6))


def test_nothing_is_passed_on_to_servers_on_this_very_host():
    local = [{"type": "local", "dst": "10.0.0.1", "dev": "lo"}, {"type": "unreachable"}]
    assert ways(wanted(server(1)), LINKS, local) == Ways()
