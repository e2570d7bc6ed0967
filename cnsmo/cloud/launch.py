# SPDX-License-Identifier: Apache-2.0
"""Several VMs at once: those that are missing, in parallel, all of them or none."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures

from oslo_log import log

from cnsmo.cloud.deployer import Deployer, Order, Server, Status
from cnsmo.model.errors import CnsmoError, Conflict, NotFound, Unavailable

LOG = log.getLogger(__name__)
AT_ONCE = 8
"""So many VMs are asked for at the same time: clouds limit how often they are."""
PULSE = 2.0
"""Seconds between two looks at a VM; the cloud tells nobody when it is done."""


@dataclasses.dataclass(frozen=True)
class Missing:
    """What a launch has to do. ``there``: VMs that are as ordered already. ``broken``: of ours, but
    failed: they are made anew."""

    orders: tuple[Order, ...]
    there: tuple[Server, ...]
    broken: tuple[Server, ...]


class Failed(CnsmoError):
    """VMs could not be made; those that were are gone again."""

    code = "launch-failed"


def missing(deployer: Deployer, deployment: str, names: Sequence[str]) -> Missing:
    """Compare the VMs that shall be with those that there are. The orders are made of names alone.

    :raises Conflict: when a VM of that name is somebody else's.
    """
    known: dict[str, Server] = {}
    for server in deployer.servers():
        if server.name not in names:
            continue
        if server.deployment != deployment:
            whose = f"of deployment {server.deployment!r}" if server.deployment else "not CNSMO's"
            raise Conflict(
                f"a VM {server.name!r} is there already ({server.id}), and it is {whose}: take "
                "another --prefix, or 'cnsmo-manage cloud adopt' it"
            )
        if server.name in known:
            raise Conflict(f"there are two VMs {server.name!r}: remove one of them by its id")
        known[server.name] = server
    broken = tuple(server for server in known.values() if server.status is Status.FAILED)
    there = tuple(server for server in known.values() if server not in broken)
    done = {server.name for server in there}
    orders = tuple(Order(name, deployment, (), "") for name in names if name not in done)
    return Missing(orders, there, broken)


class Launch:
    """One launch; show is called with each VM as it comes along, from several threads in turn."""

    def __init__(self, deployer: Deployer, show: Callable[[str, str], None]) -> None:
        """show: takes a VM's name, and how it is by now."""
        self._deployer = deployer
        self._show = show
        self._lock = threading.Lock()
        self._failed = threading.Event()
        self.made: list[Server] = []

    def run(self, orders: Sequence[Order], patience: float, keep: bool = False) -> list[Server]:
        """Make them all; returns when all run. patience: seconds for each.

        keep: of a launch that failed, leave what was made.

        :raises Failed: when one of them could not be made.
        """
        for order in orders[:1]:
            self._deployer.check(order)
        with futures.ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                tries = {pool.submit(self._one, order, patience): order for order in orders}
                futures.wait(tries)
            except BaseException:  # Ctrl-C, too: nothing is left behind
                self._failed.set()
                pool.shutdown(cancel_futures=True)
                self._clean_up(keep)
                raise
        problems = {order.name: done.exception() for done, order in tries.items()}
        told = [f"{name}: {problem}" for name, problem in problems.items() if problem is not None]
        if told:
            left = self._clean_up(keep)
            raise Failed("\n".join([*told, *left]))
        return sorted((done.result() for done in tries), key=lambda server: server.name)

    def _one(self, order: Order, patience: float) -> Server:
        if self._failed.is_set():
            raise Unavailable("not begun: another one failed")
        try:
            self._tell(order.name, "asked for")
            server = self._deployer.boot(order)
            with self._lock:
                self.made.append(server)
            return self._running(server, patience)
        except BaseException:
            self._failed.set()
            raise

    def _running(self, server: Server, patience: float) -> Server:
        end = time.monotonic() + patience
        while server.status is Status.BUILDING:
            if self._failed.wait(PULSE):
                raise Unavailable("given up: another one failed")
            if time.monotonic() > end:
                raise Unavailable(f"does not run after {patience:g} s")
            server = self._deployer.refresh(server)
        if server.status is not Status.RUNNING:
            raise Unavailable(server.why or f"is {server.status}")
        self._tell(server.name, "runs")
        return server

    def _clean_up(self, keep: bool) -> list[str]:
        """Take away what was made.

        :return: a line for each that could not be.
        """
        if keep:
            return [f"{server.name}: left as it is ({server.id})" for server in self.made]
        return remove(self._deployer, self.made, self._tell)

    def _tell(self, name: str, how: str) -> None:
        with self._lock:
            self._show(name, how)


def remove(
    deployer: Deployer, servers: Iterable[Server], show: Callable[[str, str], None]
) -> list[str]:
    """Take VMs away, several at once; those that are gone already are fine.

    :return: a line for each that could not be.
    """

    def one(server: Server) -> str:
        try:
            deployer.remove(server)
        except NotFound:
            pass
        except CnsmoError as exc:
            LOG.warning("VM %s (%s) is left: %s", server.name, server.id, exc)
            return f"{server.name}: cannot be removed: {exc}"
        show(server.name, "removed")
        return ""

    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return [line for line in pool.map(one, list(servers)) if line]
