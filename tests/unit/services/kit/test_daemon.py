# SPDX-License-Identifier: Apache-2.0
"""A daemon is started once, found again, and never mistaken for another process."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnsmo.agent.system import LocalSystem
from cnsmo.model.errors import DriverError
from cnsmo.services.kit.daemon import LOG_BYTES, Daemon

NIGHT = f"301.{os.getpid()}"
"""Seconds; a test that goes on beside this one sleeps for another time."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(LocalSystem(), tmp_path / "unit", "sleep", NIGHT)
    yield made
    made.stop()


def test_it_is_started_once_and_found_by_the_next_process(daemon: Daemon, tmp_path: Path) -> None:
    assert daemon.pid is None
    pid = daemon.start()
    assert daemon.start() == pid
    again = Daemon(LocalSystem(), tmp_path / "unit", "sleep", NIGHT)
    assert again.pid == pid
    assert stat.S_IMODE((tmp_path / "unit" / "sleep.pid").stat().st_mode) == 0o600
    assert stat.S_IMODE(daemon.log.stat().st_mode) == 0o600


def test_another_process_of_the_same_program_is_not_it(daemon: Daemon, tmp_path: Path) -> None:
    pid = daemon.start()
    other = Daemon(LocalSystem(), tmp_path / "other", "sleep", "302")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sleep.pid").write_text(f"{pid}\n")
    assert other.pid is None
    other.stop()
    assert daemon.pid == pid


@pytest.mark.parametrize("text", ["", "x", "-1", "99999999", "1"])
def test_a_pid_file_that_means_nothing_is_nothing(daemon: Daemon, text: str) -> None:
    daemon.log.parent.mkdir()
    (daemon.log.parent / "sleep.pid").write_text(text)
    assert daemon.pid is None
    daemon.stop()
    assert not (daemon.log.parent / "sleep.pid").exists()


def test_one_that_was_found_by_other_means_is_taken_for_it(daemon: Daemon) -> None:
    pid = daemon.start()
    (daemon.log.parent / "sleep.pid").unlink()
    assert (daemon.known, daemon.pid) == (None, None)
    daemon.adopt(pid)
    assert (daemon.known, daemon.pid) == (pid, pid)


def test_a_log_is_emptied_once_it_is_too_large(daemon: Daemon) -> None:
    daemon.trim_log()  # there is none yet
    daemon.start()
    with daemon.log.open("r+b") as file:
        file.write(b"x" * LOG_BYTES)
        file.flush()
        daemon.trim_log()
        assert daemon.log.stat().st_size == LOG_BYTES
        file.write(b"x" * (1 << 16))
        file.flush()
        daemon.trim_log()
        assert daemon.log.stat().st_size == 0
        file.write(b"more")
        file.flush()
        daemon.trim_log()
    assert daemon.log.read_bytes().endswith(b"more")


def test_it_is_ended_when_nobody_could_find_it_again(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    system = LocalSystem()
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(DriverError, match="No space left"):
            daemon.start()
    assert daemon.pid is None
    shown = system.run("pgrep", "-x", "-f", f"sleep {NIGHT}", ok=(0, 1)).stdout
    assert shown == ""


def test_its_last_words_are_told(tmp_path: Path) -> None:
    made = Daemon(LocalSystem(), tmp_path, "sleep", "forever")
    made.start()
    until = time.monotonic() + 5
    while made.pid is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert "invalid time interval" in str(made.died())
    made.stop()
    made.log.unlink()
    assert "it said nothing" in str(made.died())
