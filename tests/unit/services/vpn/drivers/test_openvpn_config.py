# SPDX-License-Identifier: Apache-2.0
"""What OpenVPN is told, and that nobody can make it hear anything else."""

import dataclasses
import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.errors import DriverError
from cnsmo.services.vpn.desired import Peer, VpnDesired
from cnsmo.services.vpn.drivers.openvpn_config import Plan, carrier, make_plan
from cnsmo.services.vpn.drivers.openvpn_options import OpenvpnOptions

ONE, TWO, THREE = (":".join([digit * 2] * 32) for digit in "ABC")
HUB = Peer(
    host="hub1",
    addresses=("10.66.0.1", "fd66::1"),
    endpoint="192.0.2.1:51820",
    allowed_ips=("10.66.0.0/24", "10.66.0.1/32", "fd66::/64", "fd66::1/128", "192.168.7.0/24"),
    keepalive=25,
    fingerprint=ONE,
    is_hub=True,
)
SPOKE = Peer(
    host="web1",
    addresses=("10.66.0.2", "fd66::2"),
    endpoint=None,
    allowed_ips=("10.66.0.2/32", "fd66::2/128", "192.168.7.0/24", "fd77::/64"),
    fingerprint=TWO,
    next_fingerprint=THREE,
)
ON_SPOKE = VpnDesired(
    driver="openvpn",
    name="backbone",
    addresses=("10.66.0.3/24", "fd66::3/64"),
    listen_port=51820,
    mtu=1420,
    peers=(HUB,),
    carrier="hub1",
)
ON_HUB = dataclasses.replace(
    ON_SPOKE,
    addresses=("10.66.0.1/24", "fd66::1/64"),
    peers=(SPOKE, dataclasses.replace(SPOKE, host="web2", addresses=("10.66.0.3",),
                                      allowed_ips=("10.66.0.3/32",), fingerprint="",
                                      next_fingerprint="")),
    is_hub=True,
    carrier="hub1",
)  # fmt: skip


def lines(plan: Plan) -> list[str]:
    assert plan.config is not None
    return plan.config.splitlines()


def with_options(desired: VpnDesired, **options: Any) -> VpnDesired:
    return dataclasses.replace(desired, options=options)


def with_hub(**changes: Any) -> VpnDesired:
    return dataclasses.replace(ON_SPOKE, peers=(dataclasses.replace(HUB, **changes),))


# --- what is said -----------------------------------------------------------------------------


def test_spoke_calls_the_hub_and_knows_it_by_its_fingerprints() -> None:
    plan = make_plan(with_hub(next_fingerprint=TWO), "cn-backbone")
    said = lines(plan)
    assert {"client", "proto udp4", "remote 192.0.2.1 51820", "nobind", "dev cn-backbone"} <= set(
        said
    )
    assert [line for line in said if "fingerprint" in line] == [
        f"peer-fingerprint {ONE}",
        f"peer-fingerprint {TWO}",
    ]
    assert plan.hub == "hub1"
    assert not plan.serves
    assert not plan.clients
    assert not any(line.startswith(("tls-verify", "script-security", "ca ")) for line in said)


def test_spoke_takes_nothing_from_the_hub_but_what_the_session_needs() -> None:
    filters = [line for line in lines(make_plan(ON_SPOKE, "tun")) if line.startswith("pull-filter")]
    assert filters[-1] == 'pull-filter ignore ""'
    assert len(filters) == 5


def test_hub_serves_and_asks_who_comes() -> None:
    plan = make_plan(ON_HUB, "cn-backbone")
    said = lines(plan)
    assert {"mode server", "proto udp6", "lport 51820", "multihome", "ccd-exclusive"} <= set(said)
    assert 'tls-verify "/bin/sh verify.sh"' in said
    assert "client-to-client" not in said
    assert "duplicate-cn" not in said
    assert plan.serves
    assert plan.members == {f"web1.{TWO.lower()}", f"web1.{THREE.lower()}"}
    assert plan.clients["web1"] == (
        "ifconfig-push 10.66.0.2 255.255.255.0\n"
        "ifconfig-ipv6-push fd66::2/64 fd66::1\n"
        "iroute 192.168.7.0 255.255.255.0\n"
        "iroute-ipv6 fd77::/64\n"
    )
    assert plan.networks["web1"] == {"10.66.0.2/32", "fd66::2/128", "192.168.7.0/24", "fd77::/64"}


def test_members_do_not_appear_in_the_hubs_configuration() -> None:
    """Otherwise it would have to start anew whenever one comes or goes."""
    fewer = dataclasses.replace(ON_HUB, peers=())
    assert make_plan(fewer, "tun").config == make_plan(ON_HUB, "tun").config


def test_mtu_and_addresses_do_not_appear_in_a_configuration() -> None:
    for desired in (ON_HUB, ON_SPOKE):
        other = dataclasses.replace(desired, mtu=1300)
        assert make_plan(other, "tun").config == make_plan(desired, "tun").config


