# SPDX-License-Identifier: Apache-2.0
"""A log has a line for each event, and none that somebody else wrote."""

import logging
import subprocess
import sys

import pytest

from cnsmo.conf.logs import OneLine


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("x", logging.WARNING, "x.py", 1, message, args, None)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("web1", "web1"),
        ("100 %s", "100 %s"),
        ("café", "café"),
        ("x\n2026-11-23 WARNING host removed", "x\\n2026-11-23 WARNING host removed"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\ud800", "\\ud800"),
        ("\u202e", "\\u202e"),
    ],
)
def test_what_a_stranger_named_stays_on_its_line(name: str, seen: str) -> None:
    found = record("reply to %s, not sent", name)
    assert OneLine().filter(found)
    assert found.getMessage() == f"reply to {seen}, not sent"


def test_a_programs_own_handlers_keep_to_one_line() -> None:
    code = (
        "from cnsmo import conf; from oslo_log import log\n"
        "conf.load([], program='x')\n"
        "log.getLogger('cnsmo.x').warning('reply to %s', 'a\\nb')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if "reply to" in line]
    assert line.endswith("reply to a\\nb")
