# SPDX-License-Identifier: Apache-2.0
"""What happened in a run, as the judges read it. Times are seconds since its beginning."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from tests.chaos.schedule import Fault


@dataclasses.dataclass(frozen=True)
class Happened:
    """A fault as it came about: when it really began and ended; why not, where it did not."""

    fault: Fault
    begun: float
    ended: float
    failed: str = ""


@dataclasses.dataclass(frozen=True)
class Flow:
    """Packets that are sent again and again. ``kind``: udp, tcp or http.

    ``pool``: of a flow to a load balancer, the VMs that serve; one that is well is enough.
    """

    kind: str
    source: str
    target: str
    address: str
    port: int
    allowed: bool
    pool: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind} {self.source} -> {self.target} ({self.address}:{self.port})"


@dataclasses.dataclass(frozen=True)
class Answer:
    """One probe of a flow: when it was sent, and whether the answer came in time."""

    flow: Flow
    at: float
    ok: bool


@dataclasses.dataclass(frozen=True)
class Arrival:
    """Something that came through to a VM at a port that no policy opens."""

    vm: str
    port: int
    sender: str
    at: float


class Outcome(enum.StrEnum):
    """What an operator was told who applied a document."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """Nobody answered: it may have been written, or be written yet."""


@dataclasses.dataclass(frozen=True)
class Apply:
    """A document that somebody applied. ``marker``: what makes it this one and no other."""

    marker: int
    wanted: bool
    """Whether it is one that the core has to accept."""
    outcome: Outcome
    revision: int
    at: float
    said: str = ""


@dataclasses.dataclass(frozen=True)
class Copy:
    """What somebody held of the state at one moment: the replica on a VM's disk, or the core.

    ``history``: under which identity a VM had joined; numbers of different ones have no order.
    ``digest``: of all declared rows, by which two copies of one revision are compared.
    ``markers``: of the documents that are in it.
    """

    holder: str
    history: str
    revision: int
    digest: str
    markers: frozenset[int]
    owners: Mapping[str, tuple[str, ...]]
    """VPN addresses, by the hosts that own them."""
    at: float


@dataclasses.dataclass(frozen=True)
class Calm:
    """How things stood after a minute without faults.

    ``told``: the markers in the core's document. ``behind``: agents that are not ready at the
    core's revision, and what they say. ``open``: by VM, the markers whose port lets packets in.
    """

    told: frozenset[int]
    behind: Mapping[str, str]
    open: Mapping[str, frozenset[int]]
    at: float


@dataclasses.dataclass(frozen=True)
class History:
    """All of it. ``watched``: since when traffic has to flow, and until when."""

    sites: Mapping[str, str]
    watched: tuple[float, float]
    faults: tuple[Happened, ...]
    flows: tuple[Flow, ...]
    answers: tuple[Answer, ...]
    arrivals: tuple[Arrival, ...]
    applies: tuple[Apply, ...]
    copies: tuple[Copy, ...]
    calm: Calm
    left: tuple[str, ...]
    """What was still there after everything had been removed."""


@dataclasses.dataclass(frozen=True)
class Breach:
    """An invariant that did not hold: which, when, and who has to do with it."""

    invariant: str
    at: float
    who: tuple[str, ...]
    what: str
