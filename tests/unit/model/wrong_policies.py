# SPDX-License-Identifier: Apache-2.0
"""Policies that are wrong, and what a person is told about each; see wrong_documents."""


def policy(spec: str) -> str:
    """A document with one firewall."""
    return f"deployment: shop\nfirewall:\n  perimeter: {spec}\n"


WRONG_POLICIES: dict[str, tuple[str, str]] = {
    "port 0": (
        policy("{inbound: [{protocol: tcp, ports: 0}]}"),
        "line 3: firewall.perimeter.inbound.0.ports: 0 is no port: 1 to 65535",
    ),
    "port 65536": (
        policy("{inbound: [{protocol: tcp, ports: 65536}]}"),
        "line 3: firewall.perimeter.inbound.0.ports: 65536 is no port: 1 to 65535",
    ),
    "a reversed range": (
        policy("{inbound: [{protocol: tcp, ports: 90-80}]}"),
        "line 3: firewall.perimeter.inbound.0.ports: 90-80 is reversed: did you mean 80-90?",
    ),
    "a port that nobody knows": (
        policy("{inbound: [{protocol: tcp, ports: htpp}]}"),
        "line 3: firewall.perimeter.inbound.0.ports: 'htpp' is no port: write 1 to 65535, a "
        "range as 8000-8100, or a service's name as http; did you mean 'http'?",
    ),
    "a port that is true": (
        policy("{inbound: [{protocol: tcp, ports: true}]}"),
        "line 3: firewall.perimeter.inbound.0.ports: a port is a number from 1 to 65535, a range "
        "as 8000-8100, or a name",
    ),
    "ports of a protocol without": (
        policy("{inbound: [{protocol: esp, ports: 80}]}"),
        "line 3: firewall.perimeter.inbound.0.ports: only tcp, udp and sctp have ports (write "
        "protocol: tcp)",
    ),
    "ports of no protocol": (
        policy("{inbound: [{ports: 80}]}"),
        "line 3: firewall.perimeter.inbound.0.ports: only tcp, udp and sctp have ports (write "
        "protocol: tcp)",
    ),
    "a protocol with a line break": (
        policy('{inbound: [{protocol: "tcp\\naccept"}]}'),
        "line 3: firewall.perimeter.inbound.0.protocol: 'tcp\\naccept' is no protocol: write "
        "any, a number up to 255, or one of icmp, igmp, tcp, udp, gre, esp, ah, icmpv6, ospf, "
        "vrrp, sctp, udplite",
    ),
    "a protocol above 255": (
        policy("{inbound: [{protocol: 256}]}"),
        "line 3: firewall.perimeter.inbound.0.protocol: 256 is no protocol: write any, a number "
        "up to 255, or one of icmp, igmp, tcp, udp, gre, esp, ah, icmpv6, ospf, vrrp, sctp, "
        "udplite",
    ),
    "a keyword with a quote as a name": (
        policy("{inbound: [{name: 'accept\" drop'}]}"),
        "line 3: firewall.perimeter.inbound.0.name: 'accept\" drop' is not a name: use 1 to 63 "
        "of a-z, 0-9 and '-', beginning and ending with a letter or a digit",
    ),
    "two rules of one name": (
        policy("{inbound: [{name: a}, {name: a}]}"),
        "line 3: firewall.perimeter.inbound: two rules are called a",
    ),
    "a number as a name": (
        policy("{inbound: [{name: '7'}]}"),
        "line 3: firewall.perimeter.inbound: 7 cannot be a rule's name: it looks like a number",
    ),
    "the default's name": (
        policy("{outbound: [{name: default}]}"),
        "line 3: firewall.perimeter.outbound: default cannot be a rule's name: it is that of no "
        "rule",
    ),
    "a source with host bits": (
        policy("{inbound: [{from: 10.0.0.1/8}]}"),
        "line 3: firewall.perimeter.inbound.0.from: 10.0.0.1/8 has host bits set: did you mean "
        "10.0.0.0/8?",
    ),
    "nobody as a source": (
        policy("{inbound: [{from: []}]}"),
        "line 3: firewall.perimeter.inbound.0.from: at least 1 is needed",
    ),
    "an unknown group": (
        policy("{inbound: [{from: wbe}]}"),
        "line 3: firewall.perimeter.inbound.0.from: 'wbe' is neither a group nor a host (did you "
        "mean 'web'? known: all, db, db1, web)",
    ),
    "an unknown VPN": (
        policy("{inbound: [{from: 'vpn:backbone'}]}"),
        "line 3: firewall.perimeter.inbound.0.from: no VPN 'backbone' is declared (known: none)",
    ),
    "a way that is no VPN": (
        policy("{inbound: [{via: overlay}]}"),
        "line 3: firewall.perimeter.inbound.0.via: no VPN 'overlay' is declared (known: none)",
    ),
    "IPv6 in a rule for IPv4": (
        policy("{inbound: [{from: '2001:db8::/32', protocol: icmp}]}"),
        "line 3: firewall.perimeter.inbound.0.from: the rule can match neither IPv4 nor IPv6: "
        "its parts are of different ones",
    ),
    "sources and targets of different versions": (
        policy("{inbound: [{from: 10.0.0.0/8, to: 'fd00::/8'}]}"),
        "line 3: firewall.perimeter.inbound.0.from: the rule can match neither IPv4 nor IPv6: "
        "its parts are of different ones",
    ),
    "a type of the other ICMP": (
        policy("{inbound: [{protocol: icmp, icmp: packet-too-big}]}"),
        "line 3: firewall.perimeter.inbound.0.icmp: packet-too-big is no type of this protocol "
        "(it has: echo-reply, destination-unreachable, redirect, echo-request, "
        "router-advertisement, router-solicitation, time-exceeded, parameter-problem, "
        "timestamp-request, timestamp-reply)",
    ),
    "types without ICMP": (
        policy("{inbound: [{protocol: tcp, icmp: echo-request}]}"),
        "line 3: firewall.perimeter.inbound.0.icmp: needs protocol: icmp or icmpv6",
    ),
    "an action that there is not": (
        policy("{inbound: [{action: allow}]}"),
        "line 3: firewall.perimeter.inbound.0.action: 'allow' is none of 'accept', 'drop' or "
        "'reject'",
    ),
    "a rate without a unit": (
        policy("{inbound: [{limit: 10}]}"),
        "line 3: firewall.perimeter.inbound.0.limit: 10 is no rate: write 10/second, with one of "
        "second, minute, hour, day",
    ),
    "an unknown key in a rule": (
        policy("{inbound: [{form: any}]}"),
        "line 3: firewall.perimeter.inbound.0.form: unknown key (did you mean 'from'? "
        "known: action, from, icmp, limit, log, name, ports, protocol, to, via)",
    ),
    "an unknown mode": (
        policy("{mode: log}"),
        "line 3: firewall.perimeter.mode: 'log' is none of 'enforce' or 'audit'",
    ),
    "hosts of no group": (
        policy("{hosts: wbe}"),
        "line 3: firewall.perimeter.hosts: no host is in the group 'wbe' and no token grants it "
        "(did you mean 'web'? known: all, db, web)",
    ),
    "no time to confirm": (
        policy("{confirm: 0}"),
        "line 3: firewall.perimeter.confirm: 0 is too small: at least 1",
    ),
    "an unknown driver": (
        policy("{driver: iptables}"),
        "line 3: firewall.perimeter.driver: no driver 'iptables' (did you mean 'nftables'? "
        "known: nftables, noop, security_group)",
    ),
    "a failsafe port of ICMP": (
        policy("{failsafe: {protocol: icmp, ports: 1}}"),
        "line 3: firewall.perimeter.failsafe.protocol: only tcp, udp and sctp have ports (write "
        "protocol: tcp)",
    ),
    "a test of any protocol": (
        policy("{tests: [{from: db, to: db, protocol: any, expect: accept}]}"),
        "line 3: firewall.perimeter.tests.0.protocol: a flow has one protocol "
        "(write tcp, udp, icmp, ...)",
    ),
    "a test without a port": (
        policy("{tests: [{from: db, to: db, expect: accept}]}"),
        "line 3: firewall.perimeter.tests.0.port: is needed for tcp, udp and sctp, and for "
        "nothing else",
    ),
    "a test of an unknown host": (
        policy("{tests: [{from: dbb, to: db1, port: 5, expect: accept}]}"),
        "line 3: firewall.perimeter.tests.0.from: 'dbb' is neither a group nor a host (did you "
        "mean 'db'? known: all, db, db1, web)",
    ),
    "a test that fails": (
        policy("{tests: [{from: 192.0.2.1, to: db1, port: 5432, expect: accept}]}"),
        "line 3: firewall.perimeter.tests.0: 192.0.2.1 to db1 (192.168.7.5), tcp/5432 over the "
        "underlay: drop by the default of inbound on db1; accept is expected (change the rule, "
        "or what the test expects)",
    ),
    "a service that is a list": (
        policy("[]"),
        "line 3: firewall.perimeter: keys and values are expected",
    ),
    "too many rules": (
        policy("{inbound: [" + "{}, " * 20_001 + "{}]}"),
        "line 3: firewall.perimeter.inbound: at most 20000 can be given",
    ),
}
