# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that hunts for secrets in all that a session leaves behind.

Every secret that is made while tests run, in this process and in those that it starts, is noted by
tests/spy. At the session's end each is looked for in all logs, in what the tests printed, and in
the arguments and environments of all programs that were started. One that is found fails the
session. With ``--hunt`` all of them, libraries too, log at debug, and a hunt that saw no secret or
no line of debug fails as well.

Loaded by tests/conftest.py, or by ``-p tests.hunting``.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests import failures
from tests.beds.bed import Bed

SPY = Path(__file__).parent / "spy"
SHORTEST = 16
"""Characters; what is shorter would be found by chance."""


class SecretsToldAreFailures:
    """The hunt of one session."""

    def __init__(self, loud: bool) -> None:
        self._loud = loud
        self._place = Path(tempfile.mkdtemp(prefix="cnsmo-hunt-"))
        self._spy = _let_in(self._place, loud)
        self.told: dict[str, set[str]] = {}
        """What was found, by where."""
        self.summary = ""
        Bed.keep_logs = self._place / "beds"
        if loud:
            self._listen()

    def _listen(self) -> None:
        """Have all that this process logs in a file."""
        handler = logging.FileHandler(self._place / "session.log")
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        self._spy.after_setup.append(lambda: logging.getLogger().addHandler(handler))
        self._spy.make_loud()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has ended: what it printed."""
        if report.when == "teardown" and (said := report.capstdout + report.capstderr):
            with (self._place / "printed.log").open("a", errors="replace") as file:
                file.write(f"{said}\n")

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Everything has ended that tests started."""
        factory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        logs = sorted({*factory.getbasetemp().rglob("*.log*"), *self._place.rglob("*.log*")})
        logs = [log for log in logs if log.is_file() and not log.is_symlink()]
        self._search(logs)
        if self.told and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        for where, makers in self.told.items():
            failures.note(session.config, f"told in {where}: {', '.join(sorted(makers))}")
        shutil.rmtree(self._place)
        return (yield)

    def _search(self, logs: list[Path]) -> None:
        secrets = self._made()
        started = sorted(self._place.glob("started.*"))
        self.told = _found(secrets, [*logs, *started], self._place / "patterns")
        if self._loud and not secrets:
            self.told["nowhere"] = {"no secret was made: is tests/spy on PYTHONPATH?"}
        if self._loud and not any("DEBUG" in _head(log) for log in logs):
            self.told["no log"] = {"no line at debug was logged"}
        size = sum(log.stat().st_size for log in logs) / 1e6
        makers = len(set(secrets.values()))
        self.summary = (
            f"{len(secrets)} secrets of {makers} makers in {len(logs)} logs ({size:.0f} MB) "
            f"and what {len(started)} processes started"
        )

    def _made(self) -> dict[str, str]:
        """All secrets, with who made each; of keys in PEM each line, for logs break them."""
        found: dict[str, str] = {}
        for path in self._place.glob("made.*"):
            for maker, secret in map(json.loads, path.read_text().splitlines()):
                lines = [line for line in secret.splitlines() if "PRIVATE KEY" not in line]
                found |= {line: maker for line in lines if len(line) >= SHORTEST}
        return found

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say who made what was told where, and never the secret."""
        if not self.told:
            terminalreporter.line(f"hunt: looked for {self.summary}: none was told")
            return
        terminalreporter.section("secrets were told", red=True, bold=True)
        for where, makers in sorted(self.told.items()):
            terminalreporter.line(f"{where}: {', '.join(sorted(makers))}")


def _let_in(place: Path, loud: bool) -> ModuleType:
    """Let the spy into this process, and into all that it starts."""
    os.environ["CNSMO_SPY"] = str(place)
    os.environ["CNSMO_SPY_LOUD"] = "1" if loud else ""
    paths = [str(SPY), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    sys.path.insert(0, str(SPY))
    sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # it reads where to write when it is imported
    finally:
        sys.path.remove(str(SPY))
    return sitecustomize


def _found(secrets: dict[str, str], files: Iterable[Path], patterns: Path) -> dict[str, set[str]]:
    """Who made what stands in each file; grep is quick with thousands of words."""
    patterns.touch(mode=0o600)
    patterns.write_text("".join(f"{secret}\n" for secret in secrets))
    told: dict[str, set[str]] = {}
    for file in files if secrets else ():
        command = ["grep", "-aoF", "-f", patterns, file]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode > 1:
            raise OSError(done.stderr)
        if done.stdout:
            told[str(file)] = {secrets[line] for line in done.stdout.splitlines()}
    return told


def _head(log: Path) -> str:
    with log.open(errors="replace") as file:
        return file.read(100_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What the session may be told."""
    parser.addoption("--hunt", action="store_true", help="log everything at debug, for the hunt")


def pytest_configure(config: pytest.Config) -> None:
    """Begin."""
    loud = config.getoption("--hunt")
    config.pluginmanager.register(SecretsToldAreFailures(loud), "cnsmo-hunting")
