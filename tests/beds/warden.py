# SPDX-License-Identifier: Apache-2.0
"""Run a server so that nothing of it outlives the process that asked for it.

Started as a script with JSON (see `Order`) as its argument. The warden adopts whatever the server
forks off (prctl(2), PR_SET_CHILD_SUBREAPER), watches its parent through a pidfd, and when the
server or the parent ends, kills all that is left. Should the warden itself be killed, the kernel
kills the server (PR_SET_PDEATHSIG). A parent's own PDEATHSIG would not do: it fires when the
*thread* that started the server ends.

Only the standard library: it runs with `python -I -S`, in about 20 ms.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE = 5.0
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


@dataclass(frozen=True)
class Order:
    """What a warden is to do."""

    parent: int
    """The process without which the server must not live."""
    command: list[str]
    ready: int
    """File descriptor to which the server's process id is written."""
    user: str | None = None
    """Account that the server runs as; None is the caller's own."""
    farewell: int = signal.SIGKILL
    """Signal for the server when the parent has died; SIGKILL follows after `GRACE` seconds."""
    directory: str | None = None
    """Removed, with all that is in it, when the parent has died without doing so itself."""

    def dump(self) -> str:
        return json.dumps(asdict(self))


def main(order: Order) -> int:
    """Run the server to its end; returns its exit code, 128 + n when signal n ended it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    parent = os.pidfd_open(order.parent)
    if os.getppid() != order.parent:
        return 1
    server = subprocess.Popen(
        order.command,
        user=order.user,
        group=_group(order.user),
        extra_groups=[] if order.user else None,
        start_new_session=True,
        umask=0o077,
        # After the change of user, which would clear it again.
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0),
    )
    for signum in FORWARDED:
        signal.signal(signum, lambda signum, _: server.send_signal(signum))
    os.write(order.ready, str(server.pid).encode())
    os.close(order.ready)

    watch = select.poll()
    watch.register(parent, select.POLLIN)
    watch.register(os.pidfd_open(server.pid), select.POLLIN)
    orphaned = parent in [descriptor for descriptor, _ in watch.poll()]
    if orphaned and order.farewell != signal.SIGKILL:
        _say_farewell(server, order.farewell)
    # When the server ended by itself its code is collected here, before the rest is reaped.
    code = server.poll()
    _end_family()
    if orphaned and order.directory:
        shutil.rmtree(order.directory, ignore_errors=True)
    return 1 if code is None else code if code >= 0 else 128 - code


def descendants(ancestor: int) -> list[int]:
    """Process ids of all living children of `ancestor`, their children, and so on."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := _stat(int(entry))) and found[0] != "Z":
            children.setdefault(found[1], []).append(int(entry))
    family: list[int] = []
    generation = [ancestor]
    while generation:
        generation = [child for pid in generation for child in children.get(pid, [])]
        family += generation
    return family


def is_alive(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    found = _stat(pid)
    return found is not None and found[0] not in "ZX"


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped by a signal (or gone, which is as still)."""
    found = _stat(pid)
    return found is None or found[0] in "TtZX"


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and parent of a process, proc(5); None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return state, int(parent)


def _say_farewell(server: subprocess.Popen[bytes], signum: int) -> None:
    """Let the server give back what outlives processes (System V shared memory)."""
    server.send_signal(signum)
    for pid in descendants(os.getpid()):  # A frozen one could not hear it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(GRACE)


def _end_family() -> None:
    """Kill every descendant and reap it, including those that appear while we do so."""
    while True:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _group(user: str | None) -> int | None:
    if user is None:
        return None
    import pwd  # Only needed by root: saves an import otherwise.

    return pwd.getpwnam(user).pw_gid


if __name__ == "__main__":
    sys.exit(main(Order(**json.loads(sys.argv[1]))))
