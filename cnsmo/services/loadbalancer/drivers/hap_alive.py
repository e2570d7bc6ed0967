# SPDX-License-Identifier: Apache-2.0
"""Whether the haproxy in a directory answers: what keepalived asks before it holds a VIP.

keepalived runs a copy of this file, without anything else of CNSMO's: it outlives the agent, and
may outlive its release. Only Python's own library is here.
"""

from __future__ import annotations

import os
import socket
import sys

SECONDS = 2.0
"""For an answer; one that works under full load gives it in milliseconds."""
ASKED = (("stats.sock", "show info\n"), ("master.sock", "@1 show info\n"))
"""The newest worker, by the way that is its own; where that is gone, by its master."""
ANSWER = b"Name: "


def main(folder: str) -> int:
    """The exit code: 0 where it answers."""
    os.chdir(folder)  # a socket's path may have 107 bytes, see unix(7)
    for name, command in ASKED:
        try:
            return 0 if _answers(name, command) else 1
        except TimeoutError:  # it is there, and hangs
            return 1
        except OSError:
            continue
    return 1


def _answers(name: str, command: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visit:
        visit.settimeout(SECONDS)
        visit.connect(name)
        visit.sendall(command.encode("ascii"))
        visit.shutdown(socket.SHUT_WR)  # the master would wait for more
        return visit.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
