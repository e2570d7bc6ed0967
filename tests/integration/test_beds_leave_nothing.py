# SPDX-License-Identifier: Apache-2.0
"""Of a bed nothing is left, however the tests end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.beds import Bed, MariadbBed, PostgresqlBed, RabbitmqBed
from tests.beds.process import tail, wait_until
from tests.beds.warden import is_alive

ROOT = Path(__file__).parents[2]
DATABASES = ["postgresql", "mariadb"]
ALL = [*DATABASES, "rabbitmq"]


def test_postgresql_leaves_no_shared_memory_when_it_was_killed() -> None:
    with PostgresqlBed() as bed:
        postmaster = (bed.directory / "data" / "postmaster.pid").read_text().split()[0]
        assert "/dev/shm/PostgreSQL" not in Path(f"/proc/{postmaster}/maps").read_text()
        segment = _segment(bed.directory)
        assert segment in _segments()
        bed.kill()
        assert segment not in _segments()
        bed.start()
        segment = _segment(bed.directory)
    assert segment not in _segments()


def test_a_bed_that_fails_or_is_forgotten_leaves_nothing() -> None:
    program = (
        "import os, sys; from tests.beds import PostgresqlBed\n"
        "bed = PostgresqlBed(); print(bed.directory); bed.start()\n"
        "if os.fork() == 0: sys.exit()\n"
        "os.wait(); assert bed.directory.exists(); bed.kill()\n"
        "failing = PostgresqlBed(); print(failing.directory); failing._bin = failing.directory\n"
        "with failing: pass\n"
    )
    command = [sys.executable, "-u", "-c", program]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "did not start" in ended.stderr
    assert len(ended.stdout.split()) == 2
    assert not any(Path(line).exists() for line in ended.stdout.split())


INTERRUPTED = """
import os, pathlib, time, pytest

@pytest.mark.parametrize("order", [0])
def test_hangs(order, request):
    lines = []
    for name in {names}:
        bed = request.getfixturevalue(name)
        lines += [str(bed.directory), *map(str, bed.pids)]
    pg = request.getfixturevalue("postgresql")
    lines.append((pg.directory / "data/postmaster.pid").read_text().splitlines()[6].split()[1])
    if {paused}:
        pg.pause()
    pathlib.Path("started.new").write_text("\\n".join(lines))
    os.rename("started.new", "started")
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("how", "names", "paused"),
    [
        pytest.param(signal.SIGKILL, ALL, False, id="kill"),
        pytest.param(signal.SIGKILL, ["postgresql"], True, id="kill-while-paused"),
        pytest.param(signal.SIGINT, DATABASES, False, id="ctrl-c"),
    ],
)
def test_nothing_is_left_when_pytest_is_interrupted(
    how: signal.Signals, names: list[str], paused: bool, tmp_path: Path
) -> None:
    (tmp_path / "test_hangs.py").write_text(INTERRUPTED.format(names=names, paused=paused))
    (tmp_path / "pytest.ini").touch()
    started = tmp_path / "started"
    output = tmp_path / "output"
    with output.open("wb") as file:
        run = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "tests.beds.plugin", "test_hangs.py"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stdout=file,
            stderr=file,
        )
    try:
        wait_until(lambda: started.exists() or run.poll() is not None, 60, "the beds run")
        assert run.poll() is None, tail(output)
    finally:
        run.send_signal(how)
        run.wait(30)
    lines = started.read_text().split()
    segment = lines.pop()
    pids = [int(line) for line in lines if line.isdigit()]
    directories = [Path(line) for line in lines if not line.isdigit()]
    assert len(directories) == len(names)
    assert len(pids) > len(names)
    wait_until(lambda: not any(is_alive(pid) for pid in pids), 10, "all servers are gone")
    wait_until(lambda: not any(d.exists() for d in directories), 10, "their data are gone")
    assert segment not in _segments()


@pytest.mark.parametrize("kind", [PostgresqlBed, MariadbBed, RabbitmqBed])
def test_a_server_whose_warden_is_killed_dies_too(kind: type[Bed]) -> None:
    with kind() as bed:
        pids = bed.pids
        assert bed._process is not None
        os.kill(bed._process._warden.pid, signal.SIGKILL)
        server = bed._process.pid
        wait_until(lambda: not is_alive(server), 10, "the server is gone")
        bed.stop()
        rest = [pid for pid in pids if pid != server]
        wait_until(lambda: not any(is_alive(pid) for pid in rest), 10, "its children are gone")


def _segment(directory: Path) -> str:
    """Id of a PostgreSQL server's System V shared memory."""
    return (directory / "data" / "postmaster.pid").read_text().splitlines()[6].split()[1]


def _segments() -> set[str]:
    """Ids of all System V shared memory on this machine, proc(5)."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {line.split()[1] for line in lines}
