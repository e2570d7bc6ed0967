# SPDX-License-Identifier: Apache-2.0
"""A host under test and everybody else, on two wires; what is sent, the kernel really sends.

Two network namespaces: ``host`` has eth0 (the underlay) and cn-backbone (the VPN), ``world`` has
the other ends, and all other addresses. This process keeps sockets in both, so that an attempt
takes no other process. And it takes no waiting: behind each attempt a frame of no IP protocol goes
over the same wire and comes back. All happens on one CPU, and one queue of that CPU holds what
arrives at interfaces without NAPI, veth and lo (net/core/dev.c, enqueue_to_backlog): so when the
frame is back, the packet and any answer to it have arrived before, or never will.
"""

import contextlib
import ctypes
import dataclasses
import errno
import itertools
import os
import select
import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator

from tests.functional.firewall.oracle import ICMP, ICMPV6, TCP, UDP, Packet
from tests.functional.vpn.vms import Vm

CLONE_NEWNET = 0x40000000
IP_RECVERR, IPV6_RECVERR, SO_MARK = 11, 25, 36
MARK_FRAME = 0x88B5
"""EtherType for local experiments, IEEE 802."""
PATIENCE_SECONDS = 20
PROHIBITED = {errno.EHOSTUNREACH, errno.EACCES}
"""What "administratively prohibited" is to a socket, by IPv4 and by IPv6."""
SYSCTLS = (
    "net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.icmp_ratelimit=0 "
    "net.ipv6.icmp.ratelimit=0 net.ipv6.conf.default.accept_ra=0"
)
TRACK = """
add table inet track
add chain inet track track
add rule inet track track ct state new accept
delete table inet track
"""
"""Has the kernel load connection tracking, so that it can be told to..."""
FORGET = "net.netfilter.nf_conntrack_generic_timeout=0"
"""...remember no packet of a protocol without ports: each one begins a flow."""
FIRST_PORT, PORTS = 10_000, 40_000
"""From which packets come (ICMP: their identifiers), each from another, so that it is no reply."""
LINGER_0 = struct.pack("ii", 1, 0)
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass(frozen=True)
class Link:
    """An interface, its hardware address, and the other end's; the table that leads out there."""

    name: str
    mac: str
    gateway: str
    table: int


