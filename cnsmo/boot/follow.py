# SPDX-License-Identifier: Apache-2.0
"""A core follows its Heat stack: the documents of CNSMO::Deployment, applied as they change.

Heat tells nobody when it has something new: the core asks. A document is a software deployment of
the stack's (heat_templates/lib/deployment.yaml), which is complete when the core says so, and fails
with what the core says.
"""

from __future__ import annotations

import json
import time
from typing import Any

from cnsmo.boot.core import ACCOUNT, CORE_DIR
from cnsmo.boot.heat import REFUSED, Declared, Heat, Seat, declared
from cnsmo.boot.machine import CONF_DIR, Machine, say
from cnsmo.files import write_file
from cnsmo.model import errors
from cnsmo.services.base import Completed

UNIT = "cnsmo-follow.service"
GIVEN = CONF_DIR / "follow.json"
"""Whom to ask, as the user-data has it."""
SEAT = CORE_DIR / "follow.json"
"""The same, where the core's account reads it."""
DONE = CORE_DIR / "followed.json"
"""What has been answered."""
PULSE = 5.0
"""Seconds between two looks."""
PATIENCE = 120.0
"""Seconds for an apply, beside those in which it shall be in force."""
MAX_TOLD = 1000
"""Characters of a reason; Heat puts others around it."""
TRIES = 5
"""While hosts join, somebody else may change the deployment between plan and apply."""


def begin(machine: Machine) -> None:
    """Follow a stack from now on, if the user-data names one."""
    given, seat = machine.path(GIVEN), machine.path(SEAT)
    if given.exists():
        machine.write(SEAT, machine.read(GIVEN), ACCOUNT)
        given.unlink()
    if seat.exists():
        machine.enable(UNIT)


def run(machine: Machine) -> int:
    """Follow, until somebody ends it.

    :raises InvalidRequest: when what the user-data named is no resource of Heat's.
    """
    follower = Follower(machine)
    said = ""
    while True:
        try:
            follower.look()
            reason = ""
        except errors.CnsmoError as exc:
            reason = str(exc)
        if reason != said:
            say(reason or "the stack's documents are followed again")
            said = reason
        time.sleep(PULSE)


class Follower:
    """Knows which documents were answered, through its restarts, too."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._heat = Heat(Seat.of(json.loads(machine.read(SEAT))))
        self._done = self._answered()

    def look(self) -> None:
        """Ask, and apply what is new.

        :raises CnsmoError: when Heat or the core does not answer: what is open stays so.
        """
        there = list(declared(self._heat.metadata()))
        for one in there:
            if one.ident not in self._done:
                self._answer(one)
        gone = self._done - {one.ident for one in there}
        if gone:
            self._note(self._done - gone)

    def _answer(self, one: Declared) -> None:
        say(f"applying the document of {one.name}")
        told = self._apply(one)
        say(f"{one.name}: {told.get(REFUSED, 'applied')}")
        try:
            Heat(one.reply).signal(told)
        except (errors.Denied, errors.NotFound) as exc:
            say(f"{one.name}: nobody waits for it any more: {exc}")
        self._note(self._done | {one.ident})

    def _apply(self, one: Declared) -> dict[str, Any]:
        """What to tell who waits.

        :raises Unavailable: when the core does not answer.
        """
        for _try in range(TRIES):
            done = self._manage(one)
            if done.code != errors.Conflict.exit_code:
                break
        said = (done.stderr or done.stdout).strip()
        if done.code in (errors.Unavailable.exit_code, errors.SchemaMismatch.exit_code):
            raise errors.Unavailable(f"the document of {one.name} waits for the core: {said}")
        if done.code:
            return {REFUSED: said[:MAX_TOLD]}
        return {"deploy_status_code": 0, "deploy_stdout": done.stdout[-MAX_TOLD:]}

    def _manage(self, one: Declared) -> Completed:
        program = str(self._machine.prefix / "bin" / "cnsmo-manage")
        words = ("apply", "-", *(("--wait", f"{one.within}s") if one.within else ()))
        patience = one.within + PATIENCE
        every = range(256)
        return self._machine.system.run(program, *words, stdin=one.text, timeout=patience, ok=every)

    def _answered(self) -> frozenset[str]:
        try:
            return frozenset(json.loads(self._machine.read(DONE)))
        except FileNotFoundError:
            return frozenset()

    def _note(self, done: frozenset[str]) -> None:
        write_file(self._machine.path(DONE), json.dumps(sorted(done)))
        self._done = done
