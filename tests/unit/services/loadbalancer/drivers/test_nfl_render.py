# SPDX-License-Identifier: Apache-2.0
"""No value can add a line to a table; and what is rendered is what was declared."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.errors import DriverError
from cnsmo.services.loadbalancer.desired import (
    Algorithm,
    Bind,
    Check,
    Checking,
    Mode,
    Persistence,
    Route,
    Timeouts,
    Tls,
    Vip,
)
from cnsmo.services.loadbalancer.drivers.nfl_change import Loaded, plan
from cnsmo.services.loadbalancer.drivers.nfl_probe import request
from cnsmo.services.loadbalancer.drivers.nfl_render import beyond, place, render
from cnsmo.services.loadbalancer.drivers.nfl_table import bind_rule, everything
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Wanted, parse
from tests.unit.services.loadbalancer.drivers.nfl_scenes import BOOT, NOW, balancer, server, wanted

WELL = {f"10.66.0.{number} 80": True for number in range(10)}


def text_of(what: Wanted) -> str:
    return plan(what, Loaded(), WELL, NOW).text


def chain(what: Wanted, name: str) -> list[str]:
    present = what.targets
    rules = everything(what, present, present)[name].rules
    return [rule.rpartition(" comment ")[0] for rule in rules]


# --- what is rendered ---------------------------------------------------------------------


def test_where_it_listens():
    binds = (Bind("", 80), Bind("fd00::1", 81), Bind("10.0.0.1", 81), Bind("", 80))
    what = wanted(server(1), binds=binds)
    assert what.binds == (("10.0.0.1", 81), ("fd00::1", 81), ("", 80))
    assert [bind_rule(what, it) for it in what.binds] == [
        "ip daddr 10.0.0.1 tcp dport 81 counter goto allowed",
        "ip6 daddr fd00::1 tcp dport 81 counter goto allowed",
        "tcp dport 80 counter goto allowed",
    ]
    assert chain(what, "prerouting") == ["tcp dport { 80, 81 } fib daddr type local goto dispatch"]
    assert [place(it) for it in what.binds] == ["10.0.0.1:81", "[fd00::1]:81", "*:80"]


def test_who_is_allowed():
    assert chain(wanted(), "allowed") == ["goto begin"]
    allow = ("10.0.0.0/8", "10.1.0.0/16", "fd00::/8", "192.0.2.1")
    assert chain(wanted(allow=allow), "allowed") == [
        "ip saddr { 10.0.0.0/8, 192.0.2.1 } goto begin",
        "ip6 saddr { fd00::/8 } goto begin",
        "goto refuse",
    ]
    assert chain(wanted(allow=("fd00::1",)), "allowed")[0] == "ip6 saddr { fd00::1 } goto begin"


def test_datagrams_have_no_opening_packet():
    assert chain(wanted(), "begin")[0].startswith("tcp flags ")
    udp = wanted(server(1), mode=Mode.UDP)
    assert chain(udp, "begin") == ["meta nfproto ipv4 goto find-4", "goto find-6"]
    assert chain(udp, "to-10.66.0.1-80") == ["meta l4proto udp counter dnat ip to 10.66.0.1:80"]


def test_remembering_clients_is_all_that_persistence_adds():
    plain = wanted(server(1), server(2))
    sticky = wanted(server(1), server(2), persistence=Persistence.SOURCE)
    assert "new-to-" not in text_of(plain)
    assert chain(plain, "find-4") == ["goto pick-4"]
    assert chain(sticky, "find-4")[-2:] == ["jump known", "goto pick-4"]
    ident = f"{sticky.targets[0].ident >> 16:x}:{sticky.targets[0].ident & 0xFFFF:x}"
    assert chain(sticky, "new-to-10.66.0.1-80") == [
        f"delete @clients-4 {{ ip saddr : {ident} }}",
        f"add @clients-4 {{ ip saddr : {ident} }}",
        "goto to-10.66.0.1-80",
    ]


def test_every_server_has_a_number_of_its_own_that_stays():
    many = wanted(*(server(n % 250 + 1, port=80 + n // 250) for n in range(2000)))
    idents = {it.key: it.ident for it in many.targets}
    assert len(set(idents.values())) == 2000
    assert min(idents.values()) >= 1 << 16
    assert wanted(server(7)).targets[0].ident == idents["10.66.0.7 80"]


def test_addresses_have_one_form():
    six = wanted(server(1, address="FD66:0:0::1")).targets[0]
    assert (six.key, six.chain) == ("fd66::1 80", "to-fd66..1-80")
    assert chain(wanted(server(1, address="fd66::1")), six.chain)[-1].endswith("[fd66::1]:80")


def test_what_is_wanted_survives_its_file():
    what = wanted(
        server(1), server(2, backup=True), allow=("10.0.0.0/8",), check=Check(Checking.HTTP)
    )
    assert parse(what.dump()) == what
    left = wanted(server(1), earlier=what)
    assert parse(left.dump()) == left


@pytest.mark.parametrize("text", [None, "", "{", "[]", "3", '{"table": 1}', "null"])
def test_a_torn_file_is_nothing(text):
    assert parse(text) is None


# --- who left -----------------------------------------------------------------------------


def after(earlier, *servers, gone=(), boot_id=BOOT):
    what = render("www", "a/b/c", balancer(*servers), earlier, gone, boot_id)
    return {it.name: it.leaving for it in what.targets}


def test_who_left_is_known_until_his_time_is_over():
    both = wanted(server(1), server(2))
    one = wanted(server(1), earlier=both)
    key = "10.66.0.2 80"
    assert after(both, server(1)) == {"web-1": False, "web-2": True}
    assert after(one, server(1)) == {"web-1": False, "web-2": True}
    assert after(one, server(1), gone={key}) == {"web-1": False}
    assert after(one, server(1), server(2), gone={key}) == {"web-1": False, "web-2": False}
    assert after(both, server(1), gone={key}) == {"web-1": False, "web-2": True}
    assert len(wanted(server(1), earlier=both, drain=0.0).targets) == 1


def test_after_the_host_went_down_nobody_is_leaving_any_more():
    both = wanted(server(1), server(2))
    one = wanted(server(1), earlier=both)
    assert after(one, server(1), boot_id="another") == {"web-1": False}
    assert after(both, server(1), boot_id="another") == {"web-1": False, "web-2": True}


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"mode": Mode.HTTP}, "mode: http"),
        ({"algorithm": Algorithm.URI}, "algorithm: uri"),
        ({"algorithm": Algorithm.FIRST}, "algorithm: first"),
        ({"persistence": Persistence.COOKIE}, "persistence: cookie"),
        ({"proxy": "v2"}, "proxy_protocol"),
        ({"accept_proxy": True}, "proxy_protocol"),
        ({"routes": (Route("web"),)}, "routes"),
        ({"tls": Tls(("/x.pem",))}, "tls"),
        ({"timeouts": Timeouts(connect=1.0)}, "timeouts"),
        ({"max_connections": 5}, "max_connections"),
        ({"vip": Vip("10.0.0.9/24", "10.0.0.1", (), 1, 1)}, "vip"),
        ({"binds": ()}, "no address to listen at"),
    ],
)
def test_what_it_cannot_do_is_named(changed, word):
    assert word in beyond(balancer(server(1), **changed))
    with pytest.raises(DriverError, match=word):
        wanted(server(1), **changed)


@pytest.mark.parametrize(
    "desired",
    [
        dataclasses.replace(balancer(), pools=()),
        dataclasses.replace(balancer(), pools=balancer().pools * 2),
        balancer(server(1), server(2, address="10.66.0.1")),
        balancer(server(1), binds=(Bind("10.66.0.1", 80),)),
        balancer(server(1, address="::ffff:10.66.0.1")),
        balancer(server(1, address="127.0.0.1")),
        balancer(server(1, address="fe80::1")),
        balancer(server(1, address="224.0.0.1")),
        balancer(server(1, address="0.0.0.0")),
        balancer(server(1, address="10.66.0.0/24")),
        balancer(server(1), binds=(Bind("127.0.0.1", 80),)),
    ],
)
def test_what_makes_no_sense_is_refused(desired):
    with pytest.raises(DriverError):
        render("www", "a/b/c", desired, None, (), BOOT)


# --- hostile values -----------------------------------------------------------------------

hostile = st.one_of(
    st.text(max_size=20),
    st.integers(-5, 70000),
    st.floats(allow_nan=True),
    st.none(),
    st.booleans(),
    st.sampled_from([
        "a\nflush ruleset", 'a"', "a; drop", "a}", "{", "@clients-4", "10.0.0.1; accept", "$x",
        "10.0.0.1\n", "10.0.0.1 : 5", "80\n", "fe80::1%eth0", "a b", "\x00", "è", "#x", "\\",
        "GET / HTTP/1.1\r\nX: y", "/ HTTP/1.0\r\n\r\n", "/a b", "::", "a" * 300, "-1", "1e3",
    ]),
)  # fmt: skip
FIELDS = {
    "name": lambda it: balancer(server(1, name=it)),
    "address": lambda it: balancer(server(1, address=it)),
    "port": lambda it: balancer(server(1, port=it)),
    "weight": lambda it: balancer(server(1, weight=it)),
    "backup": lambda it: balancer(server(1, backup=it)),
    "drain": lambda it: balancer(server(1, drain=it)),
    "bind": lambda it: balancer(server(1), binds=(Bind(it, 80),)),
    "bind port": lambda it: balancer(server(1), binds=(Bind("", it),)),
    "allow": lambda it: balancer(server(1), allow=(it,)),
    "mode": lambda it: balancer(server(1), mode=it),
    "algorithm": lambda it: balancer(server(1), algorithm=it),
    "persistence": lambda it: balancer(server(1), persistence=it),
    "seconds": lambda it: balancer(server(2), drain=it),
    "kind": lambda it: balancer(server(1), check=Check(it)),
    "interval": lambda it: balancer(server(1), check=Check(interval=it)),
    "timeout": lambda it: balancer(server(1), check=Check(timeout=it)),
    "rise": lambda it: balancer(server(1), check=Check(rise=it)),
    "fall": lambda it: balancer(server(1), check=Check(fall=it)),
    "method": lambda it: balancer(server(1), check=Check(method=it)),
    "path": lambda it: balancer(server(1), check=Check(path=it)),
    "host": lambda it: balancer(server(1), check=Check(host=it)),
    "status": lambda it: balancer(server(1), check=Check(statuses=((it, it),))),
}
RULES = re.compile(
    r"(add table|delete table|add map|add chain|flush chain|add rule) inet cnsmo-lb-www\b.*"
)


@given(
    field=st.sampled_from(sorted({*FIELDS, "unit", "label"})),
    value=hostile,
    sticky=st.booleans(),
)
def test_a_hostile_value_is_refused_or_harmless(field, value, sticky):
    earlier = wanted(server(1))
    try:
        if field in ("unit", "label"):
            names = {"unit": "www", "label": "a/b/c", field: value}
            what = render(
                **names, desired=balancer(server(1)), earlier=earlier, gone=(), boot_id=BOOT
            )
        else:
            desired = FIELDS[field](value)
            if sticky and field != "persistence":
                pool = dataclasses.replace(desired.pools[0], persistence=Persistence.SOURCE)
                desired = dataclasses.replace(desired, pools=(pool,))
            what = render("www", "a/b/c", desired, earlier, (), BOOT)
    except DriverError:
        return
    usual = wanted(server(1), persistence=Persistence.SOURCE if what.sticky else Persistence.NONE)
    text = text_of(what).replace(what.table, usual.table)
    assert words(text) <= words(text_of(usual))
    for line in text.splitlines():
        assert RULES.fullmatch(line), line
        assert line.count("{") == line.count("}")
        assert ";" not in line or not line.startswith("add rule")
    for target in what.targets:
        asked = request(target, what.check)
        assert asked.count(b"\r\n") == 6
        assert asked.count(b"\n") == 6
        assert asked.split(b"\r\n")[0].count(b" ") == 2
    assert parse(what.dump()) == what


def words(text: str) -> set[str]:
    """Those of a ruleset that are not in quotes."""
    return set(re.findall(r"(?<![\w.:/-])[a-z][a-z]+(?![\w.:/-])", re.sub(r'"[^"]*"', "", text)))