class Wires:
    """The bed; send() makes an attempt."""

    def __init__(
        self,
        mine: Iterable[str],
        theirs: Iterable[str],
        pools: Iterable[str],
        ports: Iterable[int],
        protocols: Iterable[int],
    ) -> None:
        """Mine: the host's addresses; theirs: all others; pools: the VPN's.

        ports: at which both ends listen, by TCP and UDP; protocols: others, without ICMP.
        """
        self._ends: list[End] = []
        self._cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self._cpus)})
        self._numbers, self._marks = itertools.count(), itertools.count()
        here, there = "02:00:00:00:00:1", "02:00:00:00:00:2"
        try:
            self.host, self.world = (
                self._end(
                    {
                        False: Link(names[0], f"{near}1", f"{far}1", 101),
                        True: Link(names[1], f"{near}2", f"{far}2", 102),
                    }
                )
                for names, near, far in (
                    (("eth0", "cn-backbone"), here, there),
                    (("under0", "vpn0"), there, here),
                )
            )
            for vpn, link in self.host.links.items():
                self._connect(link, self.world.links[vpn])
            self.load(TRACK)
            self.host.vm.run(f"sysctl -qw {FORGET}")
            for end, addresses in ((self.host, mine), (self.world, theirs)):
                end.settle(list(addresses), list(pools))
                end.listen(list(ports), list(protocols))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for end in self._ends:
            end.close()
        os.sched_setaffinity(0, self._cpus)

    def load(self, ruleset: str) -> None:
        """Let nft(8) load a ruleset on the host."""
        self.host.vm.system.run("nft", "-f", "-", stdin=ruleset)

    def send(self, packet: Packet) -> str:
        """Really send it: whether it meets accept, drop or reject."""
        one, other = (self.world, self.host) if packet.inbound else (self.host, self.world)
        ends = (packet.peer, packet.local) if packet.inbound else (packet.local, packet.peer)
        source, target = map(str, ends)
        number = next(self._numbers)
        token, begin = f"cnsmo{number:011d}".encode(), FIRST_PORT + number % PORTS
        inbox = other.inbox(packet)
        _received(inbox, token)
        with one.sender(packet) as sock:
            transport = packet.protocol in (TCP, UDP)
            sock.bind((source, begin if transport else 0))
            code = sock.connect_ex((target, packet.port if transport else 0))
            if packet.protocol != TCP:
                code = _sent(sock, _payload(packet, begin, token))
            for _leg in range(2 if packet.protocol == TCP else 1):  # a handshake has three
                self._settle(one, other, packet.vpn)
            told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return _outcome(packet, {code, told}, _received(inbox, token))

    def _settle(self, one: "End", other: "End", vpn: bool) -> None:
        """Return when whatever was sent has arrived or never will, answers as well."""
        number = next(self._marks)
        for here, there in ((one, other), (other, one)):
            mark = b"\xff" * 6 + bytes(6) + struct.pack("!HQ", MARK_FRAME, number)
            here.marks[vpn].send(mark)
            ready, _, _ = select.select([there.marks[vpn]], [], [], PATIENCE_SECONDS)
            if not ready or there.marks[vpn].recv(len(mark)) != mark:
                raise RuntimeError("a frame did not arrive as it was sent: the bed is broken")

    def _end(self, links: dict[bool, Link]) -> "End":
        end = End(links)
        self._ends.append(end)
        return end

    def _connect(self, near: Link, far: Link) -> None:
        self.host.vm.run(
            f"ip link add {near.name} address {near.mac} type veth "
            f"peer name {far.name} address {far.mac}"
        )
        subprocess.run(
            ["nsenter", "-t", str(self.host.vm.pid), "-n", "--",
             "ip", "link", "set", far.name, "netns", str(self.world.vm.pid)], check=True,
        )  # fmt: skip


