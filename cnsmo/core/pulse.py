# SPDX-License-Identifier: Apache-2.0
"""Gathers the heartbeats that arrive together: a fleet's are noted in a few transactions a second.

The thread of one of the calls does it for all that wait, and then another's; there is no thread of
its own. A beat that comes alone is noted at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
GATHER_SECONDS = 0.1
"""Between the begins of two transactions."""
MOST = 32
"""So many beats are not kept waiting for more; of as many threads that answer calls, half."""


class _Ticket(Generic[Q, A]):
    """One that waits to be answered, or to answer all that wait."""

    def __init__(self, question: Q) -> None:
        self.question = question
        self.answer: A | Exception | None = None
        self.turn = threading.Event()


class Pulse(Generic[Q, A]):
    """Asks for many at once what each asks alone."""

    def __init__(self, note: Callable[[Sequence[Q]], Sequence[A | Exception]]) -> None:
        """note: answers in the order of the questions; an error is for who asked that one. What it
        raises is for all."""
        self._note = note
        self._lock = threading.Lock()
        self._enough = threading.Condition(self._lock)
        self._waiting: list[_Ticket[Q, A]] = []
        self._led = False
        self._not_before = 0.0

    def ask(self, question: Q) -> A:
        """The answer to a question.

        :raises Exception: what the answer is, when it is an error; or what note() raised.
        """
        mine: _Ticket[Q, A] = _Ticket(question)
        with self._lock:
            self._waiting.append(mine)
            if self._led:
                if len(self._waiting) >= MOST:
                    self._enough.notify()
            else:
                self._led = True
                mine.turn.set()
        while mine.answer is None:
            mine.turn.wait()
            mine.turn.clear()
            if mine.answer is None:
                self._lead()
        if isinstance(mine.answer, Exception):
            raise mine.answer
        return mine.answer

    def _lead(self) -> None:
        """Wait for company, if others were here just before; then answer those who came first."""
        with self._lock:
            pause = max(0.0, self._not_before - time.monotonic())
            self._enough.wait_for(lambda: len(self._waiting) >= MOST, pause)
            now, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            self._not_before = time.monotonic() + GATHER_SECONDS
        answers: Sequence[A | Exception]
        try:
            answers = self._note([ticket.question for ticket in now])
        except Exception as exc:  # noqa: BLE001  # it is raised where each of them was asked
            answers = [exc] * len(now)
        for ticket, answer in zip(now, answers, strict=True):
            ticket.answer = answer
            ticket.turn.set()
        with self._lock:
            self._led = bool(self._waiting)
            if self._waiting:
                self._waiting[0].turn.set()
