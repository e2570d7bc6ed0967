# SPDX-License-Identifier: Apache-2.0
"""From rows to the desired state of one host's VPNs; pure."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import itertools
from collections.abc import Hashable, Mapping

from cnsmo.model.host import Host
from cnsmo.model.lifecycle import GONE, State
from cnsmo.model.names import IPNetwork
from cnsmo.model.reading import read
from cnsmo.model.resource import AGENT, View, joined
from cnsmo.services.kit.paths import call_address, direct, endpoint, inner_mtu, single, standing
from cnsmo.services.vpn.admit import usable
from cnsmo.services.vpn.desired import Peer, VpnDesired
from cnsmo.services.vpn.spec import Topology, VpnMember, VpnSpec


def compile_vpn(view: View, name: str, spec: VpnSpec, host: str) -> VpnDesired | None:
    """Desired state of one VPN on one host; None when the host is none of its.

    Before the host has its place, it has no address yet, but its peers already: so that it answers
    from the moment on at which the others know of it.
    """
    if host not in view.hosts or not belongs(spec, view.hosts[host]):
        return None
    scene = _scene(view, name, spec)
    own = scene.members.get(host)
    links = _hub_links(scene, host) if spec.topology is Topology.HUB else _mesh_links(scene, host)
    gateway_for = tuple(sorted(route.subnet for route in spec.routes if route.via == host))
    return VpnDesired(
        driver=spec.driver,
        problems=(*links.problems, *_of_facts(spec, scene.hosts[host])),
        name=name,
        waiting=own is None,
        addresses=tuple(_with_prefix(spec, address) for address in own.addresses) if own else (),
        listen_port=spec.listen_port,
        mtu=spec.mtu or max(_least_mtu(spec), inner_mtu(scene.hosts[host].mtu)),
        peers=tuple(links.peers(scene, host)),
        routes=tuple(sorted(subnet for subnet, _via in _routes(scene, host))) if own else (),
        forward=bool(gateway_for) or host in scene.hubs or host in scene.relays,
        gateway_for=gateway_for,
        is_hub=host in scene.hubs,
        relayed=tuple(sorted(links.relayed.items())),
        options=dict(spec.driver_options),
        carrier=next(iter(scene.hubs), ""),
    )


def _of_facts(spec: VpnSpec, me: Host) -> list[str]:
    """What is wrong with what this host says of itself."""
    found = [f"{it} is not believed to be this host's: {why}" for it, why in me.disputed.items()]
    for pool, network in itertools.product(spec.pools, underlay(me)):
        if pool.version == network.version and pool.overlaps(network):
            found.append(f"{pool} overlaps {network}, this host's own network")
    return found


def underlay(host: Host) -> list[IPNetwork]:
    """The networks that a host is in, and its public addresses."""
    networks = [interface.network for interface in host.interfaces]
    return [*networks, *(ipaddress.ip_network(address) for address in host.public_addresses)]


def peer_hosts(view: View, name: str, spec: VpnSpec, host: str) -> frozenset[str]:
    """Names of a member's peers, without all that compile_vpn() works out for each."""
    scene = _scene(view, name, spec)
    if spec.topology is Topology.HUB and host not in scene.hubs:
        return frozenset(scene.hubs)
    # In a mesh, a relay is among those that are called directly.
    everybody = frozenset(scene.members)
    found = everybody if spec.topology is Topology.HUB else scene.within_reach(host)
    return found - {host}


def addresses(view: View, name: str, spec: VpnSpec) -> Mapping[str, tuple[str, ...]]:
    """The addresses of all members of a VPN that have their place, by host."""
    return _scene(view, name, spec).addresses


def belongs(spec: VpnSpec, host: Host) -> bool:
    """Whether a host is a member: by the members' groups, or as a hub or relay."""
    return host.within(group for group in (*spec.members, spec.hub, spec.relay) if group)


