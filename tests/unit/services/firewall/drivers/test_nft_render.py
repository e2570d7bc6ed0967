# SPDX-License-Identifier: Apache-2.0
"""What is rendered is what the rules say, line by line; no value can add one."""

import dataclasses
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.errors import DriverError
from cnsmo.services.firewall.always import fallback
from cnsmo.services.firewall.desired import (
    SPOOFED,
    Action,
    Direction,
    FirewallDesired,
    Kind,
    Line,
    Part,
    Rate,
)
from cnsmo.services.firewall.drivers.guard import in_slot
from cnsmo.services.firewall.drivers.nft_render import (
    FINGERPRINT,
    Renderer,
    Ways,
    difference,
)

SSH = Line("perimeter/inbound/ssh", Action.ACCEPT, 4, "web_4", (), 6, ((22, 22),))
ANY = Line("perimeter/inbound/any", Action.DROP)


def firewall(*lines, **changed):
    parts = (
        Part(Kind.ALWAYS, Direction.INBOUND, {"": (ANY,)}),
        Part(Kind.ENFORCE, Direction.INBOUND, {"": lines}, Action.DROP),
        Part(Kind.ENFORCE, Direction.OUTBOUND, {"": ()}, Action.ACCEPT),
    )
    sets = {"web_4": ("10.0.0.1", "10.0.0.2"), "net_6": ("fd00::/64",)}
    return FirewallDesired("nftables", **{"parts": parts, "sets": sets, **changed})


def text_of(desired, ways=Ways()):  # noqa: B008
    return Renderer("shop/one/host").render(desired, ways).text


def chain_of(text, name):
    found = re.search(rf"\tchain {re.escape(name)}(?:\.a)? {{\n(.*?)\t}}\n", text, re.DOTALL)
    assert found, name
    return [line.strip() for line in found[1].splitlines()]


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        (SSH, ['ip saddr @web_4.a meta l4proto 6 th dport { 22 } counter accept comment "R"']),
        (ANY, ['counter drop comment "R"']),
        (dataclasses.replace(ANY, version=6), ['meta nfproto ipv6 counter drop comment "R"']),
        (
            Line("r", Action.REJECT, 6, "net_6", ("fd01::/64", "fd01::1", "fd02::5/128")),
            ["ip6 saddr @net_6.a ip6 daddr { fd01::/64, fd02::5 } counter goto do-reject.a "
             'comment "R"'],
        ),
        (
            Line("r", Action.DROP, 4, network="10.0.0.0/255.0.0.0", protocol=6),
            ['ip saddr 10.0.0.0/8 meta l4proto 6 counter drop comment "R"'],
        ),
        (
            Line("r", Action.ACCEPT, protocol=17, ports=((90, 99), (1, 5), (6, 7), (3, 4))),
            ['meta l4proto 17 th dport { 1-7, 90-99 } counter accept comment "R"'],
        ),
        (
            Line("r", Action.ACCEPT, protocol=58, types=(135, 128, 135)),
            ['meta l4proto 58 icmpv6 type { 128, 135 } counter accept comment "R"'],
        ),
        (Line("r", Action.DROP, protocol=47), ['meta l4proto 47 counter drop comment "R"']),
        (
            Line("r", Action.ACCEPT, limit=Rate(3, "minute")),
            [
                "meta nfproto ipv4 update @meter-0.a { ip saddr limit rate 3/minute burst 3 "
                'packets } counter accept comment "R"',
                "meta nfproto ipv6 update @meter-1.a { ip6 saddr limit rate 3/minute burst 3 "
                'packets } counter accept comment "R"',
            ],
        ),
        (
            Line("r", Action.DROP, log=Rate(1, "second")),
            ['counter goto log-0.a comment "R"'],
        ),
    ],
)  # fmt: skip
def test_a_line_becomes_these_rules(line, rules):
    chain = chain_of(text_of(firewall(line)), "inbound-1-underlay")
    assert chain == [
        *(rule.replace('"R"', f'"{line.rule}"') for rule in rules),
        'counter drop comment "inbound/default"',
    ]


