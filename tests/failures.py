# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that notes what failed, for who runs many environments side by side.

What they print together is long, and few read more than its end. Each session that fails adds its
lines to the folder that ``CNSMO_FAILURES`` names, and tools/test.sh shows them last of all. Where
nothing but tests failed, it names them for tests/recheck.py, too.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recheck import SUFFIX

VARIABLE = "CNSMO_FAILURES"
MOST = 200
"""Characters that are told of one failure."""


class Failures:
    """What failed in this session."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.lines: list[str] = []
        self._tests: list[str] = []
        self._others = False
        """Whether something failed that is no test."""

    def note(self, line: str) -> None:
        """Something that is no test's."""
        self.lines.append(line)
        self._others = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test, its set-up or its tear-down was run."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module was read."""
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = str(crash.message if crash else report.longrepr).strip().partition("\n")[0]
            self.lines.append(f"{report.nodeid}: {why[:MOST]}")
            self._tests += [report.nodeid] if report.nodeid not in self._tests else []
            self._others |= not isinstance(report, pytest.TestReport)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """After all others, which may find the session failed."""
        yield
        code = int(session.exitstatus)
        if code:
            self._place.mkdir(parents=True, exist_ok=True)
            name = os.environ.get("TOX_ENV_NAME", "tests")
            told = "".join(f"{name}: {line}\n" for line in self.lines or [f"exit code {code}"])
            file = self._place / f"{name}.{os.getpid()}"
            file.write_text(told)
            if code == pytest.ExitCode.TESTS_FAILED and self._tests and not self._others:
                tests = "".join(f"{test}\n" for test in self._tests)
                file.with_name(file.name + SUFFIX).write_text(tests)


def pytest_configure(config: pytest.Config) -> None:
    """Begin, where somebody wants to know."""
    if place := os.environ.get(VARIABLE):
        config.pluginmanager.register(Failures(Path(place)), "cnsmo-failures")


def note(config: pytest.Config, line: str) -> None:
    """Have something told that is no test's."""
    plugin = config.pluginmanager.get_plugin("cnsmo-failures")
    if plugin is not None:
        plugin.note(line)
