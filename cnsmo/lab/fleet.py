# SPDX-License-Identifier: Apache-2.0
"""The lab's hosts as cnsmo-manage shows them, and waiting for them by events."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from cnsmo.lab.errors import LabError
from cnsmo.lab.remote import RemoteHub
from cnsmo.model.errors import CnsmoError


@dataclasses.dataclass(frozen=True)
class Seen:
    """A host as ``cnsmo-manage host list`` has it."""

    name: str
    states: frozenset[str]
    revision: int
    address: str

    @property
    def ready(self) -> bool:
        """Whether all its agents are."""
        return self.states == {"ready"}


class Fleet:
    """Asks a hub, and hears its events for as long as the context lasts."""

    def __init__(self, hub: RemoteHub) -> None:
        self.hub = hub
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()

    def listen(self) -> None:
        """Hear the events of the hub that runs now, until it ends."""
        threading.Thread(target=self._hear, name="events", daemon=True).start()

    def hosts(self) -> dict[str, Seen]:
        """All hosts, by name."""
        listed = json.loads(self.hub.manage("host", "list", "-f", "json"))
        return {
            entry["name"]: Seen(
                name=entry["name"],
                states=frozenset(entry["state"].values()),
                revision=int(entry["revision"]),
                address=next((given[0] for given in entry["vpn_addresses"].values()), ""),
            )
            for entry in listed
        }

    def head(self) -> int:
        """The deployment's revision."""
        return int(json.loads(self.hub.manage("deployment", "show", "-f", "json"))["revision"])

    def wait(
        self,
        done: Callable[[dict[str, Seen]], bool],
        seconds: float,
        progress: Callable[[dict[str, Seen]], None] = lambda _hosts: None,
    ) -> dict[str, Seen]:
        """Look at the hosts, now and after each event, until done.

        :raises LabError: when that takes longer than so many seconds; says how things stand.
        """
        until = time.monotonic() + seconds
        while True:
            hosts = self.hosts()
            progress(hosts)
            if done(hosts):
                return hosts
            left = until - time.monotonic()
            if left <= 0:
                raise LabError(f"still not done after {seconds:g} s: {_standing(hosts)}")
            self._next(min(left, 1.0))

    def _next(self, seconds: float) -> None:
        """Wait for an event, and take all that came; heartbeats are no events, so not for ever."""
        with contextlib.suppress(queue.Empty):
            self._events.get(timeout=seconds)
            while True:
                self._events.get_nowait()

    def _hear(self) -> None:
        def sink(stream: str, text: str) -> None:
            for line in text.splitlines():
                if stream == "out" and line.startswith("{"):
                    self._events.put(json.loads(line))

        with contextlib.suppress(CnsmoError, OSError):
            self.hub.ask("manage", ["watch", "-f", "json"], "", sink)


def _standing(hosts: dict[str, Seen]) -> str:
    told = [f"{host.name} {'/'.join(host.states)} at {host.revision}" for host in hosts.values()]
    return ", ".join(told) or "no host"


def ready(names: Iterable[str], revision: int = 0) -> Callable[[dict[str, Seen]], bool]:
    """Whether exactly these hosts are there, all ready, none behind a revision."""
    wanted = set(names)

    def done(hosts: dict[str, Seen]) -> bool:
        return set(hosts) == wanted and all(
            host.ready and host.revision >= revision for host in hosts.values()
        )

    return done
