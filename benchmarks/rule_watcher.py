# SPDX-License-Identifier: Apache-2.0
"""Hears from the kernel when a rule comes in force in network namespaces. ``NAMESPACE-FILE...``.

Standard library only, runs as a script: one process for all namespaces, with a socket in each that
listens to what ``nft monitor`` listens to, so that nobody polls. The kernel tells of a rule once
its transaction is committed (nf_tables_commit in net/netfilter/nf_tables_api.c). Reads lines, each
a rule's comment; writes a line of JSON once a rule with that comment has come in all namespaces:
for each the monotonic time. An empty line calls the search off, and times are null that are not
known.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import sys
import time

CLONE_NEWNET = 0x40000000
NETLINK_NETFILTER, NFNLGRP_NFTABLES = 12, 7
SO_RCVBUFFORCE = 33
"""See linux/sched.h, netlink.h, netfilter/nfnetlink.h and asm/socket.h; Python has none of them."""
BUFFER = 1 << 22
LIBC = ctypes.CDLL(None, use_errno=True)


def main(namespaces: list[str]) -> None:
    """Work until the input ends."""
    sockets = [listener(namespace) for namespace in namespaces]
    numbers = {each.fileno(): number for number, each in enumerate(sockets)}
    times: list[float | None] = []
    comment = b""
    poll = select.poll()
    for descriptor in (sys.stdin.fileno(), *numbers):
        poll.register(descriptor, select.POLLIN)
    print("up", flush=True)
    while True:
        for descriptor, _event in poll.poll():
            if descriptor == sys.stdin.fileno():
                line = sys.stdin.readline()
                if not line:
                    return
                if comment := line.strip().encode():
                    times = [None] * len(sockets)
                print("listening" if comment else json.dumps(times), flush=True)
                continue
            number = numbers[descriptor]
            heard = sockets[number].recv(BUFFER)
            if comment and comment in heard and times[number] is None:
                times[number] = time.monotonic()
                if None not in times:
                    comment = b""
                    print(json.dumps(times), flush=True)


def listener(namespace: str) -> socket.socket:
    """A socket in another network namespace, for what happens to its rules."""
    with open("/proc/self/ns/net", "rb") as home, open(namespace, "rb") as there:
        enter(there.fileno())
        try:
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
            made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
            made.bind((0, 1 << (NFNLGRP_NFTABLES - 1)))
        finally:
            enter(home.fileno())
    return made


def enter(descriptor: int) -> None:
    """Go to a network namespace, setns(2)."""
    if LIBC.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(sys.argv[1:])
