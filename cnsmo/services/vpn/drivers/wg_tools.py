# SPDX-License-Identifier: Apache-2.0
"""wg(8): what it shows, as data, and its command line, with every value checked once more."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator, Mapping, Sequence

from cnsmo.model.errors import DriverError
from cnsmo.services.base import System
from cnsmo.services.vpn.spec import check_key

ANSWER_SECONDS = 5.0
"""How long a device may take to answer; a daemon that does not is replaced."""
CHUNK = 400
"""Peers per call of wg(8): the kernel limits the length of a command line (execve(2))."""


@dataclasses.dataclass(frozen=True)
class WgPeer:
    """A peer as the device has it.

    ``handshake``: seconds since the epoch, 0 when there was none; ``rx``, ``tx``: bytes;
    ``keepalive``: seconds, 0 when off; ``preshared``: whether it has a preshared key.
    """

    public_key: str
    endpoint: str | None
    allowed_ips: frozenset[str]
    handshake: int = 0
    rx: int = 0
    tx: int = 0
    keepalive: int = 0
    preshared: bool = False


@dataclasses.dataclass(frozen=True)
class WgDevice:
    """A WireGuard device as it is; keys are empty when it has none."""

    public_key: str
    listen_port: int
    fwmark: bool
    peers: Mapping[str, WgPeer]
    private_key: str = dataclasses.field(repr=False, default="")


def read_device(system: System, name: str) -> WgDevice:
    """Ask a device.

    :raises ProgramError: when it does not exist or does not answer.
    """
    shown = system.run("wg", "show", name, "dump", timeout=ANSWER_SECONDS).stdout
    return parse_dump(shown)


def parse_dump(text: str) -> WgDevice:
    """Parse ``wg show IF dump``: tab-separated, first the device, then one line per peer.

    :raises DriverError: when it is something else.
    """
    try:
        first, *rest = text.splitlines()
        private, public, port, fwmark = first.split("\t")
        peers = [_parse_peer(line) for line in rest]
        return WgDevice(
            public_key=_none(public) or "",
            listen_port=int(port),
            fwmark=fwmark != "off",
            peers={peer.public_key: peer for peer in peers},
            private_key=_none(private) or "",
        )
    except ValueError:  # its text may hold the private key
        raise DriverError("'wg show' printed something that is not a dump of a device") from None


def render_key(key: str) -> str:
    """A public key, checked.

    :raises DriverError: when it is none.
    """
    try:
        return check_key(key)
    except ValueError as exc:
        raise DriverError(f"{ascii(key)}: {exc}") from exc


def render_endpoint(endpoint: str) -> str:
    """An endpoint in wg's spelling: 192.0.2.1:51820 or [2001:db8::1]:51820.

    :raises DriverError: when it is not an address and a port; names are not looked up.
    """
    host, colon, port = endpoint.rpartition(":")
    try:
        if host.startswith("[") and host.endswith("]"):
            address = f"[{ipaddress.IPv6Address(host[1:-1])}]"
        else:
            address = str(ipaddress.IPv4Address(host))
        if not (colon and port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
            raise ValueError("the port is not a number from 1 to 65535")
    except ValueError as exc:
        raise DriverError(f"{ascii(endpoint)} is not an endpoint, address:port: {exc}") from exc
    return f"{address}:{int(port)}"


def render_networks(networks: Sequence[str]) -> frozenset[str]:
    """Networks in wg's spelling.

    :raises DriverError: when one of them is none.
    """
    try:
        return frozenset(str(ipaddress.ip_network(network)) for network in networks)
    except ValueError as exc:
        raise DriverError(f"allowed IPs: {exc}") from exc


def set_device(
    system: System,
    name: str,
    device: Sequence[str],
    peers: Sequence[Sequence[str]],
    private_key: str | None = None,
) -> None:
    """Run ``wg set`` with the settings of the device and then those of the peers, in order.

    private_key goes through stdin and nowhere else.

    :raises ProgramError: when the device refuses.
    """
    args = list(device)
    if private_key is not None:
        args += ["private-key", "/dev/stdin"]
    for chunk in _chunks(peers):
        args += [word for peer in chunk for word in peer]
        if args:
            system.run("wg", "set", name, *args, stdin=private_key)
        args, private_key = [], None


def _chunks(peers: Sequence[Sequence[str]]) -> Iterator[Sequence[Sequence[str]]]:
    yield peers[:CHUNK]
    for start in range(CHUNK, len(peers), CHUNK):
        yield peers[start : start + CHUNK]


def _parse_peer(line: str) -> WgPeer:
    key, preshared, endpoint, allowed, handshake, rx, tx, keepalive = line.split("\t")
    return WgPeer(
        public_key=key,
        endpoint=_none(endpoint),
        allowed_ips=frozenset(
            str(ipaddress.ip_network(network))
            for network in (_none(allowed) or "").split(",")
            if network
        ),
        handshake=int(handshake),
        rx=int(rx),
        tx=int(tx),
        keepalive=0 if keepalive == "off" else int(keepalive),
        preshared=_none(preshared) is not None,
    )


def _none(word: str) -> str | None:
    return None if word == "(none)" else word