def test_what_is_logged_is_logged_up_to_a_rate_before_its_verdict():
    text = text_of(firewall(dataclasses.replace(SSH, log=Rate(2, "hour"))))
    assert chain_of(text, "log-0") == [
        'limit rate 2/hour burst 2 packets log prefix "cnsmo perimeter/inbound/ssh "',
        "accept",
    ]


def test_outbound_sides_are_reversed():
    line = dataclasses.replace(SSH, local=("10.9.0.0/24",))
    part = Part(Kind.ENFORCE, Direction.OUTBOUND, {"": (line,)}, Action.DROP)
    rule = chain_of(text_of(firewall(parts=(part,))), "outbound-0-underlay")[0]
    assert rule.startswith("ip daddr @web_4.a ip saddr { 10.9.0.0/24 } ")


def test_an_audit_never_decides():
    realms = {"": (SSH, dataclasses.replace(ANY, log=Rate(1, "day")))}
    audit = Part(Kind.AUDIT, Direction.INBOUND, realms, Action.DROP, "new", Rate(1, "day"))
    text = text_of(firewall(parts=(audit,)))
    assert not re.search(r"\bdrop\b", text.replace("do-reject", ""))
    assert "policy accept" in text
    assert chain_of(text, "inbound-0-underlay")[-1] == 'counter comment "new/inbound/default"'


def test_what_stands_before_all_parts():
    desired = firewall(interfaces={"blue": "cn-blue"}, pools=("10.66.0.0/24", "fd66::/64"))
    ways = Ways({4: (("192.0.2.1", 5671),)}, {4: ("192.0.2.53",)})
    text = text_of(desired, ways)
    assert chain_of(text, "input")[:5] == [
        "type filter hook input priority filter; policy drop;",
        "iif lo accept",
        f'iifname != {{ "cn-blue" }} ip saddr @vpn-pools-4.a counter drop comment "{SPOOFED}"',
        f'iifname != {{ "cn-blue" }} ip6 saddr @vpn-pools-6.a counter drop comment "{SPOOFED}"',
        "ct state established,related accept",
    ]
    assert chain_of(text, "output")[3:6] == [
        "ip daddr . tcp dport @agent-core-4.a accept",
        "ip daddr @agent-dns-4.a udp dport 53 accept",
        "ip daddr @agent-dns-4.a tcp dport 53 accept",
    ]
    assert "add element inet cnsmo agent-core-4.a { 192.0.2.1 . 5671 }\n" in text
    assert chain_of(text, "inbound-1") == [
        'iifname vmap { "cn-blue" : goto inbound-1-vpn-blue.a }',
        "goto inbound-1-underlay.a",
    ]


def test_members_are_no_part_of_the_structure():
    renderer = Renderer("a/b/c")
    one = renderer.render(firewall(SSH), Ways())
    sets = {"web_4": ("10.0.0.2", "10.0.0.9"), "net_6": ("fd00::/64",)}
    two = renderer.render(firewall(SSH, sets=sets), Ways({4: (("192.0.2.1", 1),)}))
    assert one.structure.fingerprint == two.structure.fingerprint
    delta = difference(one.sets, two.sets)
    assert delta.told == [
        "set agent-core-4: 1 added, 0 removed", "set web_4: 1 added, 1 removed",
    ]  # fmt: skip
    assert delta.text("b") == (
        "delete element inet cnsmo web_4.b { 10.0.0.1 }\n"
        "add element inet cnsmo web_4.b { 10.0.0.9 }\n"
        "add element inet cnsmo agent-core-4.b { 192.0.2.1 . 1 }\n"
    )
    assert one.text.startswith(FINGERPRINT + one.structure.fingerprint + "\n")


