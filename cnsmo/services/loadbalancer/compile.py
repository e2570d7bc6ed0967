# SPDX-License-Identifier: Apache-2.0
"""From rows to the load balancers of one carrier; pure."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from cnsmo.model.host import Host
from cnsmo.model.names import IPInterface
from cnsmo.model.resource import View
from cnsmo.services.base import Segment
from cnsmo.services.kit.paths import call_address
from cnsmo.services.loadbalancer import desired as want
from cnsmo.services.loadbalancer.adjusted import Adjustment
from cnsmo.services.loadbalancer.spec import LoadBalancerSpec, Pool
from cnsmo.services.loadbalancer.terms import bind, statuses
from cnsmo.services.words import UNDERLAY_WORD

ROUTERS = 255
"""VRRP's ids are 1 to 255; the carriers of a VIP agree on one by its address."""
HIGHEST = 250
"""VRRP's priority of the first carrier; each next one has one less, but never under 1."""

NAMED = 5
"""So many hosts are told by name."""


def compile_balancer(
    view: View,
    spec: LoadBalancerSpec,
    host: str,
    segments: Mapping[str, Segment],
    adjusted: Mapping[str, Adjustment],
) -> want.LoadBalancerDesired:
    """One load balancer on one of its carriers.

    segments: the VPNs of the carrier, by name. adjusted: what operators said, by host.
    """
    scene = _Scene(view, view.hosts[host], segments, adjusted)
    check, problems, taken = _check(spec), [], scene.own(spec)
    pools = []
    for name, pool in spec.pools.items():
        servers, unreached, double = scene.servers(pool, taken)
        pools.append(
            want.Pool(
                name=name,
                servers=servers,
                algorithm=spec.algorithm,
                check=check,
                persistence=spec.persistence,
                cookie=spec.cookie if spec.persistence is want.Persistence.COOKIE else "",
                proxy=spec.proxy_protocol.send or "",
            )
        )
        if not servers:
            who = ", ".join(pool.group or pool.hosts)
            problems.append(f"pool {name} is empty: none of {who} is up and can be reached")
        elif unreached:
            problems.append(f"pool {name} is without {_some(unreached)}: {_why(pool)}")
        problems += [f"pool {name} is without {host}: {why}" for host, why in double.items()]
    vip, doubt = scene.vip(spec) if spec.vip else (None, "")
    return want.LoadBalancerDesired(
        driver=spec.driver,
        problems=tuple(filter(None, [*problems, doubt])),
        mode=spec.mode,
        binds=tuple(bind(place) for place in spec.listen),
        pools=tuple(pools),
        routes=tuple(
            want.Route(route.name or str(at), route.host, route.path or "")
            for at, route in enumerate(spec.routes, 1)
        ),
        tls=_tls(spec),
        timeouts=want.Timeouts(**spec.timeouts.model_dump()),
        max_connections=spec.max_connections or 0,
        accept_proxy=spec.proxy_protocol.accept,
        headers=want.Headers(
            spec.headers.forwarded,
            tuple(sorted(spec.headers.request.items())),
            tuple(sorted(spec.headers.response.items())),
        ),
        allow=tuple(sorted(spec.allow)),
        drain=spec.drain,
        distrusted=scene.view.distrusted,
        vip=vip,
    )


def serves(pool: Pool, host: Host) -> bool:
    """Whether a host is one of a pool's."""
    return host.name in pool.hosts or bool(pool.group and host.within(pool.group))