def test_jumbo_frames_fit() -> None:
    assert "tun-mtu 16000" in lines(make_plan(dataclasses.replace(ON_HUB, mtu=16000), "tun"))


@pytest.mark.parametrize(
    ("options", "hub", "spoke"),
    [
        ({}, {"proto udp6", "lport 51820"}, {"proto udp4", "remote 192.0.2.1 51820"}),
        (
            {"protocol": "tcp", "port": 443},
            {"proto tcp6-server", "lport 443", "socket-flags TCP_NODELAY"},
            {"proto tcp4-client", "remote 192.0.2.1 443", "socket-flags TCP_NODELAY"},
        ),
        (
            {"cipher": "CHACHA20-POLY1305"},
            {"data-ciphers CHACHA20-POLY1305"},
            {"data-ciphers CHACHA20-POLY1305", "cipher CHACHA20-POLY1305"},
        ),
    ],
)
def test_options_are_followed(options: dict[str, Any], hub: set[str], spoke: set[str]) -> None:
    assert hub <= set(lines(make_plan(with_options(ON_HUB, **options), "tun")))
    assert spoke <= set(lines(make_plan(with_options(ON_SPOKE, **options), "tun")))


def test_endpoint_may_be_ipv6() -> None:
    said = lines(make_plan(with_hub(endpoint="[2001:db8::1]:51820"), "tun"))
    assert {"proto udp6", "remote 2001:db8::1 51820"} <= set(said)


def test_hub_without_ipv6_sockets_listens_on_ipv4() -> None:
    assert "proto udp4" in lines(make_plan(ON_HUB, "tun", dual_stack=False))


def test_short_keepalive_shortens_the_pings() -> None:
    assert "ping 1" in lines(make_plan(with_hub(keepalive=1), "tun"))
    assert "ping 3" in lines(make_plan(with_hub(keepalive=None), "tun"))


# --- who is the server ------------------------------------------------------------------------


def test_second_hub_is_a_client_of_the_carrier() -> None:
    second = dataclasses.replace(ON_SPOKE, is_hub=True, carrier="hub1")
    assert make_plan(second, "tun").hub == "hub1"
    alone = dataclasses.replace(second, carrier="hub2")
    assert make_plan(alone, "tun").serves


def test_spoke_takes_the_carrier_of_several_hubs() -> None:
    other = dataclasses.replace(HUB, host="hub2", addresses=("10.66.0.9",))
    both = dataclasses.replace(ON_SPOKE, peers=(HUB, other), carrier="hub2")
    found = carrier(both)
    assert found is not None
    assert found.host == "hub2"


