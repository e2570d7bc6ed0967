# SPDX-License-Identifier: Apache-2.0
"""The files of a driver and its checker, and the process itself."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cnsmo.model.errors import DriverError
from cnsmo.services.loadbalancer.drivers import nfl_checker
from cnsmo.services.loadbalancer.drivers.nfl_change import Loaded
from cnsmo.services.loadbalancer.drivers.nfl_files import Files, Holder, release
from cnsmo.services.loadbalancer.drivers.nfl_health import Verdict
from tests.eventually import eventually
from tests.unit.services.loadbalancer.drivers.nfl_scenes import server, wanted

CHECKER = (sys.executable, "-I", "-S", nfl_checker.__file__)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_what_is_put_is_there(files: Files) -> None:
    assert (files.wanted(), files.loaded(), files.health()) == (None, Loaded(), {})
    assert files.version() is None
    what = wanted(server(1))
    verdicts = {"a": Verdict(False, "refused", 1.5, True)}
    files.put_wanted(what)
    first = files.version()
    files.put_wanted(what)
    assert first != files.version() is not None
    files.put_loaded(Loaded(usable=("a",)))
    files.put_health(verdicts)
    assert (files.wanted(), files.loaded().usable, files.health()) == (what, ("a",), verdicts)
    files.put_wanted(None)
    assert files.version() is None


@pytest.mark.parametrize("text", ["{torn", "[]", "3", '{"a": 1}', '{"a": {"up": true}}'])
def test_torn_health_is_none(files: Files, text: str) -> None:
    (files.dir / "health.json").write_text(text)
    assert files.health() == {}


def test_what_cannot_be_read_is_told(files: Files) -> None:
    (files.dir / "health.json").write_bytes(b"\xff")
    assert files.health() == {}
    (files.dir / "wanted.json").mkdir()
    with pytest.raises(DriverError, match=r"wanted\.json cannot be read"):
        files.wanted()


def test_only_one_has_the_lock(files: Files) -> None:
    other = Files(files.dir)
    with files.lock(0) as mine, other.lock(0.05) as theirs:
        assert (mine, theirs) == (True, False)
    with other.lock(0) as theirs:
        assert theirs


def test_who_waits_for_the_lock_gets_it(files: Files) -> None:
    other = Files(files.dir)
    got = threading.Event()

    def wait() -> None:
        with other.lock(30) as mine:
            assert mine
            got.set()

    with files.lock(0):
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not got.is_set()
    assert got.wait(10)
    waiter.join()


def test_the_checker_says_who_it_is(files: Files) -> None:
    assert files.holder() is None
    with files.hold() as mine:
        assert mine
        holder = Files(files.dir).holder()
        assert holder
        assert holder == Holder(os.getpid(), release(), sys.executable)
        os.utime(files.dir / "checker", (1, 1))
        hung = files.holder()
        files.beat()
        alive = files.holder()
        assert hung
        assert alive
        assert hung.silent > alive.silent
        with (files.dir / "checker").open("r+") as file:
            file.truncate()
            assert files.holder() is None  # it has not said who it is yet
    assert files.holder() is None


def test_waking_nobody_is_fine(files: Files) -> None:
    files.wake()
    (files.dir / "wake").write_text("no pipe")
    pipe = files.open_wake()
    files.wake()
    assert os.read(pipe, 10) == b"!"
    with pytest.raises(BlockingIOError):
        os.read(pipe, 10)
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
    for _ in range(5000):
        files.wake()
    os.close(pipe)
    os.close(files.open_wake())


# --- the process --------------------------------------------------------------------------


def test_the_checker_needs_nothing_but_the_standard_library(files: Files) -> None:
    """Nothing is wanted: it ends at once, and well."""
    done = subprocess.run([*CHECKER, str(files.dir)], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_second_checker_ends(files: Files) -> None:
    files.put_wanted(wanted(server(1)))
    with files.hold() as mine:
        assert mine
        done = subprocess.run([*CHECKER, str(files.dir)], timeout=30, check=False)
    assert done.returncode == 1


def test_a_checker_that_can_do_nothing_goes_on_and_says_so_once(tmp_path: Path) -> None:
    """No program is there; it was started where there is no table, either."""
    files = Files(tmp_path / "unit")
    files.put_wanted(wanted(server(1, address="192.0.2.1")))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", NO_PROGRAMS, str(nfl_checker.TOP), str(files.dir)],
            stderr=log,
        )
        try:
            attempts = files.dir / "attempts"
            eventually(lambda: attempts.exists() and len(attempts.read_text()) >= 3)
            assert (tmp_path / "log").read_text() == "nft is not there\n"
            files.put_wanted(None)
            files.wake()
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()


NO_PROGRAMS = """
import sys
sys.path.insert(0, sys.argv[1])
from cnsmo.model.errors import ProgramError
from cnsmo.services.loadbalancer.drivers import nfl_checker
def run(*args, **_options):
    with open(sys.argv[2] + "/attempts", "a") as file:
        file.write("!")
    raise ProgramError(f"{args[0]} is not there")
nfl_checker.run = run
sys.exit(nfl_checker.main(sys.argv[2:]))
"""


def test_programs_are_run_with_a_limit_and_their_errors_are_told(monkeypatch) -> None:
    from cnsmo.model.errors import ProgramError

    assert nfl_checker.run("cat", stdin="x") == "x"
    assert nfl_checker.run("false", ok=(1,)) == ""
    with pytest.raises(ProgramError, match="ended with 1"):
        nfl_checker.run("false")
    with pytest.raises(ProgramError, match="cannot be run"):
        nfl_checker.run("no-such-program")
    monkeypatch.setattr(nfl_checker, "PROGRAM_SECONDS", 0.05)
    with pytest.raises(ProgramError, match="timed out"):
        nfl_checker.run("sleep", "10")