class End:
    """One namespace, and our sockets in it. ``links``: that of the VPN at True."""

    def __init__(self, links: dict[bool, Link]) -> None:
        self.vm = Vm("wires")
        self.links = links
        self.marks: dict[bool, socket.socket] = {}
        self._inboxes: dict[tuple[int, int], socket.socket] = {}
        self._sockets = contextlib.ExitStack()

    def close(self) -> None:
        self._sockets.close()
        self.vm.stop()

    def settle(self, addresses: list[str], pools: list[str]) -> None:
        """Addresses and ways; no neighbour is ever asked for, and none but the two wires is there.

        A socket chooses its wire by its mark; answers of the kernel, that of their address.
        """
        self.vm.run(f"sysctl -qw {SYSCTLS}")
        for version, gateway, bits in ((4, "169.254.0.1", "32"), (6, "fe80::1", "128 nodad")):
            lines = [
                f"address add {each}/{bits} dev lo"
                for each in addresses
                if (":" in each) == (version == 6)
            ]
            for pref, (vpn, link) in enumerate(self.links.items(), 10):
                way = f"default via {gateway} dev {link.name} onlink"
                lines += [
                    f"link set {link.name} up",
                    f"neigh add {gateway} lladdr {link.gateway} dev {link.name} nud permanent",
                    f"route add {way} table {link.table}",
                    f"rule add pref {pref} fwmark {link.table} lookup {link.table}",
                ]
                if not vpn:
                    lines.append(f"route add {way}")
                    continue
                lines += [
                    f"rule add pref 20 from {pool} lookup {link.table}"
                    for pool in pools
                    if (":" in pool) == (version == 6)
                ]
            batch = "".join(f"{line}\n" for line in lines)
            self.vm.system.run("ip", f"-{version}", "-batch", "-", stdin=batch)

    def listen(self, ports: list[int], protocols: list[int]) -> None:
        """Open what attempts can reach: every port, and the other protocols as they are."""
        with self._inside():
            for vpn, link in self.links.items():
                self.marks[vpn] = self._open(socket.AF_PACKET, socket.SOCK_RAW, 0)
                self.marks[vpn].bind((link.name, MARK_FRAME))
            for port in ports:
                for protocol, kind in ((TCP, socket.SOCK_STREAM), (UDP, socket.SOCK_DGRAM)):
                    sock = self._open(socket.AF_INET6, kind, protocol)
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    sock.bind(("::", port))
                    self._inboxes[protocol, port] = sock
                    if protocol == TCP:
                        sock.listen(64)
            for protocol in (ICMP, ICMPV6, *protocols):
                for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
                    sock = self._open(family, socket.SOCK_RAW, protocol)
                    self._inboxes[protocol, version] = sock

    def inbox(self, packet: Packet) -> socket.socket:
        """Where a packet arrives, if it does."""
        if packet.protocol not in (TCP, UDP):
            return self._inboxes[packet.protocol, packet.peer.version]
        return self._inboxes[packet.protocol, packet.port or 0]

    def sender(self, packet: Packet) -> socket.socket:
        """A socket to send a packet, bound to its wire."""
        kinds = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}
        four = packet.peer.version == 4
        with self._inside():
            sock = socket.socket(
                socket.AF_INET if four else socket.AF_INET6,
                kinds.get(packet.protocol, socket.SOCK_RAW),
                packet.protocol,
            )
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, self.links[packet.vpn].table)
        if packet.protocol == TCP:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        elif four:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        return sock

    def _open(self, family: int, kind: int, protocol: int) -> socket.socket:
        sock = self._sockets.enter_context(socket.socket(family, kind, protocol))
        sock.setblocking(False)
        return sock

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """Sockets that this thread opens now are of the namespace, and stay so."""
        with open("/proc/thread-self/ns/net") as back, open(f"/proc/{self.vm.pid}/ns/net") as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(back.fileno())


def _setns(namespace: int) -> None:
    if _LIBC.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _payload(packet: Packet, begin: int, token: bytes) -> bytes:
    if packet.protocol == UDP:
        return token
    if packet.protocol == ICMP:
        rest = struct.pack("!HH", begin, 1) + token
        total = sum(struct.unpack(f"!{len(rest) // 2}H", rest)) + ((packet.type or 0) << 8)
        total = (total & 0xFFFF) + (total >> 16)
        return struct.pack("!BBH", packet.type, 0, ~(total + (total >> 16)) & 0xFFFF) + rest
    if packet.protocol == ICMPV6:  # the kernel computes the sum
        return struct.pack("!BBHHH", packet.type, 0, 0, begin, 1) + token
    return struct.pack("!HHII", begin, packet.port or 0, 1, 0) + token


def _sent(sock: socket.socket, payload: bytes) -> int:
    try:
        sock.send(payload)
    except OSError as exc:
        return exc.errno or 0
    return 0


def _received(inbox: socket.socket, token: bytes) -> bool:
    """Empty an inbox; whether the token was in it."""
    found = False
    with contextlib.suppress(BlockingIOError):
        while True:
            if inbox.type == socket.SOCK_STREAM:
                sock, _address = inbox.accept()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
                sock.close()
                found = True
            else:
                found |= inbox.recv(2048).endswith(token)
    return found


def _outcome(packet: Packet, told: set[int], received: bool) -> str:
    """What the sender was told and what arrived, as one word."""
    codes = told - {0, errno.EINPROGRESS}
    if received and not codes:
        return "accept"
    if not received and codes <= {errno.EPERM}:  # or, where its own kernel drops it, nothing
        return "drop"
    refused = {errno.ECONNREFUSED} if packet.protocol == TCP else PROHIBITED
    if not received and codes <= {errno.EPERM, *refused}:
        return "reject"
    names = ", ".join(errno.errorcode[each] for each in sorted(codes))
    raise RuntimeError(f"{packet} {'arrived' if received else 'vanished'}, and its sender: {names}")
