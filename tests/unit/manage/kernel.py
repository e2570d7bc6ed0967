# SPDX-License-Identifier: Apache-2.0
"""What an agent would observe: the report of the nftables driver on a table that is as desired."""

from collections.abc import Mapping
from typing import Any

from cnsmo.model.resource import Changes, View
from cnsmo.services.firewall.desired import FirewallDesired
from cnsmo.services.firewall.drivers import nft_report
from cnsmo.services.firewall.drivers.nft_kernel import Counted, Table
from cnsmo.services.firewall.drivers.nft_render import Renderer, Ways
from cnsmo.services.firewall.drivers.nft_text import ident


def present(rows: Changes) -> View:
    """The view over a snapshot."""
    return View(rows.deployment, rows.head, rows.rows)


def kernel(desired: FirewallDesired | None, packets: Mapping[str, int]) -> dict[str, Any]:
    """The observation; packets of 60 bytes, by rule, counted on the underlay."""
    assert desired is not None
    wanted = Renderer("shop/host").render(desired, Ways())
    counted = [Counted("input", "always/anti-spoofing", packets.get("always/anti-spoofing", 0), 0)]
    for chain, place in wanted.structure.places.items():
        (part,) = (
            part
            for part in desired.parts
            if (part.kind, part.instance, part.direction)
            == (place.part, place.instance, place.direction)
        )
        names = [ident(line.rule) for line in part.realms[place.realm]]
        if part.default is not None:
            owner = f"{part.instance}/" if part.instance else ""
            names.append(ident(f"{owner}{part.direction}/default"))
        for name in dict.fromkeys(names):
            hits = packets.get(name, 0) if not place.realm else 0
            counted.append(Counted(chain, name, hits, 60 * hits))
    table = Table((), tuple(counted), wanted.sets)
    return {"host": nft_report.detail(table, wanted.structure.places, wanted)}
