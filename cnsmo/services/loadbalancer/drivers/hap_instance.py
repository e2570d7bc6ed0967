# SPDX-License-Identifier: Apache-2.0
"""The haproxy of one unit, brought to what is wanted: by the runtime API where that is enough, else
by a reload; then the file is written.

A server that is not wanted any more gets nothing new, keeps its connections for a while, and is
then gone: that is remembered on the disk, and how long it takes is the business of leave.py.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from oslo_log import log

from cnsmo.model.errors import DriverError, ProgramError
from cnsmo.services.base import System
from cnsmo.services.kit import boot
from cnsmo.services.loadbalancer.drivers.hap_certificates import FOLDER
from cnsmo.services.loadbalancer.drivers.hap_drain import part
from cnsmo.services.loadbalancer.drivers.hap_graft import graft
from cnsmo.services.loadbalancer.drivers.hap_leaving import Leaver, Leaving
from cnsmo.services.loadbalancer.drivers.hap_plan import (
    Key,
    Step,
    done,
    leaves,
    make_plan,
    ordered,
    strays,
)
from cnsmo.services.loadbalancer.drivers.hap_process import HapProcess
from cnsmo.services.loadbalancer.drivers.hap_render import Config
from cnsmo.services.loadbalancer.drivers.hap_report import FRONTEND_ROW, Report
from cnsmo.services.loadbalancer.drivers.hap_server import HapServer
from cnsmo.services.loadbalancer.drivers.hap_stat import (
    Seen,
    Workers,
    read_fingerprint,
    read_rows,
    read_servers,
)
from cnsmo.services.loadbalancer.drivers.hap_state import NOBODY, handed_over
from cnsmo.services.loadbalancer.drivers.leave import Leave, Member, bare, go_on

LOG = log.getLogger(__name__)
OPEN = ("OPEN", "FULL")
"""States of a frontend that takes connections."""
_OF_CERTIFICATES = re.compile(rf"\.\./{FOLDER}/\S+|^  description .*$", re.MULTILINE)
Leavers = dict[Key, Leaver]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """``sockets``: where it listens. ``drain``: seconds that a server has to leave, but one of a
    distrusted host."""

    config: Config
    sockets: Sequence[tuple[str, str]]
    drain: float
    distrusted: Collection[str] = ()


@dataclasses.dataclass(frozen=True)
class Scene:
    """What runs, read once. ``closed``: frontends that take nothing."""

    workers: Workers
    info: str
    seen: dict[Key, Seen]
    closed: tuple[str, ...]

    def reason(self, config: Config) -> str:
        """Why no order to a worker is enough, whatever the servers are; "" where it may be."""
        if read_fingerprint(self.info) != config.fingerprint:
            return "another configuration"
        return f"{self.closed[0]}, which was closed" if self.closed else ""


class HapInstance:
    """What runs, and its files in state_dir."""

    def __init__(
        self, system: System, state_dir: Path, label: str, ordered: Callable[[list[str]], None]
    ) -> None:
        """ordered: told the paths of the servers of which a worker takes orders."""
        self._process = HapProcess(system, state_dir)
        self._leaving = Leaving(state_dir)
        self._label = label
        self._ordered = ordered
        """Who came since this agent runs, and was not well yet."""

    def converge(self, wanted: Wanted) -> list[str]:
        """Bring it to what is wanted.

        :return: what was changed, one line each; not what was decided earlier (that a server
            leaves), and not that certificates were renewed.
        :raises DriverError: when haproxy refuses it; what ran goes on, with its file. If it is the
            structure that it refuses, servers come and go all the same.
        """
        config, scene = wanted.config, self._look()
        told = []
        if scene is None and self._process.exists:
            self._process.reach()
            scene, told = self._look(), ["haproxy: answers again"]
        if scene is None:
            self._process.recover(None)
            self._leaving.save(())
            self._process.start(config.text(), NOBODY, wanted.sockets)
            return ["haproxy: started"]
        if not self._process.knows(scene.workers):
            self._process.adopt(scene.workers)
            told.append("haproxy: its process id is known again")
        self._process.recover(read_fingerprint(scene.info))
        try:
            return told + self._bring(wanted, scene)
        except (DriverError, ProgramError):
            if scene.reason(config):
                with suppress(DriverError, ProgramError):
                    self._bring_servers(wanted)
            raise

    def _bring_servers(self, wanted: Wanted) -> None:
        """Let servers come and go in the structure that runs. What fails here is tried again; why
        the other structure was refused is what is told."""
        scene = self._look()
        fingerprint = read_fingerprint(scene.info) if scene else None
        if scene is None or fingerprint is None:
            return
        running, leaving = self._process.text or "", self._leaving.load()
        config = graft(running, fingerprint, wanted.config, scene.seen.values(), leaving)
        if config is None:
            return
        for change in self._bring(dataclasses.replace(wanted, config=config, sockets=()), scene):
            LOG.info("%s: %s", self._label, change)

    def _bring(self, wanted: Wanted, scene: Scene) -> list[str]:
        config, earlier = wanted.config, self._leaving.load()
        leavers = _leavers(wanted, earlier, scene)
        self._leaving.save(leavers.values())
        try:
            changes = self._change(wanted, leavers, scene)
        except (DriverError, ProgramError):
            self._leaving.save(earlier.values())
            raise
        left = self._part(config, leavers, earlier)
        kept = self._keep(config, left)
        changes = [change for change in changes if change not in _decided(earlier)]
        return changes or ([] if left != earlier else kept)

    def drift(self, config: Config, scene: Scene) -> list[str]:
        """What is not as wanted, one line each."""
        leavers = {key: it for key, it in self._leaving.load().items() if key not in config.servers}
        leaving = [it.server for it in leavers.values()]
        seen = scene.seen.values()
        plan = make_plan(config, leaving, seen)
        reasons = filter(None, [scene.reason(config), plan.reload])
        found = [f"haproxy needs a reload, for {reason}" for reason in reasons]
        found += [step.found for step in plan.steps]
        found += [
            f"{it.title} is there, and nobody declared it" for it in strays(config, leavers, seen)
        ]
        if not self._process.knows(scene.workers):
            found.append("haproxy.pid is not that of what runs")
        if self._process.text != config.text(leaving):
            found.append("haproxy.cfg is not what runs")
        return found

    def look(self) -> Scene | None:
        """What runs; None when nothing does, or it does not answer."""
        return self._look()

    @property
    def absence(self) -> str:
        """Why nothing was seen."""
        return "haproxy does not answer" if self._process.exists else "haproxy does not run"

    def report(self, scene: Scene) -> Report:
        """What it says of itself."""
        return self._report(scene.workers, self._leaving.load(), scene.info)

    def stop(self) -> None:
        """End it."""
        self._process.stop()

    def _look(self) -> Scene | None:
        workers = self._process.workers
        if workers is None:
            return None
        ask = self._process.worker.ask
        closed = tuple(
            row.pool
            for row in read_rows(ask(f"show stat -1 {1 << FRONTEND_ROW} -1"))
            if row.text("status") not in OPEN
        )
        seen = {it.key: it for it in read_servers(ask("show servers state"))}
        return Scene(workers, ask("show info"), seen, closed)

    def _change(self, wanted: Wanted, leavers: Leavers, scene: Scene) -> list[str]:
        leaving = [it.server for it in leavers.values()]
        plan = make_plan(wanted.config, leaving, scene.seen.values())
        reason = scene.reason(wanted.config) or plan.reload
        if not reason:
            reason = self._tell(command for step in plan.steps for command in step.commands)
        if reason:
            return self._reload(wanted, leavers, scene, plan.steps, reason)
        return [step.told for step in plan.steps]

    def _reload(
        self,
        wanted: Wanted,
        leavers: Leavers,
        scene: Scene,
        steps: Sequence[Step],
        reason: str,
    ) -> list[str]:
        """By another worker."""
        LOG.info("%s: reload, for %s", self._label, reason)
        leaving = [it.server for it in leavers.values()]
        servers = [*leaving, *wanted.config.servers.values()]
        text, before = wanted.config.text(leaving), self._process.text or ""
        parked = [
            server.path
            for server in servers
            if server.stopped and server.key in scene.seen and not scene.seen[server.key].stopped
        ]
        state = handed_over(servers, scene.seen)
        self._process.reload(text, state, wanted.sockets, self._parked(parked))
        if before != text and _but_certificates(before) == _but_certificates(text):
            LOG.info("%s: other certificates are in use", self._label)
            return []
        return [f"haproxy: reloaded, for {reason}", *(step.told for step in steps)]

    @contextmanager
    def _parked(self, paths: Sequence[str]) -> Iterator[None]:
        """The worker that will be the earlier one gives them nothing new either: later it takes no
        orders. Where there is no other worker after all, everything is as before."""
        self._tell(f"set server {path} state maint" for path in paths)
        try:
            yield
        except (DriverError, ProgramError):
            self._tell(f"set server {path} state ready" for path in paths)
            raise

    def _part(self, config: Config, leavers: Leavers, earlier: Leavers) -> Leavers:
        """Take away who is through with leaving; at the earliest in the turn after it was told."""
        due = {key: it for key, it in leavers.items() if it.over or _told(key, it, earlier)}
        workers = self._process.workers if due else None
        if workers is None:
            return leavers
        stay = part(due, self._report(workers, due), config.common, self._process, workers)
        left = {key: it for key, it in leavers.items() if key not in due or it in stay}
        self._leaving.save(left.values())
        return left

    def _keep(self, config: Config, leavers: Leavers) -> list[str]:
        """The file is what runs."""
        text = config.text(it.server for it in leavers.values())
        if self._process.text == text:
            return []
        self._process.keep(text)
        return ["haproxy.cfg: as what runs"]

    def _tell(self, commands: Iterable[str]) -> str:
        """Give orders to the worker; the first refusal, if there is one."""
        orders = list(commands)
        self._ordered([path for order in orders if (path := ordered(order))])
        answers = self._process.worker.tell(orders) if orders else ()
        refused = [f"{order}: {answer}" for order, answer in answers if not done(answer)]
        for line in refused[:5]:
            LOG.warning("%s: %s", self._label, line)
        return refused[0] if refused else ""

    def _report(self, workers: Workers, leavers: Leavers, info: str = "") -> Report:
        rows = read_rows(self._process.worker.ask("show stat"))
        old = [
            row
            for pid in (workers.old if leavers else ())
            for row in read_rows(self._process.ask_old(pid, "show stat"))
        ]
        return Report(rows, old, info, leavers)


def _leavers(wanted: Wanted, earlier: Mapping[Key, Leaver], scene: Scene) -> Leavers:
    """Who is on the way out: those who were, and who is there and not wanted (any more)."""
    servers, pools = wanted.config.servers, wanted.config.common
    found = {
        key: it.server
        for key, it in earlier.items()
        if key not in servers and (key in scene.seen or it.server.pool not in pools)
    }
    found |= {it.key: it for it in strays(wanted.config, found, scene.seen.values())}
    empty = _bare_pools(wanted.config, scene.seen) if found else ()
    now = boot.now()
    return {
        key: _leaver(
            server, _so_far(earlier.get(key), scene.seen.get(key)),
            server.pool in empty and _serves(server, scene.seen.get(key)), wanted, now,
        )
        for key, server in found.items()
    }  # fmt: skip


def _bare_pools(config: Config, seen: Mapping[Key, Seen]) -> frozenset[str]:
    """Pools in which somebody shall serve, and nobody who shall is well."""
    members: dict[str, list[Member]] = {}
    for key, server in config.servers.items():
        well = key in seen and seen[key].well
        members.setdefault(server.pool, []).append(Member(server.weight, server.stopped, well))
    return frozenset(pool for pool, theirs in members.items() if bare(theirs))


def _serves(server: HapServer, known: Seen | None) -> bool:
    """Whether it is sent requests, as far as it is well."""
    takes = known is not None and not (known.stopped or known.drained)
    return bool(server.weight) and takes


def _so_far(leaver: Leaver | None, known: Seen | None) -> Leave | None:
    """How far it is. It was not stopped if it takes requests, whatever was decided: whoever decided
    it was killed, or somebody else put it back."""
    if leaver is None:
        return None
    takes = known is not None and not known.stopped
    return dataclasses.replace(leaver.leave, until=None) if takes else leaver.leave


def _leaver(
    server: HapServer, so_far: Leave | None, needed: bool, wanted: Wanted, now: float
) -> Leaver:
    leave = go_on(so_far, needed, wanted.drain, now, server.host in wanted.distrusted)
    stopped = leave.until is not None
    return Leaver(server=server.model_copy(update={"stopped": stopped}), leave=leave)


def _decided(earlier: Leavers) -> frozenset[str]:
    """What is said of those who leave later than they were told to, and is no news."""
    return frozenset(leaves(it.server) for it in earlier.values() if not it.server.stopped)


def _told(key: Key, leaver: Leaver, earlier: Leavers) -> bool:
    """Whether it was told to leave in an earlier turn, and takes nothing since."""
    return leaver.server.stopped and key in earlier and earlier[key].server.stopped


def _but_certificates(text: str) -> str:
    """A configuration without what changes when nothing but a certificate does."""
    return _OF_CERTIFICATES.sub("", text)
