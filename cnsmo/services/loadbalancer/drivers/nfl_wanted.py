# SPDX-License-Identifier: Apache-2.0
"""What the driver wants of a table, kept in a file for the checker. Standard library only; pure.

Every value in it has been checked by nfl_render: what reads it may put it into a rule as it is.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any


@dataclasses.dataclass(frozen=True)
class Target:
    """A server as the table knows it. ``address``: in its one form. ``ident``: a number of its own,
    by which the table remembers whose client somebody is. ``leaving``: nobody wants it any more;
    how far it is, is in what is loaded.
    """

    name: str
    version: int
    address: str
    port: int
    ident: int
    weight: int = 1
    backup: bool = False
    drain: bool = False
    leaving: bool = False

    @property
    def key(self) -> str:
        """What makes it this server and no other."""
        return f"{self.address} {self.port}"

    @property
    def chain(self) -> str:
        """Where a flow is sent to it."""
        return f"to-{self.address.replace(':', '.')}-{self.port}"

    @property
    def first_chain(self) -> str:
        """The same for a client who is sent to it for the first time, and shall be remembered."""
        return f"new-{self.chain}"


@dataclasses.dataclass(frozen=True)
class Inspection:
    """How servers are checked; as desired.Check. ``kind``: none, tcp or http."""

    kind: str
    interval: float
    timeout: float
    rise: int
    fall: int
    method: str = "GET"
    path: str = "/"
    host: str = ""
    statuses: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A whole table. ``table``: family and name. ``binds``: addresses ("": all) and ports.
    ``allow``: by IP version; None: everybody, also where nobody of that version may come.
    ``algorithm``: roundrobin, random or source. ``sticky``: clients are remembered. ``drain``:
    seconds that servers have to leave, but those of distrusted hosts. ``boot_id``: of the start of
    the host since when somebody may be leaving.
    """

    table: str
    comment: str
    protocol: str
    binds: tuple[tuple[str, int], ...]
    allow: tuple[tuple[str, ...], tuple[str, ...]] | None
    algorithm: str
    sticky: bool
    check: Inspection
    targets: tuple[Target, ...]
    drain: float = 0.0
    distrusted: tuple[str, ...] = ()
    boot_id: str = ""

    @property
    def ports(self) -> tuple[int, ...]:
        """At which it listens."""
        return tuple(sorted({port for _address, port in self.binds}))

    def dump(self) -> str:
        """As it is written to the file."""
        check, targets = vars(self.check), [vars(it) for it in self.targets]
        return json.dumps({**vars(self), "check": check, "targets": targets})


def parse(text: str | None) -> Wanted | None:
    """What was written; None where there is nothing, or something torn or of another release."""
    try:
        raw: dict[str, Any] = json.loads(text or "null")
        check = raw.pop("check")
        statuses = tuple((int(low), int(high)) for low, high in check.pop("statuses"))
        allow, distrusted = raw.pop("allow"), tuple(raw.pop("distrusted", ()))
        return Wanted(
            binds=tuple((str(address), int(port)) for address, port in raw.pop("binds")),
            allow=None if allow is None else (tuple(allow[0]), tuple(allow[1])),
            check=Inspection(statuses=statuses, **check),
            targets=tuple(Target(**each) for each in raw.pop("targets")),
            distrusted=distrusted,
            **raw,
        )
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
