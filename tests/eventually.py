# SPDX-License-Identifier: Apache-2.0
"""Waiting for what nothing announces."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    look: Callable[[], T], timeout: float = 30.0, what: str = "", every: float = 0.01
) -> T:
    """The first true answer of ``look``, which is asked every so many seconds; fails after
    ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or look} did not come true within {timeout:g} s")
        time.sleep(every)
