# SPDX-License-Identifier: Apache-2.0
"""How our daemons end when something is wrong: one line on stderr, and an exit code for it."""

from __future__ import annotations

import sys
from collections.abc import Callable

from oslo_config import cfg

from cnsmo.model.errors import CnsmoError, InvalidRequest


def run(name: str, work: Callable[[], int]) -> int:
    """Run a program's work.

    :return: its exit code.
    """
    try:
        return work()
    except CnsmoError as exc:
        return _told(name, str(exc), exc.exit_code)
    except cfg.Error as exc:
        return _told(name, f"configuration: {exc}", InvalidRequest.exit_code)
    except OSError as exc:
        return _told(name, f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc), 1)


def _told(name: str, message: str, code: int) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return code
