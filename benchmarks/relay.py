# SPDX-License-Identifier: Apache-2.0
"""Lets VMs of a lab reach a server on 127.0.0.1 of this machine: a TCP relay between namespaces.

``NAMESPACE ADDRESS PORT TARGET``: listens inside the network namespace, connects outside. A socket
belongs for ever to the namespace in which it was made.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import sys
import threading
from typing import Any

from benchmarks.child import serve

CLONE_NEWNET = 0x40000000
CHUNK = 65536


def main() -> None:
    """Entry point of the helper process."""
    namespace, address, port, target = sys.argv[1:]
    listening = _listen_in(namespace, address, int(port))
    relay = threading.Thread(target=lambda: asyncio.run(_relay(listening, int(target))))
    relay.daemon = True
    relay.start()
    serve(lambda _question: None)


def _listen_in(namespace: str, address: str, port: int) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(path: str) -> int:
        """Python has os.setns only from 3.12 on."""
        fd = os.open(path, os.O_RDONLY)
        if libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {path}")
        return fd

    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter(namespace)
    listening = socket.create_server((address, port))
    enter(f"/proc/self/fd/{home}")
    return listening


async def _relay(listening: socket.socket, target: int) -> None:
    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:  # who calls shall see that nobody is there
            writer.close()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    server = await asyncio.start_server(accepted, sock=listening)
    await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: Any) -> None:
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    main()
