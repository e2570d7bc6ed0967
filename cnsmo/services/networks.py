# SPDX-License-Identifier: Apache-2.0
"""What the installed services tell each other of a host, asked of all of them; pure over the view.

The VPNs are known here as networks, whatever service makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cnsmo.model.errors import CnsmoError
from cnsmo.model.resource import View
from cnsmo.services import registry
from cnsmo.services.base import Listener, Segment


def names(view: View) -> list[str]:
    """Names of all networks that services make, as rules say them after ``vpn:``."""
    return [name for some in _asked("networks", view) for name in some]


def segments(view: View, host: str) -> dict[str, Segment]:
    """The networks that a host is in, by name."""
    return {segment.name: segment for some in _asked("segments", view, host) for segment in some}


def listeners(view: View, host: str) -> list[Listener]:
    """The ports that services need open on a host."""
    return [listener for some in _asked("listens", view, host) for listener in some]


def _asked(method: str, *arguments: Any) -> Iterator[Any]:
    """What each service answers.

    :raises CnsmoError: naming the one that cannot: what is asked for must not do with half of it.
    """
    for name, service in registry.services().items():
        try:
            yield getattr(service, method)(*arguments)
        except Exception as exc:  # of a plugin: whose it is must be said
            raise CnsmoError(f"{name} cannot say its {method}: {exc}") from exc
