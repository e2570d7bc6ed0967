# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that makes skipped tests loud.

Where the environment has ``CNSMO_FAIL_ON_SKIP=1`` (CI), a skipped test fails the session: nothing
that CI reports as green was left out. A test that may really be left out on some machines says so
itself, with the reason::

    @pytest.mark.may_skip("the kernel of some machines has no WireGuard")

Module-level skips and ``pytest.importorskip`` cannot carry the mark and always count.
Loaded by ``pytest_plugins = ["tests.skips"]`` in tests/conftest.py, or by ``-p tests.skips``.
"""

import os
from collections.abc import Iterator

import pytest

from tests import failures

VARIABLE = "CNSMO_FAIL_ON_SKIP"


class SkipsAreFailures:
    """Collects the skips that nobody allowed, and fails the session at its end."""

    def __init__(self) -> None:
        self.unexpected: list[str] = []

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Remember ``report`` when it is a skip without the mark."""
        if (
            not report.skipped
            or hasattr(report, "wasxfail")
            or "may_skip" in getattr(report, "keywords", ())
        ):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        self.unexpected.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test, its set-up or its tear-down was run or skipped."""
        self.note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module was collected or skipped."""
        self.note(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Turn success into failure; leave every other outcome as it is."""
        if self.unexpected and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        for line in self.unexpected:
            failures.note(session.config, f"skipped: {line}")
        return (yield)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which, and what to do."""
        if not self.unexpected:
            return
        terminalreporter.section("skipped, which is a failure here", red=True, bold=True)
        for line in self.unexpected:
            terminalreporter.line(line)
        terminalreporter.line(
            f"{VARIABLE} is set: install what these tests need (tools/test.sh does), "
            "or mark a test that may be left out with may_skip and the reason."
        )


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark; watch where the environment asks for it."""
    config.addinivalue_line(
        "markers", f"may_skip(reason): this test may be skipped even where {VARIABLE} is set"
    )
    if os.environ.get(VARIABLE, "") not in ("", "0") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipsAreFailures(), "cnsmo-skips")