def fits(spec: VpnSpec, member: VpnMember) -> bool:
    """Whether a member's row is what the current spec asks for: driver and addresses."""
    addresses = [ipaddress.ip_address(text) for text in member.addresses]
    return (
        member.driver == spec.driver
        and len(addresses) == len(spec.pools)
        and all(usable(pool, addr) for pool, addr in zip(spec.pools, addresses, strict=True))
    )


def _scene(view: View, name: str, spec: VpnSpec) -> _Scene:
    """The scene of a VPN that a view holds; the same for all hosts."""
    return view.once(("vpn", "scene", name), lambda: _Scene.of(view, name, spec))


@dataclasses.dataclass(frozen=True)
class _Scene:
    """What both topologies look at: the members that have a place, and who passes packets on."""

    spec: VpnSpec
    hosts: Mapping[str, Host]
    members: Mapping[str, VpnMember]
    hubs: tuple[str, ...]
    relays: tuple[str, ...]

    @functools.cached_property
    def addresses(self) -> Mapping[str, tuple[str, ...]]:
        """The members' addresses."""
        return {host: member.addresses for host, member in self.members.items()}

    def within_reach(self, host: str) -> frozenset[str]:
        """The members that a host can call, or that can call it; itself may be among them.

        Asked once for all hosts that stand alike, most often a site's: in a mesh of all, asking
        for each pair is most of the work.
        """
        me = self.hosts[host]
        key = standing(me)
        if key not in self._reached:
            self._reached[key] = frozenset(
                other
                for others in self._alike.values()
                if direct(me, self.hosts[others[0]])
                for other in others
            )
        return self._reached[key]

    @functools.cached_property
    def _reached(self) -> dict[Hashable, frozenset[str]]:
        return {}

    @functools.cached_property
    def _alike(self) -> dict[Hashable, list[str]]:
        found: dict[Hashable, list[str]] = {}
        for host in self.members:
            found.setdefault(standing(self.hosts[host]), []).append(host)
        return found

    @classmethod
    def of(cls, view: View, name: str, spec: VpnSpec) -> _Scene:
        members = {}
        for host, row in view.members("vpn", name).items():
            member = read(VpnMember, row.body)
            known = view.hosts.get(host)
            if known is not None and belongs(spec, known) and fits(spec, member):
                members[host] = member
        return cls(
            spec=spec,
            hosts=view.hosts,
            members=members,
            hubs=_carriers(view, members, spec.hub),
            relays=_carriers(view, members, spec.relay),
        )


def _carriers(view: View, members: Mapping[str, VpnMember], group: str | None) -> tuple[str, ...]:
    """Hosts of a group that carry others' packets, those that are up first, then by name."""
    if group is None:
        return ()
    hosts = [host for host in view.in_groups([group]) if host in members]

    def gone(host: str) -> bool:
        row = view.get(AGENT, joined(host, "vpn"))
        return row is not None and State(row.body["state"]) in GONE

    return tuple(sorted(hosts, key=lambda host: (gone(host), host)))


class _Links:
    """What leads where, collected per peer."""

    def __init__(self) -> None:
        self.networks: dict[str, list[str]] = {}
        self.relayed: dict[str, str] = {}
        self.problems: list[str] = []

    def lead(self, peer: str, networks: list[str]) -> None:
        self.networks.setdefault(peer, []).extend(networks)

    def peers(self, scene: _Scene, host: str) -> list[Peer]:
        return [_peer(scene, host, other, self.networks[other]) for other in sorted(self.networks)]


def _peer(scene: _Scene, host: str, other: str, networks: list[str]) -> Peer:
    spec, me, them = scene.spec, scene.hosts[host], scene.hosts[other]
    own, member = scene.members.get(host), scene.members[other]
    called, called_back = call_address(me, them), call_address(them, me) is not None
    first = own is not None and (not called_back or _rank(own) < _rank(member))
    return Peer(
        host=other,
        addresses=member.addresses,
        endpoint=endpoint(called, spec.listen_port),
        allowed_ips=tuple(sorted(set(networks))),
        keepalive=None if called_back or own is None else spec.keepalive,
        calls=called is not None and first,
        public_key=member.public_key or "",
        next_public_key=member.next_public_key or "",
        fingerprint=member.fingerprint or "",
        next_fingerprint=member.next_fingerprint or "",
        is_hub=other in scene.hubs,
    )


