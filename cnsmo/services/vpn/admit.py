# SPDX-License-Identifier: Apache-2.0
"""Address allocation: stable for a host, never two owners, quarantined after removal.

Runs inside the transaction that locks the deployment, so that two cores never give out one address.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable

from cnsmo.model.names import IPAddress, IPNetwork
from cnsmo.model.resource import Row, View, joined, member_kind
from cnsmo.services.base import Refused
from cnsmo.services.vpn.spec import VpnSpec


def allocate(view: View, instance: str, host: str, spec: VpnSpec) -> tuple[str, ...]:
    """One address per pool of the VPN for a host.

    A host keeps the address it has, gets back the one it had, or takes the lowest free one.

    :raises Refused: when a pool is full; the text says how full and until when.
    """
    own_name = joined(instance, host)
    live = view.places("vpn", instance)
    own = live.pop(host, None)
    gone = {
        row.name: row
        for row in view.tombstones(member_kind("vpn"))
        if row.name.startswith(joined(instance, ""))
    }
    former = gone.pop(own_name, None)
    resting = {name: row for name, row in gone.items() if _rests(row, spec, view.now)}
    wanted = _addresses(row for row in (own, former) if row)
    taken = set(_addresses(live.values())) | set(_addresses(resting.values()))
    return tuple(str(_pick(pool, wanted, taken, instance, len(resting))) for pool in spec.pools)


def usable(pool: IPNetwork, address: IPAddress) -> bool:
    """Whether a host may bear that address: inside, and neither the network nor broadcast."""
    if address.version != pool.version or address not in pool:
        return False
    if address == pool.network_address:
        return False
    return pool.version == 6 or address != pool.broadcast_address


def _rests(row: Row, spec: VpnSpec, now: datetime.datetime | None) -> bool:
    if now is None:
        raise ValueError("allocation needs the core's clock in the view")
    return row.updated_at + datetime.timedelta(seconds=spec.quarantine) > now


def _addresses(rows: Iterable[Row]) -> list[IPAddress]:
    return [ipaddress.ip_address(text) for row in rows for text in row.body.get("addresses", ())]


def _pick(
    pool: IPNetwork, wanted: list[IPAddress], taken: set[IPAddress], instance: str, resting: int
) -> IPAddress:
    for address in wanted:
        if usable(pool, address) and address not in taken:
            return address
    for address in pool.hosts():
        if address not in taken and usable(pool, address):
            return address
    held = sum(1 for address in taken if address in pool)
    raise Refused(
        f"VPN {instance}: no address is left in {pool} ({held} in use, of which at most "
        f"{resting} rest after a removal): declare a larger cidr, or wait for the quarantine"
    )
