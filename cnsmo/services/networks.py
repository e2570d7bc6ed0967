# SPDX-License-Identifier: Apache-2.0
"""What the installed services tell each other of a host, asked of all of them; pure over the view.

The VPNs are known here as networks, whatever service makes them.
"""

from __future__ import annotations

from cnsmo.model.resource import View
from cnsmo.services import registry
from cnsmo.services.base import Listener, Segment


def names(view: View) -> list[str]:
    """Names of all networks that services make, as rules say them after ``vpn:``."""
    return [name for each in registry.services().values() for name in each.networks(view)]


def segments(view: View, host: str) -> dict[str, Segment]:
    """The networks that a host is in, by name."""
    found = (each.segments(view, host) for each in registry.services().values())
    return {segment.name: segment for some in found for segment in some}


def listeners(view: View, host: str) -> list[Listener]:
    """The ports that services need open on a host."""
    found = (each.listens(view, host) for each in registry.services().values())
    return [listener for some in found for listener in some]