def _rank(member: VpnMember) -> tuple[int, ...]:
    """Of two members that can call each other, the lesser rank does.

    Newcomers get the higher addresses most often, and know the others before those know them: so
    who calls is mostly who learns of the other last.
    """
    return tuple(int(ipaddress.ip_address(address)) for address in member.addresses)


def _mesh_links(scene: _Scene, host: str) -> _Links:
    links = _Links()
    me = scene.hosts[host]
    for other in scene.members:
        if other == host:
            continue
        networks = _behind(scene, host, other)
        if direct(me, scene.hosts[other]):
            links.lead(other, networks)
            continue
        relay = _relay(scene, host, other)
        if relay is None:
            links.problems.append(
                f"no path to {other}: neither side can call the other; "
                "declare a relay group that both can reach, or tell under which address one of "
                "them is called from outside ([host] public_addresses)"
            )
        else:
            links.lead(relay, networks)
            links.relayed[other] = relay
    return links


def _relay(scene: _Scene, host: str, other: str) -> str | None:
    """The first relay that both sides reach; the same from either side."""
    for relay in scene.relays:
        third = scene.hosts[relay]
        if relay in (host, other):
            continue
        if direct(scene.hosts[host], third) and direct(scene.hosts[other], third):
            return relay
    return None


def _hub_links(scene: _Scene, host: str) -> _Links:
    links = _Links()
    if not scene.hubs:
        links.problems.append(f"no host of the group {scene.spec.hub} has joined the VPN yet")
        return links
    first = scene.hubs[0]
    if host in scene.hubs:
        for other in scene.members:
            if other != host:
                _reach(scene, host, other, links)
                links.lead(other, _behind(scene, host, other))
        return links
    for hub in scene.hubs:
        _reach(scene, host, hub, links)
        links.lead(hub, [single(address) for address in scene.members[hub].addresses])
    links.lead(first, list(scene.spec.cidr))
    for subnet, via in _routes(scene, host):
        # A hub takes nobody's packets from another hub: a gateway that is one is asked itself.
        links.lead(via if via in scene.hubs else first, [subnet])
    links.relayed = {
        other: first for other in scene.members if other != host and other not in scene.hubs
    }
    return links


def _reach(scene: _Scene, host: str, other: str, links: _Links) -> None:
    """Note when there is no way to a hub, or from a hub to a member."""
    if not direct(scene.hosts[host], scene.hosts[other]):
        links.problems.append(
            f"no path to {other}: neither side can call the other; "
            "the hub needs an address that every member can reach"
        )


def _behind(scene: _Scene, host: str, other: str) -> list[str]:
    """The networks that are reached at another member: its addresses, and its routed subnets."""
    networks = [single(address) for address in scene.members[other].addresses]
    return networks + [subnet for subnet, via in _routes(scene, host) if via == other]


def _routes(scene: _Scene, host: str) -> list[tuple[str, str]]:
    """Routed subnets that this host reaches through the VPN: not its own, not those it is in."""
    near = [interface.network for interface in scene.hosts[host].interfaces]
    return [
        (route.subnet, route.via)
        for route in scene.spec.routes
        if route.via != host
        and route.via in scene.members
        and not any(
            net.version == ipaddress.ip_network(route.subnet).version
            and net.overlaps(ipaddress.ip_network(route.subnet))
            for net in near
        )
    ]


def _least_mtu(spec: VpnSpec) -> int:
    """Bytes that every link must carry: RFC 8200 for IPv6, RFC 791 for IPv4."""
    return 1280 if any(pool.version == 6 for pool in spec.pools) else 576


def _with_prefix(spec: VpnSpec, address: str) -> str:
    version = ipaddress.ip_address(address).version
    pool = next(pool for pool in spec.pools if pool.version == version)
    return f"{address}/{pool.prefixlen}"
