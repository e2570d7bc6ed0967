# SPDX-License-Identifier: Apache-2.0
"""Whatever a host says that it saw, operators can look at all hosts, and see nothing but text."""

import pytest

from cnsmo.model.errors import NotFound

TRICK = "\x1b]0;pwned\x07\x1b[2J\u202eALL IS WELL\n| fine |"
DOCUMENT = """
deployment: lab
vpn: {backbone: {cidr: 10.66.0.0/16, driver: noop}}
firewall: {p: {driver: noop, inbound: [{from: any, to: web, protocol: tcp, ports: [80]}]}}
loadbalancer: {www: {driver: noop, on: web, listen: 80, pool: {group: web, port: 80}}}
"""
LOOKS = (
    "vpn show backbone --patience 0",
    "vpn show backbone --long --patience 0",
    "agent show web1 vpn",
    "host list",
    "host show web1",
    "firewall show --patience 0",
    "firewall show web1 --patience 0",
    "firewall diff web1 --patience 0",
    "loadbalancer show www --patience 0",
)
PEER = {"path": TRICK, "endpoint": TRICK, "handshake_age": 1.0}
RULE = {"part": "enforce", "rule": TRICK, "direction": TRICK, "packets": 3}
LIES = {
    "vpn": [
        {"backbone": {"peers": {"web2": PEER, TRICK: {"path": "direct"}}, "relayed": {"x": TRICK}}},
        {"backbone": {"peers": [1]}},
        {"backbone": {"peers": {"web2": 5}}},
        {"backbone": {"peers": {"web2": {"handshake_age": "x"}}}},
        {"backbone": {"peers": {"web2": {"handshake_age": 10**400}}}},
        {"backbone": {"peers": {"web2": {"handshake_age": {}, "rx": "x"}}}},
        {"backbone": 5},
        {TRICK: {}},
        {"left_out": {}},
    ],
    "firewall": [
        {"host": {"rules": [RULE], "sets": {TRICK: {"count": 1, "elements": [TRICK]}}}},
        {"host": {"refused": TRICK}},
        {"host": {"refused": 5, "trial": 5}},
        {"host": {"rules": [5]}},
        {"host": {"rules": [{"packets": "x"}], "sets": [1]}},
        {"host": {"trial": {"seconds_left": "x"}}},
    ],
    "loadbalancer": [
        {"www": {"servers": {"pool": {"web1": {"state": TRICK, "why": TRICK}}}}},
        {"www": {"servers": TRICK, "frontends": 5}},
        {"www": {"servers": {"pool": [5]}}},
        {"www": {"vip": TRICK, "frontends": {"*:80": {"sessions": "x"}}}},
    ],
}
TOLD = [(service, lie) for service, lies in LIES.items() for lie in lies]


@pytest.mark.parametrize(("service", "lie"), TOLD, ids=lambda it: ascii(it)[:60])
def test_no_lie_of_one_host_blinds_or_tricks_the_operator(person, puppet, service, lie):
    liar, other = puppet("web1"), puppet("web2")
    person.does("apply -", stdin=DOCUMENT)
    for host in (liar, other):
        host.announces()
    liar.reports(service=service, **lie)
    for look in LOOKS:
        said = person.run(look)
        differs = said.code == 1 and not said.err
        assert said.code in (0, NotFound.exit_code) or differs, said
        text = said.out + said.err
        assert all(char.isprintable() or char == "\n" for char in text), look
        assert not any(line.startswith("| fine |") for line in text.splitlines()), look
    assert "web2" in person.does("host list").out
