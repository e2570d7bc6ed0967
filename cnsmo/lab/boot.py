# SPDX-License-Identifier: Apache-2.0
"""Starting the init of a simulated VM, and learning that it is up without ever sleeping."""

from __future__ import annotations

import os
import select
from pathlib import Path

from cnsmo.agent.system import LocalSystem
from cnsmo.lab.errors import LabError
from cnsmo.lab.process import Process, child_of

START_SECONDS = 30.0
"""A VM starts in 20 ms; a hundred at once on a busy machine in some seconds."""

INIT = """
set -e
mount -n -t tmpfs -o mode=0755,size=64m tmpfs /run
mkdir -m 0700 /run/wireguard
mkdir -m 1777 /run/lock
mount -n -t sysfs sysfs /sys 2>/dev/null || :
hostname "$1"
echo up >"$2"
exec env --ignore-signal=CHLD sleep infinity
"""
"""What sh runs as process 1 of the VM.

-n: mount writes nothing into the machine's own /run. /sys anew: it shows the VM's interfaces then;
not every container allows it. A process that ignores SIGCHLD has its children, here all orphans,
reaped by the kernel (sigaction(2)).
"""


class Boot:
    """One init on its way up. Several may be: begin them all, then wait for each."""

    def __init__(self, name: str, netns: Path, scratch: Path) -> None:
        """Begin. scratch: path without suffix for the log and for what init says."""
        self._name = name
        self._log = scratch.with_suffix(".log")
        fifo = scratch.with_suffix(".up")
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo, 0o600)
        self._fifo = fifo
        self._said = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        self._pid = LocalSystem().start(
            "nsenter", f"--net={netns}",
            "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork",
            "--propagation", "private", "--mount-proc",
            "sh", "-c", INIT, "init", name, str(fifo),
            log=self._log,
        )  # fmt: skip

    def wait(self) -> tuple[Process, Process]:
        """Wait until it is up.

        :return: the init, and the process outside that waits for its end.
        :raises LabError: when it ends instead, or takes over START_SECONDS; with what it said.
        """
        try:
            outer = Process.of(self._pid)
            self._await_word(outer)
            return child_of(self._pid), outer
        except (ProcessLookupError, BlockingIOError) as exc:
            text = self._log.read_text(errors="replace").strip()[-500:] or "it said nothing"
            raise LabError(f"VM {self._name} does not start: {text} (log: {self._log})") from exc
        finally:
            os.close(self._said)
            self._fifo.unlink(missing_ok=True)

    def _await_word(self, outer: Process) -> None:
        with outer.opened() as ended:
            if ended is not None:
                poll = select.poll()
                poll.register(self._said, select.POLLIN)
                poll.register(ended, select.POLLIN)
                poll.poll(START_SECONDS * 1000)
        if not os.read(self._said, 64):
            raise ProcessLookupError(self._pid)
