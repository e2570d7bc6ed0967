# SPDX-License-Identifier: Apache-2.0
"""The choke point: every line of it, with real programs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnsmo.agent import system as module
from cnsmo.agent.system import LocalSystem
from cnsmo.model.errors import ProgramError
from tests.eventually import eventually

FORKING = ("sh", "-c", '"$@" & wait', "sh")
"""As nsenter does with -p: the program runs as a child of what was started."""


@pytest.fixture
def system() -> LocalSystem:
    return LocalSystem()


@pytest.fixture
def started(system: LocalSystem, tmp_path: Path) -> Iterator[int]:
    """A daemon."""
    pid = system.start("sleep", "60", log=tmp_path / "log")
    yield pid
    system.stop(pid, "sleep")


def test_a_program_runs_to_its_end(system: LocalSystem) -> None:
    done = system.run("cat", stdin="grüße\n")
    assert (done.args, done.code, done.stdout, done.stderr) == (("cat",), 0, "grüße\n", "")


def test_nothing_is_left_to_a_shell(system: LocalSystem) -> None:
    assert system.run("echo", "$HOME; `id` *").stdout == "$HOME; `id` *\n"


def test_programs_see_a_fixed_environment_and_no_input(
    system: LocalSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNSMO_SECRET", "hunter2")
    assert dict(line.split("=", 1) for line in system.run("env").stdout.splitlines()) == (
        module.ENVIRONMENT
    )
    assert system.run("cat").stdout == ""


def test_a_failure_says_what_failed_and_how(system: LocalSystem) -> None:
    with pytest.raises(ProgramError, match=r"^ls /nowhere ended with 2: .*No such file"):
        system.run("ls", "/nowhere")
    assert system.run("ls", "/nowhere", ok=(0, 2)).code == 2


def test_what_a_program_said_only_on_stdout_is_told_too(system: LocalSystem) -> None:
    with pytest.raises(ProgramError, match="ended with 3: only here"):
        system.run("sh", "-c", "echo only here; exit 3")


def test_a_long_complaint_is_cut(system: LocalSystem) -> None:
    with pytest.raises(ProgramError) as caught:
        system.run("sh", "-c", "seq 10000 >&2; exit 1")
    assert len(str(caught.value)) < 800
    assert str(caught.value).endswith("10000")


def test_output_that_is_no_text_does_no_harm(system: LocalSystem) -> None:
    assert system.run("printf", r"a\377b").stdout == "a\ufffdb"


def test_a_program_that_takes_too_long_is_ended(system: LocalSystem) -> None:
    before = time.monotonic()
    with pytest.raises(ProgramError, match=r"sleep 61 did not end within 0\.05 s"):
        system.run("sleep", "61", timeout=0.05)
    assert time.monotonic() - before < 10


def test_a_program_that_is_missing_is_named(system: LocalSystem, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="no-such-program x cannot be run: No such file"):
        system.run("no-such-program", "x")
    with pytest.raises(ProgramError, match="no-such-program cannot be run: No such file"):
        system.start("no-such-program", log=tmp_path / "log")


def test_programs_are_looked_for_on_a_fixed_path(
    system: LocalSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "wg-fake"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert system.has("sh")
    assert not system.has("wg-fake")


def test_a_daemon_is_detached_and_writes_to_its_log(system: LocalSystem, tmp_path: Path) -> None:
    log = tmp_path / "new" / "log"
    pid = system.start("sh", "-c", "echo to the log; echo and this >&2; pwd; sleep 60", log=log)
    eventually(lambda: log.read_text() == "to the log\nand this\n/\n")
    assert log.stat().st_mode & 0o777 == 0o600
    assert os.getsid(pid) == pid != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert system.alive(pid, "sh")
    system.stop(pid, "sh")
    assert not system.alive(pid, "sh")


def test_a_process_is_alive_only_as_the_program_that_it_was(
    system: LocalSystem, started: int
) -> None:
    assert system.alive(started, "sleep")
    assert system.alive(started, "/usr/bin/sleep")
    assert not system.alive(started, "wireguard-go")
    assert not system.alive(2**22 + 1, "sleep")


def test_a_child_that_died_is_not_alive(system: LocalSystem, started: int) -> None:
    os.kill(started, signal.SIGKILL)
    eventually(lambda: not system.alive(started, "sleep"))


def test_stopping_what_is_gone_is_fine(system: LocalSystem, started: int) -> None:
    system.stop(started, "sleep")
    system.stop(started, "sleep")
    system.stop(os.getpid(), "not what this is")


def test_a_daemon_of_an_earlier_agent_is_stopped_too(system: LocalSystem, started: int) -> None:
    before = time.monotonic()
    LocalSystem().stop(started, "sleep", timeout=0.2)  # a zombie for who is not its parent
    assert not system.alive(started, "sleep")
    assert time.monotonic() - before < 10


def test_stopping_takes_no_longer_than_ending(system: LocalSystem, tmp_path: Path) -> None:
    pid = system.start("sleep", "60", log=tmp_path / "log")
    before = time.monotonic()
    system.stop(pid, "sleep", timeout=20)
    assert time.monotonic() - before < 10


def test_who_ignores_the_polite_signal_is_killed(system: LocalSystem, tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    pid = system.start(sys.executable, "-c", f"{code}; time.sleep(60)", log=log)
    eventually(lambda: log.read_text() == "1\n")
    system.stop(pid, sys.executable, timeout=0.1)
    assert not system.alive(pid, sys.executable)


def test_who_cannot_be_killed_is_reported(
    system: LocalSystem, started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "alive", lambda _pid, _program: True)
    with pytest.raises(ProgramError, match=rf"sleep \(process {started}\) does not end"):
        system.stop(started, "sleep", timeout=0.1)
    monkeypatch.undo()


def test_dead_children_leave_no_zombies(system: LocalSystem, tmp_path: Path) -> None:
    pid = system.start("true", log=tmp_path / "log")

    def buried() -> bool:
        system.alive(os.getpid(), "x")
        return not Path(f"/proc/{pid}").exists()

    eventually(buried)


def test_what_runs_in_a_namespace_is_known_by_its_own_process(tmp_path: Path) -> None:
    inside = LocalSystem(FORKING)
    assert inside.run("echo", "hello").stdout == "hello\n"
    pid = inside.start("sleep", "60", log=tmp_path / "log")
    assert Path(f"/proc/{pid}/cmdline").read_text() == "sleep\x0060\x00"
    inside.stop(pid, "sleep")
    assert not inside.alive(pid, "sleep")


def test_what_does_not_start_in_its_namespace_is_reported(tmp_path: Path) -> None:
    nowhere = LocalSystem(("false",))
    with pytest.raises(ProgramError, match="sleep did not start in its namespace"):
        nowhere.start("sleep", "60", log=tmp_path / "log")


def test_a_namespace_that_takes_too_long_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPAWN_SECONDS", 0.05)
    slow = LocalSystem(("sleep", "60"))
    with pytest.raises(ProgramError, match="did not start in its namespace"):
        slow.start("0", log=tmp_path / "log")
    for child in slow._children:
        child.kill()
        child.wait()


def test_a_child_whose_status_has_no_namespaces_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr(module, "SPAWN_SECONDS", 0.05)
    monkeypatch.setattr(module, "_words", lambda _path: ["999999999"])
    with pytest.raises(ProgramError):
        module._inner_pid(child, "sleep")
    child.kill()
    child.wait()