def test_in_another_slot_names_are_others_and_nothing_else_is():
    line = dataclasses.replace(SSH, rule="p/inbound/@x.a", log=Rate(1, "hour"))
    desired = firewall(line, interfaces={"it.a": "cn.a"}, pools=("10.66.0.0/24",))
    text = text_of(desired)
    other = in_slot(text, "b")
    changed = [pair for pair in zip(text.split(), other.split(), strict=True) if pair[0] != pair[1]]
    assert {(a[-2:], b[-2:], a[:-2] == b[:-2]) for a, b in changed} == {(".a", ".b", True)}
    assert not any('"' in name for pair in changed for name in pair)
    assert "inbound-1-vpn-it.a.b" in other
    assert not re.search(r"[\w-]\.a[ ,;}\n]", re.sub('"[^"]*"', "", other))


@pytest.mark.parametrize(
    "changed",
    [
        {"parts": ()},
        {"interfaces": {"blue": "cn-blue"}},
        {"pools": ("10.66.0.0/24",)},
        {"sets": {"web_4": ("10.0.0.0/8",), "net_6": ("fd00::/64",)}},
    ],
)
def test_everything_else_is(changed):
    renderer = Renderer("a/b/c")
    before = renderer.render(firewall(SSH), Ways()).structure.fingerprint
    assert renderer.render(firewall(SSH, **changed), Ways()).structure.fingerprint != before


def test_networks_swallow_what_is_within_them():
    sets = {"web_4": ("10.0.0.7", "10.0.0.0/24", "10.0.0.0/30", "9.0.0.1/32", "10.0.1.0/24")}
    ruleset = Renderer("a/b/c").render(firewall(sets=sets), Ways())
    assert ruleset.sets["web_4"] == ("9.0.0.1", "10.0.0.0/24", "10.0.1.0/24")


def test_the_fallback_is_never_without_rules_where_something_is_enforced():
    text = text_of(fallback(firewall(SSH)))
    assert "policy drop" in text
    assert "ssh" not in text
    assert chain_of(text, "inbound-0-underlay") == ['counter drop comment "perimeter/inbound/any"']


def test_a_long_name_is_cut_and_stays_its_own():
    names = ["x" * 200 + end for end in ("a", "b")]
    text = text_of(firewall(*(Line(name, Action.DROP) for name in names)))
    comments = re.findall(r'comment "(x+~[0-9a-f]{8})"', text)
    assert len(set(comments)) == 2
    assert max(map(len, comments)) <= 100


