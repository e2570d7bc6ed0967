# SPDX-License-Identifier: Apache-2.0
"""From a VIP to keepalived.conf (keepalived 2.2 and later); pure.

VRRP version 3 (RFC 9568) between the carriers' own addresses. It has no passwords: packets of
others than the peers are not listened to, and who can forge a peer's address in the carriers'
network could take the VIP by ARP as well. A carrier that is alone for the time being has no peers
to tell from others, and speaks by multicast where the VIP is.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cnsmo.model.names import IPAddress, IPInterface
from cnsmo.services.loadbalancer.desired import Vip
from cnsmo.services.loadbalancer.drivers import hap_text as text

ADVERTS = "0.3"
"""Seconds between two signs of life. A carrier that gives three in a row is missed after 0.9 to
1.2 seconds (RFC 9568, 6.1)."""
TUNNEL_SECONDS = 6
"""How long one that just began listens for others inside a VPN before it holds anything: its
tunnels may not be up yet, and a lost first handshake costs WireGuard five seconds."""
SCRIPT_SECONDS = 3
"""A little more than the script itself waits for haproxy's answer."""
INSTANCE = "cnsmo"
ALIVE = "alive.py"


@dataclasses.dataclass(frozen=True)
class Place:
    """``device``: that the VIP is put on. ``speaker``: by which carriers talk to each other."""

    device: str
    speaker: str


def render_vip(vip: Vip, place: Place, folder: str, python: str) -> str:
    """The configuration.

    Who holds the VIP keeps it until it is gone or not well: each change cuts connections, so that
    coming back is no reason for one. Of several that begin together the first has it.

    folder: where haproxy's sockets are, and the script ALIVE that asks it. python: what runs that;
    "": nobody looks after haproxy, as in a user namespace of a single user, where keepalived cannot
    run anything (and takes that for a good answer).

    :raises DriverError: when a value cannot be rendered.
    """
    source, address = text.address(vip.source), interface_of(vip)
    device, speaker = text.device(place.device), text.device(place.speaker)
    speaker = speaker if vip.peers else device  # a VPN's need not know multicast
    peers = [text.address(it) for it in vip.peers]
    if any(it.version != source.version for it in peers) or source in peers:
        raise text.wrong("VIP's peers", vip.peers)
    lines = [
        "global_defs {",
        f"  router_id {INSTANCE}",
        "  vrrp_version 3",
        "  vrrp_check_unicast_src",
        "  vrrp_garp_master_refresh 60",
        *([f"  vrrp_startup_delay {TUNNEL_SECONDS}"] if speaker != device else []),
        "  script_user root",
        "  enable_script_security",
        "}",
        *(_watch(folder, python) if python else []),
        f"vrrp_instance {INSTANCE} {{",
        "  state BACKUP",
        "  nopreempt",
        f"  interface {speaker}",
        f"  virtual_router_id {text.number('virtual router', vip.router, 1, 255)}",
        f"  priority {text.number('priority', vip.priority, 1, 254)}",
        f"  advert_int {ADVERTS}",
        *_among(source, peers),
        *(_block("track_interface", [device]) if device != speaker else []),
        *(_block("track_script", [INSTANCE]) if python else []),
    ]
    places = [_put(address, device)]
    if address.version == source.version:
        lines += _block("virtual_ipaddress", places)
    else:
        lines += _block("virtual_ipaddress_excluded", places)
    return "".join(f"{line}\n" for line in [*lines, "}"])


def _among(source: IPAddress, peers: Sequence[IPAddress]) -> list[str]:
    """To whom it speaks; keepalived takes no empty list."""
    if not peers:
        return []
    return [f"  unicast_src_ip {source}", *_block("unicast_peer", map(str, peers))]


def _put(address: IPInterface, device: str) -> str:
    """The VIP so that nobody on this host takes it for the host's own: it is the source of no
    connection that begins here, and no fact that the agent tells others.

    The one of IPv4 is not of the global scope; keepalived marks a /128 as deprecated.
    """
    if address.version == 6:
        return f"{address.ip}/128 dev {device}"
    return f"{address.ip}/32 dev {device} scope link"


def _watch(folder: str, python: str) -> list[str]:
    """Each second; a haproxy that is back is believed in the second time."""
    where = text.file(folder)
    return [
        f"vrrp_script {INSTANCE} {{",
        f'  script "{text.file(python)} -I -S {where}/{ALIVE} {where}"',
        "  interval 1",
        f"  timeout {SCRIPT_SECONDS}",
        "  fall 1",
        "  rise 2",
        "}",
    ]


def interface_of(vip: Vip) -> IPInterface:
    """The VIP with its network.

    :raises DriverError: when it is no such thing.
    """
    address, slash, length = str(vip.address).partition("/")
    version = text.address(address).version
    if not slash or not length.isdecimal() or int(length) > (32 if version == 4 else 128):
        raise text.wrong("VIP", vip.address)
    return ipaddress.ip_interface(vip.address)


def place_of(vip: Vip, links: Sequence[dict[str, Any]]) -> Place | str:
    """Where the VIP belongs on this host; why it belongs nowhere.

    It is put on the interface that has an address in its network; the smallest one, if several.
    links: as ``ip -j address show`` has them.
    """
    wanted, source = interface_of(vip).ip, text.address(vip.source)
    found, speakers = [], []
    for name, address, length in _addresses(links):
        network = ipaddress.ip_network(f"{address}/{length}", strict=False)
        found += [(length, name)] if wanted in network and address != wanted else []
        speakers += [name] if address == source else []
    if not found:
        return f"no interface of this host is in the network of the VIP {vip.address}"
    if not speakers:
        return f"this host has no address {source}, by which it would speak of the VIP"
    return Place(max(found)[1], speakers[0])


def holds(vip: Vip, links: Iterable[dict[str, Any]]) -> bool:
    """Whether this host has the VIP."""
    wanted = interface_of(vip).ip
    return any(address == wanted for _name, address, _length in _addresses(links))


def _addresses(links: Iterable[dict[str, Any]]) -> Iterator[tuple[str, IPAddress, int]]:
    for link in links:
        for info in link.get("addr_info", ()):
            if "local" in info:
                address = ipaddress.ip_address(info["local"])
                yield str(link["ifname"]), address, int(info["prefixlen"])


def _block(name: str, lines: Iterable[str]) -> list[str]:
    return [f"  {name} {{", *(f"    {line}" for line in lines), "  }"]
