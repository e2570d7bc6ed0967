# SPDX-License-Identifier: Apache-2.0
"""Looks at what may not answer: on a thread of its own, and who asks waits for a while only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")


class Probe(Generic[T]):
    """Asked by many at once, it looks once; what was seen a moment ago is not looked at anew."""

    def __init__(self, look: Callable[[], T], patience: float, fresh: float = 1.0) -> None:
        """patience: seconds that who asks waits at most; fresh: seconds that an answer counts."""
        self._look = look
        self._patience = patience
        self._fresh = fresh
        self._lock = threading.Lock()
        self._under_way: Future[T] | None = None
        self._began = -inf

    def read(self) -> T:
        """What is seen now.

        :raises TimeoutError: when that takes too long; whatever the look itself raises.
        """
        with self._lock:
            known = self._under_way
            if known is None or (known.done() and time.monotonic() - self._began > self._fresh):
                known = self._under_way = Future()
                self._began = time.monotonic()
                # A daemon: what hangs in a database that is away must not keep the process.
                threading.Thread(target=self._run, args=(known,), name="probe", daemon=True).start()
        return known.result(self._patience)

    def _run(self, told: Future[T]) -> None:
        try:
            told.set_result(self._look())
        except Exception as exc:  # noqa: BLE001  # told to who asked
            told.set_exception(exc)
