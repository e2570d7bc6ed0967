# SPDX-License-Identifier: Apache-2.0
"""The faults of a schedule, done for real, each on a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from cnsmo.lab.process import Process
from tests.beds.bed import Bed
from tests.beds.full import fill
from tests.chaos.history import Happened
from tests.chaos.schedule import Fault, Kind
from tests.chaos.services import freeze, thaw, within
from tests.chaos.stage import Stage
from tests.eventually import eventually

APPEARS = 30.0
"""Seconds in which a process that is to be hit has to be there: it may be starting anew."""
CORE_SITE = "core"
BACKEND = "postgres: postgres "
HAPROXY, WIREGUARD, CHECKER = "haproxy", "wireguard-go", "nfl_checker"
FROZEN = {Kind.STOP_WIREGUARD: WIREGUARD, Kind.STOP_HAPROXY: HAPROXY}
KILLED = {
    Kind.KILL_WIREGUARD: WIREGUARD,
    Kind.KILL_HAPROXY: HAPROXY,
    Kind.KILL_CHECKER: CHECKER,
}


class Faults:
    """Carries out a schedule."""

    def __init__(self, stage: Stage, faults: tuple[Fault, ...], origin: float) -> None:
        """origin: the schedule's zero, by the stage's clock."""
        self.happened: list[Happened] = []
        self._stage = stage
        self._faults = faults
        self._origin = origin
        self._over = threading.Event()
        self._cuts = Counter[tuple[str, str]]()
        self._cutting = threading.Lock()
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        """Until the last of them has ended."""
        for fault in self._faults:
            self._wait(fault.begin)
            thread = threading.Thread(target=self._befall, args=(fault,), name=str(fault.kind))
            thread.start()
            self._threads.append(thread)
        for thread in self._threads:
            thread.join()

    def _befall(self, fault: Fault) -> None:
        begun, failed = self._stage.now, ""
        self._tell(fault, "begins")
        try:
            with self._done(fault):
                self._wait(fault.end)
        except Exception as exc:  # noqa: BLE001 - a fault that did not come about fails the run
            failed = f"{type(exc).__name__}: {exc}"
        self.happened.append(Happened(fault, begun, self._stage.now, failed))
        self._tell(fault, failed or "is over")

    def _tell(self, fault: Fault, what: str) -> None:
        print(f"{self._stage.now - self._origin:7.1f}  {fault.kind}: {fault.target} {what}",
              flush=True)  # fmt: skip

    def _wait(self, at: float) -> None:
        self._over.wait(max(0.0, self._origin + at - self._stage.now))

    @contextlib.contextmanager
    def _done(self, fault: Fault) -> Iterator[None]:
        """The fault is there while the context lasts."""
        undo = self._do(fault)
        try:
            yield
        finally:
            if undo is not None:
                undo()

    def _do(self, fault: Fault) -> Callable[[], object] | None:
        stage, name = self._stage, fault.target
        match fault.kind:
            case Kind.KILL_AGENT | Kind.KILL_CORE:
                self._service(name, "kill")
            case Kind.STOP_AGENT | Kind.STOP_CORE:
                self._service(name, "freeze")
                return (stage.agents | stage.cores)[name].thaw
            case Kind.KILL_WIREGUARD | Kind.KILL_HAPROXY | Kind.KILL_CHECKER:
                for process in self._found(name, KILLED[fault.kind]):
                    process.signal_kill()
            case Kind.STOP_WIREGUARD | Kind.STOP_HAPROXY:
                frozen = self._found(name, FROZEN[fault.kind])
                freeze(frozen)
                return lambda: thaw(frozen)
            case Kind.REBOOT:
                stage.reboot(name)
            case Kind.FULL_DISK:
                return fill(stage.disk(name)).unlink
            case Kind.CLOCK:
                return self._lie(name, fault)
            case Kind.KILL_BACKEND:
                self._kill_backend()
            case Kind.CUT_VM | Kind.CUT_SITE | Kind.CUT_CORE | Kind.LOSS:
                return self._break_lines(fault)
            case _:
                return self._hit_bed(fault)
        return None

    def _service(self, name: str, how: str) -> None:
        """Hit a process that is kept running, once it is there."""
        service = (self._stage.agents | self._stage.cores)[name]

        def hit() -> bool:
            with contextlib.suppress(ProcessLookupError):
                getattr(service, how)()
                return True
            return False

        eventually(hit, APPEARS, f"{name} runs")

    def _found(self, vm: str, program: str) -> list[Process]:
        lab = self._stage.lab
        return eventually(
            lambda: within(lab.vm(vm).pid, program), APPEARS, f"{program} runs in {vm}", every=0.1
        )

    def _lie(self, name: str, fault: Fault) -> Callable[[], object]:
        """The agent starts anew with a clock that is an hour wrong, and later with a right one."""
        stage = self._stage

        def again(hours: int) -> None:
            stage.clock[name] = hours
            self._service(name, "kill")

        again(1 if int(fault.begin) % 2 else -1)
        return lambda: again(0)

    def _kill_backend(self) -> None:
        def found() -> list[int]:
            return [it for it in self._stage.database.pids if _title(it).startswith(BACKEND)]

        Process.of(eventually(found, APPEARS, "somebody uses the database")[0]).signal_kill()

    def _break_lines(self, fault: Fault) -> Callable[[], object]:
        lines, name = self._stage.lab.faults, fault.target
        if fault.kind is Kind.CUT_VM:
            lines.cut(name)
            return lambda: lines.restore(name)
        if fault.kind is Kind.LOSS:
            lines.lose(name)
            return lambda: lines.keep(name)
        others = {*self._stage.lab.plan.sites, CORE_SITE} - {name}
        pairs = [tuple(sorted((name, other))) for other in others]
        with self._cutting:
            for one, other in pairs:
                self._cuts[one, other] += 1
                lines.partition(one, other)
        return lambda: self._mend(pairs)

    def _mend(self, pairs: list[tuple[str, ...]]) -> None:
        """The end of a cut between sites, where no other fault cuts there as well."""
        with self._cutting:
            for one, other in pairs:
                self._cuts[one, other] -= 1
                if not self._cuts[one, other]:
                    self._stage.lab.faults.heal(one, other)

    def _hit_bed(self, fault: Fault) -> Callable[[], object] | None:
        broker, database = self._stage.broker, self._stage.database
        bed: Bed = database if "database" in fault.kind else broker
        match fault.kind:
            case Kind.STOP_BROKER | Kind.STOP_DATABASE:
                bed.pause()
                return bed.resume
            case Kind.KILL_BROKER:
                bed.kill()
                return bed.start
            case _:
                bed.restart()
                return None


def _title(pid: int) -> str:
    """A process as it calls itself."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""
