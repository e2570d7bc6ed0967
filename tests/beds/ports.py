# SPDX-License-Identifier: Apache-2.0
"""Ports that stay ours while a server is down.

Below the kernel's default ephemeral range (32768 and up), so that no outgoing connection takes
the port of a server that a test has stopped; and leased, so that test processes side by side never
choose the same one.
"""

import random
import socket
from types import TracebackType
from typing import Self

FIRST, LAST = 20000, 29999


class PortLease:
    """One TCP port of 127.0.0.1, ours until `release()` or the end of this process."""

    def __init__(self) -> None:
        for port in random.sample(range(FIRST, LAST + 1), 200):
            lock = _lock(port)
            if lock is None:
                continue
            if is_free(port):
                self.port, self._lock = port, lock
                return
            lock.close()
        raise OSError(f"no free TCP port found between {FIRST} and {LAST}")

    def release(self) -> None:
        """Give the port back. May be called again."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def is_free(port: int) -> bool:
    """Whether nobody listens on `port`, on any address of this machine."""
    with socket.socket() as probe:
        # Without it a port is "taken" for a minute after its server has closed connections.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def accepts(port: int, timeout: float = 1.0) -> bool:
    """Whether something accepts TCP connections on 127.0.0.1:`port` within `timeout` seconds."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout).close()
    except OSError:
        return False
    return True


def _lock(port: int) -> socket.socket | None:
    """Take the abstract Unix address that stands for `port`, or None if another process has it.

    The kernel keeps these names per network namespace, as it does ports, and frees them when the
    process dies: there is no lock file to be left behind.
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0cnsmo-test-port-{port}")
    except OSError:
        lock.close()
        return None
    return lock
