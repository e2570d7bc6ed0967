# SPDX-License-Identifier: Apache-2.0
"""A server as HAProxy has it: one line of the file, and one command of the runtime API; pure.

Its name there has whatever cannot be changed while it serves (address, port, backup): a host that
changes one of these is another server, and the earlier one leaves like any other.
"""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from cnsmo.model.errors import DriverError
from cnsmo.services.loadbalancer.desired import (
    HEAVIEST,
    Algorithm,
    Checking,
    Persistence,
    Pool,
    Server,
)
from cnsmo.services.loadbalancer.drivers import hap_text as text

BACKUP = "_backup"
SMALLEST_ID, IDS = 1000, 2**31 - 2000
"""HAProxy's ids are positive and have 31 bits; the first ones are those of servers without one."""
remembered = functools.lru_cache(1 << 13)
"""Nearly all servers are what they were when they were looked at last."""


class HapServer(BaseModel):
    """``ident``: 0 where its place in the file is its id; ``stopped``: it gets nothing new."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: str
    name: str
    host: str
    address: str
    port: int
    ident: int
    weight: int
    backup: bool = False
    stopped: bool = False
    checked: bool = False
    hashed: bool = False
    """Whether clients know it by a cookie, which is a hash of its address."""
    ordered: bool = False
    """Whether it matters which server of the pool comes first."""

    @property
    def key(self) -> tuple[str, str]:
        """By which it is known."""
        return self.pool, self.name

    @property
    def path(self) -> str:
        """As the runtime API calls it."""
        return f"{self.pool}/{self.name}"

    @property
    def title(self) -> str:
        """As operators are told of it."""
        return f"{self.host} ({text.bracketed(self.address)}:{self.port}) in {self.pool}"

    @property
    def words(self) -> str:
        """What the file and the runtime API say of it alike, but for what its pool's have in
        common."""
        words = [f"{text.bracketed(self.address)}:{self.port}"]
        words += [f"id {self.ident}"] if self.ident else []
        words += [f"weight {self.weight}"]
        words += ["backup"] if self.backup else []
        return " ".join(words)

    @property
    def line(self) -> str:
        """As it stands in the file."""
        return f"server {self.name} {self.words}{' disabled' if self.stopped else ''}"


class Common(NamedTuple):
    """What a pool says of each of its servers; see there."""

    pool: str
    checked: bool
    hashed: bool
    ordered: bool


def servers_of(pool: Pool) -> tuple[HapServer, ...]:
    """The servers of a pool, in the order in which they stand in the file.

    :raises DriverError: when one cannot be rendered, or is there twice.
    """
    try:
        named = {_name(server): server for server in pool.servers}
    except TypeError:  # it cannot be hashed, as all that a server may say can be
        raise text.wrong("servers", pool.servers) from None
    if len(named) < len(pool.servers):
        names = [_name(server) for server in pool.servers]
        double = next(name for name in names if names.count(name) > 1)
        raise DriverError(f"the pool {pool.name} has {double} twice")
    of_all = Common(
        pool=text.pool(pool.name),
        checked=pool.check.kind != Checking.NONE,
        hashed=pool.persistence == Persistence.COOKIE,
        ordered=pool.algorithm == Algorithm.FIRST,
    )
    taken: set[int] = set()
    return tuple(
        _server(of_all, named[name], 0 if of_all.ordered else _ident(named[name], taken))
        for name in sorted(named)
    )


def common_words(pool: Pool) -> str:
    """What all servers of a pool have in common."""
    words = []
    check = pool.check
    if check.kind != Checking.NONE:
        interval = text.milliseconds("check interval", check.interval)
        rise, fall = (text.number("check", it, 1, 1000) for it in (check.rise, check.fall))
        words.append(f"check inter {interval} rise {rise} fall {fall}")
    if pool.proxy not in tuple(PROXIES):
        raise text.wrong("PROXY protocol", pool.proxy)
    return " ".join([*words, *PROXIES[pool.proxy]])


PROXIES: dict[str, tuple[str, ...]] = {"": (), "v1": ("send-proxy",), "v2": ("send-proxy-v2",)}


@remembered
def _name(server: Server) -> str:
    backup = BACKUP if server.backup else ""
    address = text.server_address(server.address)
    return f"{text.host(server.name)}_{address}_{text.port(server.port)}{backup}"


@remembered
def _server(of_all: Common, server: Server, ident: int) -> HapServer:
    return HapServer(
        name=_name(server),
        host=text.host(server.name),
        address=str(text.server_address(server.address)),
        port=server.port,
        ident=ident,
        weight=int(text.number("weight", server.weight, 0, HEAVIEST)),
        backup=bool(server.backup),
        stopped=bool(server.drain),
        **of_all._asdict(),
    )


def _ident(server: Server, taken: set[int]) -> int:
    """An id that depends on nothing but the servers themselves; it is then taken.

    Hashing is by id: clients find the same server after a restart, and at another carrier.
    """
    ident = _first_ident(server)
    while ident in taken:
        ident += 1
    taken.add(ident)
    return ident


@remembered
def _first_ident(server: Server) -> int:
    address = text.server_address(server.address)
    digest = hashlib.sha256(f"{address} {server.port} {bool(server.backup)}".encode()).digest()
    return SMALLEST_ID + int.from_bytes(digest[:8]) % IDS
