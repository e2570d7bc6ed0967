# SPDX-License-Identifier: Apache-2.0
"""A lab of an ordinary user, by a real one: nobody, with his home in a directory of the test.

What root may not change for good (the mode of /dev/net/tun, who may enter /root, where some
machines keep Python) is changed in a mount namespace of the test's own.
"""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from cnsmo.lab import rootless
from cnsmo.lab.lab import Lab
from cnsmo.lab.process import Process

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")

ROOT = Path(__file__).parents[2]
NOBODY = 65534

BECOME_NOBODY = f"""
set -e
open_up() {{  # DIRECTORY THING: let everybody pass through DIRECTORY to THING, and see nothing else
    mkdir "$scratch/thing"
    mount --bind "$2" "$scratch/thing"
    mount -t tmpfs -o mode=0755 tmpfs "$1"
    mkdir -p "$2"
    mount --move "$scratch/thing" "$2"
    rmdir "$scratch/thing"
}}
umask 022
scratch=$1 mode=$2; shift 2
mknod "$scratch/tun" c 10 200
chmod "$mode" "$scratch/tun"
mount --bind "$scratch/tun" /dev/net/tun
while [ "$1" != -- ]; do open_up "$1" "$2"; shift 2; done
shift
exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "$@"
"""

SESSION = """
    import os, pathlib, sys
    from cnsmo.lab import place, rootless, topology
    from cnsmo.lab.lab import Lab
    from cnsmo.model.errors import CnsmoError

    try:
        if rootless.keeper() is None:
            rootless.reexec_in_user_namespace([sys.executable, *sys.orig_argv[1:]])
        lab = Lab(place.default_directory("mine"))
        lab.up(topology.demo())
    except CnsmoError as exc:
        sys.exit(str(exc))
    web1, app3 = lab.vm("web1"), lab.vm("app3")
    for vm, other in ((web1, "app1"), (app3, "web1")):
        vm.system().run("ping", "-q", "-c", "1", "-w", "5", str(lab.vm(other).seat.address.ip))
    web1.system().run("ip", "tuntap", "add", "tun0", "mode", "tun")
    web1.reboot()
    lab.faults.partition("east", "west")
    print("up", lab.directory, flush=True)
    if sys.stdin.read() == "leave":
        os._exit(0)
    lab.down()
    print("left:", *(path for path in lab.directory.parent.parent.rglob("*")))
    sys.exit(7)
"""


@pytest.fixture
def home():
    """Not tmp_path: pytest closes its directories to everybody else."""
    with tempfile.TemporaryDirectory(prefix="cnsmo-home-", dir="/tmp") as home:
        os.chown(home, NOBODY, NOBODY)
        yield Path(home)


def as_nobody(home: Path, tun_mode: str, *prefix: str) -> subprocess.Popen:
    """SESSION as nobody. prefix: a command that ends in running another."""
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), ROOT}
    closed: list[str] = []
    for thing in sorted(needed):
        way = list(reversed(thing.parents))
        reached = max((way.index(it) for it in needed.intersection(way)), default=0)
        for parent in way[reached:]:
            if not parent.stat().st_mode & stat.S_IXOTH:
                closed += [str(parent), str(thing)]
                break
    assert len(closed[::2]) == len(set(closed[::2])), f"two things behind one closed door: {closed}"
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", BECOME_NOBODY, "sh", str(home), tun_mode, *closed, "--",
         *prefix, sys.executable, "-B", "-c", textwrap.dedent(SESSION)],
        env=env, cwd="/", text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
def session(home):
    """A user's process with his lab up."""
    process = as_nobody(home, "0666")
    line = process.stdout.readline()
    if not line.startswith("up "):
        pytest.fail(f"{line}{process.communicate()}")
    process.directory = Path(line.split()[1])
    yield process
    process.kill()
    process.communicate()


def test_closed_tun_device_gets_exact_advice_and_nothing_is_made(home):
    process = as_nobody(home, "0600")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert "may not use /dev/net/tun (mode 0600, usual is 0666)" in err
    assert "sudo chmod 0666 /dev/net/tun" in err
    assert "/etc/udev/rules.d/60-tun.rules" in err
    assert not (home / ".local").exists()


def test_machine_that_denies_user_namespaces_is_explained(home):
    """For real: the user's own limit, set to none in a user namespace around him."""
    limit = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'
    around = ("unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh")
    process = as_nobody(home, "0666", *around)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, (out, err)
    assert "sudo sysctl user.max_user_namespaces=10000" in err


def test_user_has_a_lab_and_nothing_is_left_of_it(session, home):
    assert session.directory == home / ".local/state/cnsmo/lab/mine"
    assert session.directory.stat().st_uid == NOBODY
    out, err = session.communicate("end", timeout=60)
    assert session.returncode == 7, err
    assert out.split() == ["left:"]
    assert not session.directory.exists()


def test_another_terminal_can_enter(session):
    keeper = Lab.load(session.directory).keeper
    assert keeper.alive
    code = f"""
        import pathlib
        from cnsmo.lab import place
        from cnsmo.lab.lab import Lab, labs
        lab = Lab.load(pathlib.Path({str(session.directory)!r}))
        assert place.base() == lab.directory.parent, place.base()
        assert [one.name for one in labs()] == ["mine"]
        print(lab.vm("db1").system().run("hostname").stdout)
        lab.down()
    """
    him = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
    command = (sys.executable, "-B", "-c", textwrap.dedent(code))
    done = subprocess.run(
        [*him, *rootless.enter_existing(keeper.pid), *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(session.directory.parents[4])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "db1", done.stderr
    assert not session.directory.exists()


def test_down_from_outside_ends_the_whole_user_namespace(session):
    lab = Lab.load(session.directory)
    family = descendants(lab.keeper)
    assert len(family) > 2 * 6
    lab.down()
    assert not any(process.alive for process in family)
    assert not session.directory.exists()


def test_killed_keeper_takes_all_with_it_and_its_files_can_be_taken_down(session):
    lab = Lab.load(session.directory)
    family = descendants(lab.keeper)
    os.kill(session.pid, signal.SIGKILL)
    assert all(process.wait(5) for process in family)
    assert not lab.keeper.alive
    lab.down()
    assert not session.directory.exists()


def descendants(process: Process) -> list[Process]:
    found = [process]
    for one in found:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text().split()
            found += [Process.of(int(pid)) for pid in children]
    return found
