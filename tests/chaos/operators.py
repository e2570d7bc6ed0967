# SPDX-License-Identifier: Apache-2.0
"""Two operators who apply documents side by side, now and then one that must be refused."""

from __future__ import annotations

import itertools
import random
import threading

from cnsmo.model.errors import CnsmoError, InvalidDocument
from tests.chaos import cast
from tests.chaos.history import Apply, Outcome
from tests.chaos.stage import Stage, chance

WRITERS = 2
PAUSE = (2.0, 6.0)
"""Seconds from one apply to the next of the same operator."""
INSIST = 120.0
WRONG = 0.2
"""The share of documents that must be refused."""


class Operators:
    """Apply until they are stopped; then `settle`."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.applies: list[Apply] = []
        self._stage = stage
        self._markers = itertools.count(1)
        self._chances = [chance(seed, f"operator {number}") for number in range(WRITERS)]
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(it,), daemon=True) for it in self._chances
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both, each after what it is about."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def apply(self, dice: random.Random, wrong: bool = False) -> Apply:
        """Apply one document, and note what came of it."""
        marker = next(self._markers)
        kind = dice.choice(cast.REFUSED) if wrong else cast.GOOD
        text = cast.document(marker, dice, kind)
        at, revision, said = self._stage.now, 0, ""
        try:
            revision = self._stage.operator().apply(text).revision or 0
            outcome = Outcome.ACCEPTED
        except InvalidDocument as exc:
            outcome, said = Outcome.REFUSED, str(exc)
        except CnsmoError as exc:
            outcome, said = Outcome.UNKNOWN, str(exc)
        done = Apply(marker, not wrong, outcome, revision, at, said)
        self.applies.append(done)
        return done

    def insist(self) -> Apply:
        """Apply good documents until one is accepted, at most for INSIST seconds; the last one."""
        until = self._stage.now + INSIST
        while True:
            done = self.apply(self._chances[0])
            if done.outcome is Outcome.ACCEPTED or self._stage.now > until:
                return done

    def _work(self, dice: random.Random) -> None:
        while not self._over.wait(dice.uniform(*PAUSE)):
            self.apply(dice, wrong=dice.random() < WRONG)