def test_without_any_hub_nothing_runs() -> None:
    assert make_plan(dataclasses.replace(ON_SPOKE, peers=(), carrier=""), "tun").config is None


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("desired", "why"),
    [
        (dataclasses.replace(ON_SPOKE, peers=(SPOKE,)), "needs topology: hub"),
        (with_hub(endpoint=None), "no address that this host can call"),
        (with_hub(endpoint="192.0.2.1:0"), "0 is not a port"),
        (with_hub(endpoint="hub.example:51820"), "hub.example"),
        (with_hub(endpoint="fe80::1%eth0:51820"), "cannot stand in a configuration"),
        (with_hub(fingerprint=""), "no certificate yet"),
        (with_hub(fingerprint="AA:BB"), "not a SHA-256 fingerprint"),
        (with_hub(fingerprint=ONE + "\nplugin x.so"), "not a SHA-256 fingerprint"),
        (with_options(ON_HUB, protocol="sctp"), "protocol: "),
        (with_options(ON_HUB, cipher="NONE"), "cipher: "),
        (with_options(ON_HUB, port=0), "port: "),
        (with_options(ON_HUB, plugin="x.so"), "plugin: unknown key"),
        (dataclasses.replace(ON_HUB, listen_port=70000), "70000 is not a port"),
        (dataclasses.replace(ON_HUB, peers=(SPOKE, SPOKE)), "same name"),
        (
            dataclasses.replace(ON_HUB, peers=(SPOKE, dataclasses.replace(SPOKE, host="web2"))),
            "is claimed by web1 and web2",
        ),
        (
            dataclasses.replace(ON_HUB, addresses=("10.66.0.2/24", "fd66::1/64")),
            "10.66.0.2/32 is claimed by this hub and web1",
        ),
        (dataclasses.replace(ON_HUB, addresses=("10.66.0.1/24",)), "this hub has none"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(desired: VpnDesired, why: str) -> None:
    with pytest.raises(DriverError, match=re.escape(why)):
        make_plan(desired, "tun")


def test_options_have_a_schema_for_the_reference() -> None:
    schema = OpenvpnOptions.model_json_schema()
    assert set(schema["properties"]) == {"protocol", "port", "cipher"}
    assert all("description" in entry for entry in schema["properties"].values())


# --- nothing can be smuggled in ---------------------------------------------------------------

KNOWN = {
    "ca", "ccd-exclusive", "cert", "cipher", "client", "client-config-dir", "connect-freq-initial",
    "connect-retry", "connect-timeout", "data-ciphers", "dev", "dev-type", "dh", "disable-dco",
    "hand-window", "ifconfig-noexec", "keepalive", "key", "log-append", "lport", "management",
    "max-clients", "mode", "mssfix", "multihome", "nobind", "peer-fingerprint", "persist-key",
    "persist-tun", "ping", "ping-restart", "proto", "pull-filter", "remote", "route-noexec",
    "script-security", "socket-flags", "tls-server", "tls-timeout", "tls-verify",
    "tls-version-min", "topology", "tun-mtu", "verb",
}  # fmt: skip
CONSTANT = {'tls-verify "/bin/sh verify.sh"', 'pull-filter ignore ""'} | {
    f'pull-filter accept "{word} "'
    for word in ("peer-id", "cipher", "protocol-flags", "key-derivation")
}
SAFE = re.compile(r"[A-Za-z0-9.:/_=+-]+( [A-Za-z0-9.:/_=+-]+)*")
PUSHED = {"ifconfig-push", "ifconfig-ipv6-push", "iroute", "iroute-ipv6"}

nasty = st.one_of(
    st.text(max_size=30),
    st.text(alphabet=string.printable, max_size=30),
    st.sampled_from(
        ["up /bin/sh", "a\nplugin x", "1.2.3.4\n", "10.66.0.2", "10.66.0.2/24", "fd66::2", "web1",
         "fd66::/64\r\nup x", "<ca>", '"', "192.0.2.1:51820", "[fd66::1]:443 tcp", ONE, "٣.1.1.1",
         "fe80::1%x y", "10.0.0.0/24 #", "'"]
    ),
)  # fmt: skip


@st.composite
def spoiled(draw: st.DrawFn, good: str) -> str:
    """A good value, a bad one, or a good one with something before or behind it."""
    return draw(st.sampled_from([good, good, "%", f"{good}%", f"%{good}"])).replace(
        "%", draw(nasty)
    )


@st.composite
def spoiled_peers(draw: st.DrawFn, good: Peer) -> Peer:
    return dataclasses.replace(
        good,
        host=draw(spoiled(good.host)),
        addresses=tuple(draw(spoiled(text)) for text in good.addresses),
        endpoint=draw(st.none() | spoiled(good.endpoint or "")),
        allowed_ips=tuple(draw(spoiled(text)) for text in good.allowed_ips),
        keepalive=draw(st.none() | st.integers(-5, 5000)),
        fingerprint=draw(spoiled(good.fingerprint)),
        next_fingerprint=draw(spoiled(good.next_fingerprint)),
    )


@st.composite
def spoiled_desires(draw: st.DrawFn) -> VpnDesired:
    """As if every check before had failed; some things are left good, or nothing passes."""
    good = draw(st.sampled_from([ON_HUB, ON_SPOKE]))
    fields: dict[str, Any] = {
        "addresses": st.tuples(*(spoiled(text) for text in good.addresses)),
        "listen_port": st.integers(-1, 70000) | nasty,
        "mtu": st.integers(0, 70000) | nasty,
        "peers": st.tuples(*(spoiled_peers(peer) for peer in good.peers)),
        "carrier": nasty,
        "options": st.dictionaries(nasty | st.sampled_from(["port", "cipher", "protocol"]), nasty)
        | st.fixed_dictionaries({"protocol": st.sampled_from(["udp", "tcp"])}),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True))
    return dataclasses.replace(good, **{name: draw(fields[name]) for name in chosen})


@given(desired=spoiled_desires(), device=st.just("cn-backbone") | spoiled("cn-backbone"))
def test_no_desired_state_can_add_a_line_or_an_option(desired: VpnDesired, device: str) -> None:
    try:
        plan = make_plan(desired, device)
    except DriverError:
        return
    for line in plan.config.split("\n")[:-1] if plan.config else ():
        assert line in CONSTANT or SAFE.fullmatch(line), line
        assert line.split(" ")[0] in KNOWN, line
        assert len(line.split(" ")) <= 6
    for host, text in plan.clients.items():
        assert re.fullmatch(r"[a-z0-9-]+", host)
        for line in text.split("\n")[:-1]:
            assert SAFE.fullmatch(line), line
            assert line.split(" ")[0] in PUSHED, line
            assert len(line.split(" ")) <= 3
    for name in plan.members:
        assert re.fullmatch(r"[a-z0-9-]+\.[0-9a-f:]{95}", name)
    if plan.serves:
        assert {'tls-verify "/bin/sh verify.sh"', "ccd-exclusive"} <= set(lines(plan))