NOT = [
    Line("r", Action.DROP, peers="web_4"),
    Line("r", Action.DROP, 6, peers="web_4"),
    Line("r", Action.DROP, 4, peers="nobody_4"),
    Line("r", Action.DROP, 4, local=("fd00::/64",)),
    Line("r", Action.DROP, 4, network="fd00::/64"),
    Line("r", Action.DROP, network="10.0.0.0/8"),
    Line("r", Action.DROP, ports=((1, 2),)),
    Line("r", Action.DROP, protocol=47, ports=((1, 2),)),
    Line("r", Action.DROP, protocol=6, ports=((2, 1),)),
    Line("r", Action.DROP, protocol=6, ports=((1, 65536),)),
    Line("r", Action.DROP, protocol=6, types=(1,)),
    Line("r", Action.DROP, 6, protocol=1),
    Line("r", Action.DROP, protocol=256),
    Line("r", Action.DROP, protocol=True),
    Line("r", Action.DROP, 5),
    Line("r", Action.DROP, limit=Rate(0, "second")),
    Line("r", Action.DROP, limit=Rate(1, "week")),
    Line("r", "burn"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("line", NOT)
def test_what_makes_no_sense_is_refused(line):
    with pytest.raises(DriverError):
        text_of(firewall(line))


hostile = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ['a"', 'a"; drop', "a\nflush ruleset", "a}", "@web_4", "10.0.0.1; accept", "$x", "a\\",
         "10.0.0.1, 0.0.0.0/0", "fe80::1%eth0", "*", "cn-*", "a b", "\x00", "è", "web_4\n", "#x"]
    ),
)  # fmt: skip
FIELDS = {
    "rule": lambda it: firewall(dataclasses.replace(SSH, rule=it)),
    "peers": lambda it: firewall(dataclasses.replace(SSH, peers=it), sets={it: ()}),
    "local": lambda it: firewall(dataclasses.replace(SSH, local=(it,))),
    "network": lambda it: firewall(dataclasses.replace(SSH, peers=None, network=it)),
    "protocol": lambda it: firewall(dataclasses.replace(SSH, protocol=it)),
    "ports": lambda it: firewall(dataclasses.replace(SSH, ports=((it, it),))),
    "unit": lambda it: firewall(dataclasses.replace(SSH, limit=Rate(1, it))),
    "log": lambda it: firewall(dataclasses.replace(SSH, log=Rate(it, "second"))),
    "version": lambda it: firewall(dataclasses.replace(SSH, version=it)),
    "action": lambda it: firewall(dataclasses.replace(SSH, action=it)),
    "member": lambda it: firewall(SSH, sets={"web_4": (it,)}),
    "set": lambda it: firewall(sets={it: ()}),
    "pool": lambda it: firewall(pools=(it,)),
    "interface": lambda it: firewall(interfaces={"blue": it}),
    "realm": lambda it: firewall(interfaces={it: "cn-x"}),
    "kind": lambda it: firewall(parts=(Part(it, Direction.INBOUND, {}),)),
    "direction": lambda it: firewall(parts=(Part(Kind.ALWAYS, it, {}),)),
    "instance": lambda it: firewall(
        parts=(Part(Kind.AUDIT, Direction.INBOUND, {}, Action.DROP, it),)
    ),
    "default": lambda it: firewall(parts=(Part(Kind.ENFORCE, Direction.INBOUND, {}, it),)),
    "label": lambda it: it,
}
HARMLESS = {
    "rule": r"[A-Za-z0-9._/:@+()~-]+", "peers": r"[\w.-]+_[46]", "set": r"[\w.-]+_[46]",
    "member": r"[0-9a-f.:/]+", "local": r"[0-9a-f.:/]+", "network": r"[0-9a-f.:/]+",
    "pool": r"[0-9a-f.:/]+",
    "interface": r"[\w.-]{1,15}", "realm": r"[\w.-]*", "instance": r"[A-Za-z0-9._/:@+()~-]*",
    "label": r"[\w./-]+", "kind": "always|audit|enforce", "direction": "inbound|outbound",
    "action": "accept|drop|reject", "default": "accept|drop|reject",
    "unit": "second|minute|hour|day",
}  # fmt: skip


@given(field=st.sampled_from(sorted(FIELDS)), value=hostile)
def test_a_hostile_value_is_refused_or_harmless(field, value):
    try:
        made = FIELDS[field](value)
        if field == "label":
            text = Renderer(made).render(firewall(SSH), Ways()).text
        else:
            text = text_of(made)
    except DriverError:
        return
    assert re.fullmatch(HARMLESS[field], value, re.ASCII), (field, value)
    assert text.count("{") == text.count("}")
    assert text.count("delete table") == 1


@given(st.lists(st.sampled_from([SSH, ANY, dataclasses.replace(SSH, log=Rate(1, "hour"))])))
def test_there_are_as_many_rules_as_lines(lines):
    text = text_of(firewall(*lines))
    rules = chain_of(text, "inbound-1-underlay")
    assert len(rules) == len(lines) + 1
    assert [re.findall('comment "(.*)"', rule)[0] for rule in rules[:-1]] == [
        line.rule for line in lines
    ]


def test_ten_thousand_lines_take_a_moment():
    lines = [dataclasses.replace(SSH, rule=f"p/inbound/{n}") for n in range(10_000)]
    began = time.process_time()
    text = text_of(firewall(*lines))
    assert time.process_time() - began < 2
    assert text.count("comment") == 10_000 + 4
