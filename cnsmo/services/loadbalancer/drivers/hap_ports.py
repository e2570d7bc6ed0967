# SPDX-License-Identifier: Apache-2.0
"""Whether the places to listen at are free.

HAProxy would find out by itself, but it lets the earlier process pause while it tries, and it
shares a port with whatever program allows that: both would cost requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cnsmo.model.errors import DriverError
from cnsmo.services.base import System

EVERYWHERE = {"0.0.0.0", "[::]", "*"}  # nosec B104: compared, not listened at
_PROGRAM = re.compile(r'\("([^"]*)",pid=(\d+)')


def require_free(system: System, sockets: Iterable[tuple[str, str]], ours: frozenset[int]) -> None:
    """Make sure that nobody but ``ours`` (process ids) listens there.

    :raises DriverError: naming who does.
    """
    wanted = list(sockets)
    ports = sorted({port for _address, port in wanted})
    if not ports:
        return
    filter_ = " or ".join(f"sport = :{int(port)}" for port in ports)
    for line in system.run("ss", "-Hltnp", filter_).stdout.splitlines():
        words = line.split(None, 5)
        if len(words) < 5:
            continue
        address, _colon, port = words[3].rpartition(":")
        users = _PROGRAM.findall(words[5]) if len(words) > 5 else []
        if users and all(int(pid) in ours for _name, pid in users):
            continue
        if any(port == own and _overlap(address, place) for place, own in wanted):
            who = f"{users[0][0]} (process {users[0][1]})" if users else "another program"
            raise DriverError(f"port {port} is taken by {who}, which listens at {words[3]}")


def _overlap(one: str, other: str) -> bool:
    one = one.partition("%")[0]
    if "*" in (one, other):
        return True
    if one.startswith("[") != other.startswith("["):
        return False
    return one == other or bool({one, other} & EVERYWHERE)