@dataclasses.dataclass(frozen=True)
class _Scene:
    """What a carrier sees of the others."""

    view: View
    me: Host
    segments: Mapping[str, Segment]
    adjusted: Mapping[str, Adjustment]

    def own(self, spec: LoadBalancerSpec) -> dict[str, str]:
        """Addresses that are the carrier's, and so no server's, with the reason."""
        binds = (bind(place).address for place in spec.listen)
        vip = (spec.vip or "").partition("/")[0]
        return dict.fromkeys(
            filter(None, (*self.me.own_texts, *binds, vip)), "is this balancer's own"
        )

    def servers(
        self, pool: Pool, taken: Mapping[str, str]
    ) -> tuple[tuple[want.Server, ...], list[str], dict[str, str]]:
        """The hosts of a pool that are up and can be reached, by name; who cannot be; and who says
        to be where another is, with the reason.

        Where the core says that all of them are gone, it may be the core that is: then all stay,
        and the driver's checks decide. taken: addresses of nobody else, with the reason.
        """
        serving = [host for host in self.view.hosts.values() if serves(pool, host)]
        found: list[want.Server] = []
        unreached: list[str] = []
        double: dict[str, str] = {}
        whose = dict(taken)
        for host in [host for host in serving if host.name not in self.view.gone] or serving:
            address = self._address(pool, host)
            if address is None:
                unreached.append(host.name)
                continue
            if address in whose and host.name != self.me.name:
                double[host.name] = f"its address {address} {whose[address]}"
                continue
            whose[address] = f"is {host.name}'s"
            said = self.adjusted.get(host.name, Adjustment())
            found.append(
                want.Server(
                    name=host.name,
                    address=address,
                    port=pool.port,
                    weight=_weight(pool, host) if said.weight is None else said.weight,
                    backup=host.name in pool.backup or host.within(pool.backup),
                    drain=said.drain,
                )
            )
        return tuple(found), unreached, double

    def _address(self, pool: Pool, host: Host) -> str | None:
        """Where the carrier reaches it over the network that the pool says."""
        if pool.via == UNDERLAY_WORD:
            return self._underlay(host)
        if pool.via is not None:
            return self._inside(pool.via.partition(":")[2], host)
        inside = (self._inside(name, host) for name in sorted(self.segments))
        return next(filter(None, inside), None) or self._underlay(host)

    def _inside(self, name: str, host: Host) -> str | None:
        segment = self.segments.get(name)
        if segment is None or self.me.name not in segment.members:
            return None
        return next(iter(segment.members.get(host.name, ())), None)

    def _underlay(self, host: Host) -> str | None:
        if host.name == self.me.name:
            return next((str(address) for address in host.own_addresses), None)
        address = call_address(self.me, host)
        return None if address is None else str(address)

    def vip(self, spec: LoadBalancerSpec) -> tuple[want.Vip | None, str]:
        """This carrier's part in holding the VIP; or why it has none.

        Carriers talk to each other inside a VPN that all of them are in, where nobody else can
        speak for one of them; else on the VIP's own network.
        """
        carriers = sorted(self.view.in_groups(spec.on))
        vip = ipaddress.ip_interface(spec.vip or "")
        inside = (self._together(name, carriers, vip.version) for name in sorted(self.segments))
        addresses = next(filter(None, inside), None) or self._near(carriers, vip)
        if self.me.name not in addresses:
            return None, f"the VIP {vip.ip} cannot be held here: no address in {vip.network}"
        others = tuple(addresses[name] for name in carriers
                       if name in addresses and name != self.me.name)  # fmt: skip
        made = want.Vip(
            address=str(vip),
            source=addresses[self.me.name],
            peers=others,
            router=int(vip.ip) % ROUTERS + 1,
            priority=max(HIGHEST - carriers.index(self.me.name), 1),
        )
        return made, ""

    def _together(self, network: str, hosts: Iterable[str], version: int) -> dict[str, str]:
        """Addresses of hosts in a VPN; empty where one of them has none there."""
        members = self.segments[network].members
        found = {
            host: address
            for host in hosts
            for address in members.get(host, ())
            if ipaddress.ip_address(address).version == version
        }
        return found if found.keys() == set(hosts) else {}

    def _near(self, hosts: Iterable[str], vip: IPInterface) -> dict[str, str]:
        """Addresses of hosts in the network that the VIP belongs to; of several the first."""
        found: dict[str, str] = {}
        for host in hosts:
            for own in self.view.hosts[host].interfaces:
                if own.ip in vip.network and own.ip != vip.ip:
                    found.setdefault(host, str(own.ip))
        return found


def _some(names: Sequence[str]) -> str:
    """Names, and of many the number."""
    told = ", ".join(sorted(names)[:NAMED])
    return told if len(names) <= NAMED else f"{told} and {len(names) - NAMED} more"


def _why(pool: Pool) -> str:
    """Why hosts of it cannot be reached."""
    if pool.via is None:
        return "in no VPN with the carrier, and nothing to call on the underlay"
    name = pool.via.partition(":")[2]
    return f"not in the VPN {name} (yet)" if name else "nothing to call on the underlay"


def _weight(pool: Pool, host: Host) -> int:
    """Its own, else the largest of its groups', else 1."""
    if host.name in pool.weights:
        return pool.weights[host.name]
    theirs = [weight for group, weight in pool.weights.items() if host.within([group])]
    return max(theirs, default=1)


def _check(spec: LoadBalancerSpec) -> want.Check:
    check = spec.checked
    return want.Check(
        kind=check.kind,
        interval=check.interval,
        timeout=check.timeout,
        rise=check.rise,
        fall=check.fall,
        method=check.method,
        path=check.http or "/",
        host=check.host or "",
        statuses=tuple(sorted(statuses(text) for text in check.status)),
    )


def _tls(spec: LoadBalancerSpec) -> want.Tls | None:
    if spec.tls is None:
        return None
    return want.Tls(
        certificates=spec.tls.certificates,
        minimum=spec.tls.minimum,
        client_ca=spec.tls.client_ca or "",
        redirects=tuple(bind(place) for place in spec.tls.redirect),
    )
