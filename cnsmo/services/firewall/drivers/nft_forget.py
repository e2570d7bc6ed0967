# SPDX-License-Identifier: Apache-2.0
"""The program that makes the kernel forget flows, each by its tuple, through netlink.

conntrack(8) walks through all flows of the machine for each one that it deletes. A server has
thousands to end when a port is closed, and while a change is on trial nobody may wait for that.

Each line of its input is ``PROTOCOL SOURCE TARGET [KEY=VALUE...]``, with keys as conntrack(8) lists
them; it needs nothing but the standard library, to begin at once.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import sys

NETLINK_NETFILTER = 12
DELETE = 1 << 8 | 2
"""NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE; these and the attributes: nfnetlink_conntrack.h."""
REQUEST_WITH_ANSWER = 1 | 4
NESTED = 1 << 15
TUPLE, IP, PROTOCOL, NUMBER = 1, 1, 2, 1
ADDRESSES = {4: (1, 2), 6: (3, 4)}
PORTS = {"sport": (2, "!H"), "dport": (3, "!H"), "srckey": (2, "!H"), "dstkey": (3, "!H")}
FIELDS = {
    4: {**PORTS, "id": (4, "!H"), "type": (5, "!B"), "code": (6, "!B")},
    6: {**PORTS, "id": (7, "!H"), "type": (8, "!B"), "code": (9, "!B")},
}
"""Attribute and form of each part of a tuple, by IP version."""


def main() -> int:
    """Forget what the input lists; 1 when the kernel did not take one of the lines."""
    code = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.bind((0, 0))
        for line in sys.stdin:
            kernel.send(request(line))
            failure = -struct.unpack_from("=i", kernel.recv(4096), 16)[0]
            if failure not in (0, errno.ENOENT):  # that one has ended by itself
                sys.stderr.write(f"{line.strip()}: {os.strerror(failure)}\n")
                code = 1
    return code


def request(line: str) -> bytes:
    """The message that deletes the flow of a line."""
    protocol, *ends = line.split()[:3]
    source, target = (ipaddress.ip_address(end) for end in ends)
    version = source.version
    parts = [_attribute(NUMBER, struct.pack("!B", int(protocol)))]
    for word in line.split()[3:]:
        key, _equals, value = word.partition("=")
        kind, form = FIELDS[version][key]
        parts.append(_attribute(kind, struct.pack(form, int(value, 0))))
    mine, theirs = ADDRESSES[version]
    addresses = _attribute(mine, source.packed) + _attribute(theirs, target.packed)
    inner = _attribute(IP | NESTED, addresses) + _attribute(PROTOCOL | NESTED, b"".join(parts))
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    body = struct.pack("=BBH", family, 0, 0) + _attribute(TUPLE | NESTED, inner)
    return struct.pack("=IHHII", 16 + len(body), DELETE, REQUEST_WITH_ANSWER, 0, 0) + body


def _attribute(kind: int, body: bytes) -> bytes:
    padding = b"\0" * (-len(body) % 4)
    return struct.pack("=HH", 4 + len(body), kind) + body + padding


if __name__ == "__main__":
    sys.exit(main())
