# SPDX-License-Identifier: Apache-2.0
"""Which of the addresses that a host says to have are believed.

Others open their firewalls for them, and send requests there. So an address belongs to one host,
the one that said it first and is there; and an operator may say, with the token, within which
networks a host can be. The rest is left out of its row, and told.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from cnsmo.model.host import Host, HostFacts
from cnsmo.model.names import IPAddress
from cnsmo.model.resource import AGENT, HOST, joined
from cnsmo.state.changeset import Changeset


def believed(
    rows: Changeset, host: str, facts: HostFacts, bounds: Sequence[str]
) -> tuple[HostFacts, dict[str, str]]:
    """The facts without the addresses that are not believed, and those with the reason.

    Private ones are told apart within a site, public ones everywhere. Who is down for good may have
    lost its address to another, and who is in quarantine has none.
    """
    others = list(_rivals(rows, host, facts))
    near = _owners(it for it in others if it.site == facts.site)
    everywhere = _owners(others, public=True)
    disputed: dict[str, str] = {}

    def is_believed(address: IPAddress, owners: dict[IPAddress, str]) -> bool:
        if owner := owners.get(address):
            disputed[str(address)] = f"it is {owner}'s"
        elif bounds and not any(address in ipaddress.ip_network(it) for it in bounds):
            disputed[str(address)] = f"its token is for {', '.join(bounds)}"
        return str(address) not in disputed

    private = [it for it in facts.private if is_believed(ipaddress.ip_interface(it).ip, near)]
    public = [it for it in facts.public if is_believed(ipaddress.ip_address(it), near | everywhere)]
    kept = facts.model_copy(update={"private": tuple(private), "public": tuple(public)})
    return kept, disputed


def _rivals(rows: Changeset, host: str, facts: HostFacts) -> Iterator[Host]:
    """Other hosts that have one of its addresses, by name; of all others nothing is read."""
    claimed = {ipaddress.ip_interface(it).ip for it in (*facts.private, *facts.public)}
    for row in rows.mentioning(HOST, [f'"{address}' for address in sorted(map(str, claimed))]):
        if row.name == host or row.host.quarantined or claimed.isdisjoint(row.host.own_addresses):
            continue
        agents = rows.beneath(AGENT, joined(row.name, ""))
        if not agents or not all(agent.gone for agent in agents):
            yield row.host


def _owners(hosts: Iterable[Host], public: bool = False) -> dict[IPAddress, str]:
    """Whose an address is; the first by name, if several have it from before."""
    found: dict[IPAddress, str] = {}
    for host in hosts:
        for address in host.public_addresses if public else host.own_addresses:
            found.setdefault(address, host.name)
    return found
