# SPDX-License-Identifier: Apache-2.0
"""Wrappers around the real System: one writes down what is run, others fail or hang when told."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cnsmo.model.errors import ProgramError
from cnsmo.services.base import Completed, System

READING = (
    ("ip", "-j"), ("ip", "-6", "-j"), ("wg", "show"), ("cat",), ("sysctl", "-n"), ("grep",),
    ("kill", "-0"),
)  # fmt: skip
"""Beginnings of command lines that change nothing."""


class Killed(BaseException):
    """The agent process ends here, as by kill -9: nobody may catch this and go on."""


class Recorder:
    """Passes everything on and remembers the arguments and the outputs."""

    def __init__(self, system: System) -> None:
        self.ways = system.ways
        self.system = system
        self.commands: list[tuple[str, ...]] = []
        self.outputs: list[str] = []

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        timeout: float = 10.0,
        ok: Sequence[int] = (0,),
    ) -> Completed:
        self.commands.append(args)
        done = self.system.run(*args, stdin=stdin, timeout=timeout, ok=ok)
        self.outputs.append(done.stderr)
        return done

    def has(self, program: str) -> bool:
        return self.system.has(program)

    def start(self, *args: str, log: Path) -> int:
        self.commands.append(args)
        return self.system.start(*args, log=log)

    def alive(self, pid: int, program: str) -> bool:
        return self.system.alive(pid, program)

    def stop(self, pid: int, program: str, timeout: float = 5.0) -> None:
        self.commands.append(("stop", program))
        self.system.stop(pid, program, timeout)

    @property
    def changing(self) -> list[tuple[str, ...]]:
        """The commands that may have changed something."""
        return [args for args in self.commands if not is_reading(args)]


class Hanging(Recorder):
    """Holds one program up until something else has happened."""

    def __init__(self, system: System, program: str, until: Callable[[], object]) -> None:
        """until: returns when it has."""
        super().__init__(system)
        self.hung = False
        self._program = program
        self._until = until

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        timeout: float = 10.0,
        ok: Sequence[int] = (0,),
    ) -> Completed:
        if args[0] == self._program:
            self.hung = True
            self._until()
        return super().run(*args, stdin=stdin, timeout=timeout, ok=ok)


class Saboteur(Recorder):
    """Lets that many changing commands through and fails the next one, once.

    ``after``: the command is carried out, and then the failure is reported (a time-out).
    """

    def __init__(
        self,
        system: System,
        allowed: int,
        error: type[BaseException] = ProgramError,
        after: bool = False,
    ) -> None:
        super().__init__(system)
        self.struck = False
        self._allowed = allowed
        self._error = error
        self._after = after

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        timeout: float = 10.0,
        ok: Sequence[int] = (0,),
    ) -> Completed:
        strike = self._strikes(args)
        if strike and not self._after:
            raise self._error(f"sabotaged: {args[0]}")
        done = super().run(*args, stdin=stdin, timeout=timeout, ok=ok)
        if strike:
            raise self._error(f"sabotaged after: {args[0]}")
        return done

    def start(self, *args: str, log: Path) -> int:
        strike = self._strikes(args)
        if strike and not self._after:
            raise self._error(f"sabotaged: {args[0]}")
        pid = super().start(*args, log=log)
        if strike:
            raise self._error(f"sabotaged after: {args[0]}")
        return pid

    def _strikes(self, args: Sequence[str]) -> bool:
        if self.struck or is_reading(args):
            return False
        self._allowed -= 1
        self.struck = self._allowed < 0
        return self.struck


def is_reading(args: Sequence[str]) -> bool:
    """Whether a command only looks."""
    return any(tuple(args[: len(beginning)]) == beginning for beginning in READING)
