# SPDX-License-Identifier: Apache-2.0
"""The nftables driver: connections and flows of datagrams are balanced by the kernel.

One table of our own for each balancer, ``inet cnsmo-lb-<unit>``. A new flow that arrives where it
listens is sent on to a server (dnat), and as if this host had begun it (masquerade), so that the
answers come back this way, over a VPN or not; the server sees this host's address, not the
client's. IPv4 clients get IPv4 servers, IPv6 clients IPv6 servers. Clients on this host are
balanced too, unless they call an address of the loopback's; whoever calls a server by its own
address gets that server.

What the agent wants is in a file; a checker process, which outlives the agent, checks the servers
and takes them in and out of the table. See nfl_files for who writes what, nfl_change for why it
does not matter who is killed when.

``persistence: source`` is a map from clients to servers, in the kernel; an hour after its last new
flow a client is forgotten. A hash alone would not do: a newcomer would take clients from servers
that stay. ``algorithm: source`` is such a hash, on a ring: nobody has to be remembered, and a
newcomer takes no more than becomes his.

The firewall service judges what this host itself receives and sends. What is sent on to a server on
another host passes it by: ``allow`` alone says who may come, and a rule of the firewall's about the
balanced port means nothing. A server on this very host is judged by the rules about the server's
own port; a client on this host by the rules about where it is sent on to. The firewalls of the
servers see this host as the source.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from oslo_log import log

from cnsmo.model.errors import DriverError, DriverUnavailable, ProgramError
from cnsmo.services.base import Observation, System
from cnsmo.services.kit import boot
from cnsmo.services.kit.forwarding import Forwarding
from cnsmo.services.kit.private_files import ensure_directory, remove_tree
from cnsmo.services.loadbalancer.desired import LoadBalancerDesired
from cnsmo.services.loadbalancer.driver import LoadBalancerDriver
from cnsmo.services.loadbalancer.drivers import nfl_report
from cnsmo.services.loadbalancer.drivers.falls import Falls
from cnsmo.services.loadbalancer.drivers.nfl_change import Change, Loaded, plan
from cnsmo.services.loadbalancer.drivers.nfl_detail import Figures
from cnsmo.services.loadbalancer.drivers.nfl_files import Files
from cnsmo.services.loadbalancer.drivers.nfl_flows import list_commands
from cnsmo.services.loadbalancer.drivers.nfl_keeper import HANGS, Keeper
from cnsmo.services.loadbalancer.drivers.nfl_render import TABLE, render
from cnsmo.services.loadbalancer.drivers.nfl_sessions import Sessions
from cnsmo.services.loadbalancer.drivers.nfl_settle import end_flows, load, well
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Inspection, Target, Wanted
from cnsmo.services.loadbalancer.drivers.nfl_ways import Ways, find_ways
from cnsmo.services.loadbalancer.features import Feature

LOG = log.getLogger(__name__)
SECONDS = 30.0
"""A thousand servers take less than one; a machine may be busy."""
LOCK_SECONDS = 30.0
LOOK_SECONDS = 10.0
"""How soon the agent looks again at what the checker found."""
SOON_SECONDS = 0.5
"""The same while first checks are under way."""


class NftablesDriver(LoadBalancerDriver):
    """A load balancer in the kernel of this host."""

    name = "nftables"
    can: ClassVar[frozenset[Feature]] = frozenset(
        {
            Feature.TCP,
            Feature.UDP,
            Feature.ROUNDROBIN,
            Feature.RANDOM,
            Feature.SOURCE,
            Feature.WEIGHTS,
            Feature.BACKUP,
            Feature.CHECK_TCP,
            Feature.CHECK_HTTP,
            Feature.PERSIST_SOURCE,
            Feature.ALLOW,
        }
    )

    def __init__(self, system: System, unit: str, label: str, state_dir: Path) -> None:
        super().__init__(system, unit, label, state_dir)
        self._files = Files(state_dir)
        self._forwarding = Forwarding(system, state_dir)
        self._figures = Figures()
        self._falls = Falls()
        self._sessions = Sessions(self._flows)
        self._checked = False

    @property
    def _keeper(self) -> Keeper:
        return Keeper(self.system, self._files)

    def check(self) -> None:
        if self._checked:  # asked for at every turn, and what was there stays
            return
        for program, package in (("nft", "nftables"), ("conntrack", "conntrack")):
            if not self.system.has(program):
                raise DriverUnavailable(f"{program} is missing: install the package {package}")
        try:
            self._run("nft", "-c", "-f", "-", stdin=probe())
        except ProgramError as exc:
            raise DriverUnavailable(
                "the kernel does not take the rules of a balancer: nf_tables with address "
                f"translation is needed, and the package nftables ({exc})"
            ) from exc
        self._checked = True

    def apply(self, desired: LoadBalancerDesired) -> list[str]:
        with self._speaking():
            ensure_directory(self.state_dir)
            if self._keeper.hangs:
                self._keeper.stop()
            with self._locked():
                calmed = self._falls.decide(desired)
                changes = self._converge(self._falls.calmed(desired))
            if calmed:  # nothing that was found amiss was repaired
                LOG.info("%s: %s", self.label, "; ".join(changes))
                changes = []
            return changes + self._keeper.ensure()

    def observe(self, desired: LoadBalancerDesired) -> Observation:
        with self._speaking():
            if not self.state_dir.exists():
                return Observation(drift=("nothing was applied",))
            if self._keeper.hangs:
                return Observation(drift=(HANGS,), again=SOON_SECONDS)
            with self._locked():
                earlier, loaded = self._files.wanted(), self._files.loaded()
                verdicts, listed = self._files.health(), self._list()
            now = boot.now()
            wanted = self._render(self._falls.calmed(desired), earlier, loaded, now)
            self._falls.count(nfl_report.falls(desired.pools[0], verdicts))
            ways = find_ways(self.system, wanted)
            drift = nfl_report.changes(earlier, wanted) + nfl_report.drift(listed, loaded)
            drift += self._keeper.drift
            drift += self._forwarding.drift(ways.interfaces, ways.versions)
            name = desired.pools[0].name
            problems = nfl_report.problems(wanted, loaded, verdicts)
            waits = self._falls.due or nfl_report.waiting(wanted, wanted.targets, verdicts)
            return Observation(
                drift=tuple(drift),
                problems=(*problems, *self._falls.told(desired)),
                again=_again(wanted, loaded, waits, now),
                detail=self._figures.detail(
                    name, wanted, verdicts, listed, loaded, self._sessions.alive(wanted), now
                ),
            )

    def remove(self) -> None:
        with self._speaking():
            self._keeper.stop()
            loaded = self._files.loaded()
            if self.system.has("nft"):
                table = f"{TABLE}{self.unit}"
                self._run("nft", "-f", "-", stdin=f"add table {table}\ndelete table {table}\n")
            if self.system.has("conntrack"):
                rest = (*loaded.ending, *loaded.servers)
                end_flows(Loaded(ports=loaded.ports, ending=rest), self._run, _forget)
            self._forwarding.restore()
            remove_tree(self.state_dir)

    def _converge(self, desired: LoadBalancerDesired) -> list[str]:
        """Make files, switches and table as desired; what was changed."""
        earlier, now = self._files.wanted(), boot.now()
        loaded, health = self._files.loaded(), well(self._files.health())
        wanted = self._render(desired, earlier, loaded, now)
        change = self._accepted(wanted, loaded, health, now)
        ways = find_ways(self.system, wanted) if wanted.targets else Ways()
        told = self._forwarding.apply(ways.interfaces, ways.versions)
        if wanted != earlier:
            self._files.put_wanted(wanted)
        try:
            load(change, loaded, self._run, self._files.put_loaded)
        except (ProgramError, OSError):
            if wanted != earlier:
                self._files.put_wanted(earlier)
            raise
        end_flows(change.after, self._run, self._files.put_loaded)
        told += nfl_report.changes(earlier, wanted)
        if drift := nfl_report.drift(self._list(), self._files.loaded()):
            again = plan(wanted, self._files.loaded(), health, now, whole=True)
            load(again, loaded, self._run, self._files.put_loaded)
            told.append(f"the table is loaded again: {'; '.join(drift)}")
        return told

    def _render(
        self, desired: LoadBalancerDesired, earlier: Wanted | None, loaded: Loaded, now: float
    ) -> Wanted:
        gone = loaded.gone(now)
        return render(self.unit, self.label, desired, earlier, gone, boot.boot_id())

    def _accepted(
        self, wanted: Wanted, loaded: Loaded, health: dict[str, bool], now: float
    ) -> Change:
        """The change that is due, which the kernel says it would take.

        :raises ProgramError: when it takes none.
        """
        change = plan(wanted, loaded, health, now)
        try:
            if change.text:
                self._run("nft", "-c", "-f", "-", stdin=change.text)
        except ProgramError:  # perhaps because the table is not what it was thought to be
            change = plan(wanted, loaded, health, now, whole=True)
            self._run("nft", "-c", "-f", "-", stdin=change.text)
        return change

    def _list(self) -> nfl_report.Listed | None:
        """Our table; None where there is none."""
        words = ("nft", "-j", "-t", "list", "table", *f"{TABLE}{self.unit}".split())
        shown = self._run(*words, ok=(0, 1))
        return nfl_report.read(json.loads(shown)["nftables"]) if shown.strip() else None

    def _flows(self, protocol: str, ports: Iterable[int]) -> Iterator[str]:
        """The flows that are balanced, as conntrack(8) lists them."""
        for words in list_commands(protocol, ports):
            yield from self._run(*words).splitlines()

    def _run(self, *args: str, stdin: str | None = None, ok: Sequence[int] = (0,)) -> str:
        return self.system.run(*args, stdin=stdin, ok=ok, timeout=SECONDS).stdout

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep the checker out."""
        with self._files.lock(LOCK_SECONDS) as mine:
            if not mine:
                raise DriverError("the checker does not let go of its lock: it seems to hang")
            yield

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """What programs and the disk say is this unit's error."""
        try:
            yield
        except (ProgramError, OSError) as exc:
            raise DriverError(f"load balancer {self.unit}: {exc}") from exc


@functools.cache
def probe() -> str:
    """A table with all that a balancer may need; no unit can have its name."""
    targets = (
        Target("a", 4, "192.0.2.1", 1, 1 << 16),
        Target("b", 4, "192.0.2.2", 1, 2 << 16),
        Target("c", 6, "2001:db8::1", 1, 3 << 16),
    )
    wanted = Wanted(
        f"{TABLE}-probe", "cnsmo", "tcp", (("", 1),), (("192.0.2.0/24",), ()), "source", True,
        Inspection("none", 1.0, 1.0, 1, 1), targets,
    )  # fmt: skip
    return plan(wanted, Loaded(), {}, 0.0).text


def _again(wanted: Wanted, loaded: Loaded, waiting: bool, now: float) -> float | None:
    """When there is something new to see: a first check, the end of a drain, a server that fell."""
    leaves = (loaded.leaving.get(it.key) for it in wanted.targets if it.leaving)
    due = [max((it.due(now) or now) - now, 0.0) + SOON_SECONDS for it in leaves if it]
    if wanted.check.kind != "none":
        due.append(SOON_SECONDS if waiting else LOOK_SECONDS)
    return min(due, default=None)


def _forget(_loaded: Loaded) -> None:
    """Nothing has to be remembered of what is removed."""
