# SPDX-License-Identifier: Apache-2.0
"""Pings many addresses from inside a VM, and says when the last one has answered.

Standard library only, runs as a script: one process a VM, so that hundreds of ping processes are
not what is measured. Reads lines of JSON ``{"addresses": [...], "period": seconds}``, an empty list
calls the search off; writes the monotonic time (one clock for all VMs of a machine) at which every
address had answered an echo request sent after the order came.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import sys
import time

SOL_RAW, ICMP_FILTER = 255, 1
"""See linux/socket.h and raw(7); Python does not have them."""
ECHO_REPLY, ECHO_REQUEST = 0, 8


def main() -> None:
    """Work until the input ends."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.setblocking(False)
    only_replies = struct.pack("I", 0xFFFFFFFF & ~(1 << ECHO_REPLY))
    sock.setsockopt(SOL_RAW, ICMP_FILTER, only_replies)
    ident = os.getpid() & 0xFFFF
    missing: set[str] = set()
    search, period, next_at = 0, 1.0, 0.0
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    poll.register(sock, select.POLLIN)
    print("up", flush=True)
    while True:
        wait = None if not missing else max(0.0, next_at - time.monotonic()) * 1000
        ready = [fd for fd, _event in poll.poll(wait)]
        if sys.stdin.fileno() in ready:
            line = sys.stdin.readline()
            if not line:
                return
            order = json.loads(line)
            missing, period, next_at = set(order["addresses"]), order["period"], 0.0
            search = (search + 1) & 0xFFFF
        if sock.fileno() in ready:
            answered = received(sock, ident, search)
            if missing and not (missing := missing - answered):
                print(time.monotonic(), flush=True)
        if missing and time.monotonic() >= next_at:
            next_at = time.monotonic() + period
            for address in missing:
                with contextlib.suppress(OSError):  # there is no way there yet
                    sock.sendto(request(ident, search), (address, 0))


def received(sock: socket.socket, ident: int, search: int) -> set[str]:
    """Who answered a request of this search, of all replies that are waiting."""
    found = set()
    with contextlib.suppress(BlockingIOError):
        while True:
            packet, (address, _port) = sock.recvfrom(2048)
            header = (packet[0] & 0x0F) * 4
            if struct.unpack("!HH", packet[header + 4 : header + 8]) == (ident, search):
                found.add(address)
    return found


def request(ident: int, search: int) -> bytes:
    """An echo request (RFC 792)."""
    packed = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, ident, search)
    total = sum(struct.unpack("!4H", packed))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return packed[:2] + struct.pack("!H", checksum) + packed[4:]


if __name__ == "__main__":
    main()
