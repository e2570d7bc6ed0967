# SPDX-License-Identifier: Apache-2.0
"""From the desired state of a VPN to the files of OpenVPN 2.6; pure.

One host, the hub that carries everything, is the server; all others are its clients. Options are
those of openvpn(8); every value is checked again here, where it becomes a line.

Who may come in is not in the hub's configuration, because OpenVPN reads that only when it starts
(the list ``peer-fingerprint``, too), and a start cuts everybody off. So the hub asks VERIFY on
every handshake, which looks for a file named ``host.fingerprint``. That binds the common name to
the fingerprint, so that nobody else gets the host's file in ``client-config-dir``, which OpenVPN
picks by common name. Without ``peer-fingerprint`` OpenVPN insists on an issuer: see certificate.py.
A client has one peer: it uses ``peer-fingerprint``.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Iterable, Mapping

from cnsmo.model.errors import DriverError
from cnsmo.model.names import check_label
from cnsmo.services.options import read_options
from cnsmo.services.vpn.desired import Peer, VpnDesired
from cnsmo.services.vpn.drivers.openvpn_options import OpenvpnOptions, Protocol

CONFIG = "openvpn.conf"
IDENTITY = "identity.pem"
ISSUER = "issuer.pem"
SOCKET = "management.sock"
LOG = "openvpn.log"
VERIFY = "verify.sh"
MEMBERS = "members"
CLIENTS = "clients"
SEEN = "seen"

PING = 3
"""Seconds between signs of life, at most; three missing ones are the end of a session. A hub that
was killed cannot tell its clients: this is how long they take to find out."""
HANDSHAKE = 5
"""Seconds for a handshake; a client that the hub refuses is not told, and tries again then."""
BUFFER = 9000
"""Bytes of the largest packet (tun-mtu). The interface's own MTU decides what is sent; this is the
same on all hosts, so that a change of MTU needs no restart."""

VERIFY_SCRIPT = f"""\
# Called by openvpn --tls-verify with: depth subject. A member's certificate is at depth 0; the
# issuer above it proves nothing. Accepts who has the certificate that its host announced.
umask 077
[ "$1" = 0 ] || exit 0
host=${{2#CN=}}
case $host in "" | *[!a-z0-9-]*) exit 1 ;; esac
case $tls_digest_sha256_0 in "" | *[!0-9a-f:]*) exit 1 ;; esac
[ -e "{MEMBERS}/$host.$tls_digest_sha256_0" ] || exit 1
echo "$tls_digest_sha256_0" > "{SEEN}/$host" || :
exit 0
"""

_WORD = re.compile(r"[A-Za-z0-9.:/_=+-]+")
_FINGERPRINT = re.compile(r"([0-9A-F]{2}:){31}[0-9A-F]{2}")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What shall be in the files. ``config``: of the daemon; None: none runs (no hub yet).

    ``hub``: the host to connect to; None on the hub itself. Of the hub only: ``members``: names of
    the files that let a certificate in; ``clients``: content of each host's file; ``networks``:
    what is sent to each host.
    """

    config: str | None
    hub: str | None = None
    members: frozenset[str] = frozenset()
    clients: Mapping[str, str] = dataclasses.field(default_factory=dict)
    networks: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)

    @property
    def serves(self) -> bool:
        """Whether this host is the hub."""
        return self.config is not None and self.hub is None


def make_plan(desired: VpnDesired, device: str, dual_stack: bool = True) -> Plan:
    """Everything that OpenVPN is told.

    :param device: name of the interface.
    :param dual_stack: whether this kernel has IPv6 sockets.
    :raises DriverError: when it cannot work as desired, or a value cannot be rendered.
    """
    options = read_options(OpenvpnOptions, "openvpn", desired.options)
    hub = carrier(desired)
    try:
        if hub is not None:
            return Plan(config=_client(desired, options, hub, device), hub=check_label(hub.host))
        if not desired.is_hub:
            return Plan(config=None)
        return _hub_plan(desired, options, device, dual_stack)
    except (ValueError, TypeError, AttributeError) as exc:
        raise DriverError(f"OpenVPN cannot be configured: {exc}") from exc


def carrier(desired: VpnDesired) -> Peer | None:
    """The hub to connect to; None on that hub itself, and while there is no hub.

    :raises DriverError: when the VPN has no hub by design.
    """
    hubs = [peer for peer in desired.peers if peer.is_hub]
    if desired.is_hub:
        return next((peer for peer in hubs if peer.host == desired.carrier), None)
    if desired.peers and not hubs:
        raise DriverError("the driver openvpn needs topology: hub; for a mesh take wireguard")
    primary = [peer for peer in hubs if peer.host == desired.carrier]
    return next(iter(primary or hubs), None)


def _common(options: OpenvpnOptions, device: str, mtu: int) -> list[str]:
    if not isinstance(mtu, int):
        raise TypeError("mtu: bytes are expected")
    lines = [
        _line("dev", device),
        "dev-type tun",
        "disable-dco",
        "ifconfig-noexec",
        "route-noexec",
        "persist-tun",
        "persist-key",
        f"cert {IDENTITY}",
        f"key {IDENTITY}",
        "tls-version-min 1.3",
        _line("cipher", options.cipher),
        _line("data-ciphers", options.cipher),
        _line("tun-mtu", max(BUFFER, mtu)),
        "mssfix 0",
        f"management {SOCKET} unix",
        f"log-append {LOG}",
        "verb 1",
    ]
    if options.protocol is Protocol.TCP:
        lines.append("socket-flags TCP_NODELAY")
    return lines


def _client(desired: VpnDesired, options: OpenvpnOptions, hub: Peer, device: str) -> str:
    address, port = _endpoint(hub)
    keepalives = [peer.keepalive for peer in desired.peers if peer.keepalive]
    ping = min([PING, *keepalives])
    proto = f"{options.protocol}{address.version}"
    known = [text for text in (hub.fingerprint, hub.next_fingerprint) if text]
    if not known:
        raise ValueError(f"the hub {hub.host} has announced no certificate yet")
    lines = [
        "client",
        _line("proto", f"{proto}-client" if options.protocol is Protocol.TCP else proto),
        _line("remote", address, options.port or port),
        "nobind",
        *(_line("peer-fingerprint", _fingerprint(text)) for text in known),
        "connect-retry 1 5",
        "connect-timeout 5",
        "tls-timeout 1",
        _line("hand-window", HANDSHAKE),
        _line("ping", ping),
        _line("ping-restart", max(3 * ping, 6)),
        # Addresses and routes come from CNSMO; what else the hub may say is of no interest.
        *(f'pull-filter accept "{word} "' for word in ("peer-id", "cipher", "protocol-flags")),
        'pull-filter accept "key-derivation "',
        'pull-filter ignore ""',
        *_common(options, device, desired.mtu),
    ]
    return _text(lines)


def _hub_plan(desired: VpnDesired, options: OpenvpnOptions, device: str, dual_stack: bool) -> Plan:
    listening = f"{options.protocol}{'6' if dual_stack else '4'}"
    tcp = options.protocol is Protocol.TCP
    lines = [
        "mode server",
        "tls-server",
        "topology subnet",
        _line("proto", f"{listening}-server" if tcp else listening),
        _line("lport", _port(options.port or desired.listen_port)),
        *([] if tcp else ["multihome"]),
        "dh none",
        f"ca {ISSUER}",
        "script-security 2",
        f'tls-verify "/bin/sh {VERIFY}"',
        f"client-config-dir {CLIENTS}",
        "ccd-exclusive",
        _line("keepalive", PING, 3 * PING),
        "max-clients 4096",
        "connect-freq-initial 500 10",
        *_common(options, device, desired.mtu),
    ]
    own = [ipaddress.ip_interface(text) for text in desired.addresses]
    clients = {check_label(peer.host): _client_file(peer, own) for peer in desired.peers}
    networks = {peer.host: _networks(peer) for peer in desired.peers}
    if len(clients) != len(desired.peers):
        raise ValueError("two members have the same name")
    _refuse_doubles(networks, own)
    members = frozenset(
        f"{peer.host}.{_fingerprint(text).lower()}"
        for peer in desired.peers
        for text in (peer.fingerprint, peer.next_fingerprint)
        if text
    )
    return Plan(config=_text(lines), members=members, clients=clients, networks=networks)


def _client_file(
    peer: Peer, own: Iterable[ipaddress.IPv4Interface | ipaddress.IPv6Interface]
) -> str:
    """A host's file in client-config-dir: its addresses, and the networks behind it."""
    lines = []
    gateways = {interface.version: interface for interface in own}
    addresses = [ipaddress.ip_address(text) for text in peer.addresses]
    for address in addresses:
        gateway = gateways.get(address.version)
        if gateway is None:
            raise ValueError(f"{peer.host} has an IPv{address.version} address, this hub has none")
        if address.version == 4:
            lines.append(_line("ifconfig-push", address, gateway.netmask))
        else:
            prefix = gateway.network.prefixlen
            lines.append(_line("ifconfig-ipv6-push", f"{address}/{prefix}", gateway.ip))
    singles = {ipaddress.ip_network(address) for address in addresses}
    for text in sorted(peer.allowed_ips):
        network = ipaddress.ip_network(text)
        if network in singles:
            continue
        if network.version == 4:
            lines.append(_line("iroute", network.network_address, network.netmask))
        else:
            lines.append(_line("iroute-ipv6", network))
    return _text(lines)


def _networks(peer: Peer) -> frozenset[str]:
    networks = [ipaddress.ip_network(text) for text in (*peer.addresses, *peer.allowed_ips)]
    return frozenset(str(network) for network in networks)


def _refuse_doubles(
    networks: Mapping[str, frozenset[str]],
    own: Iterable[ipaddress.IPv4Interface | ipaddress.IPv6Interface],
) -> None:
    """A network belongs to one host: OpenVPN would give it to the one that connected last."""
    owners = {str(ipaddress.ip_network(interface.ip)): "this hub" for interface in own}
    for host, theirs in networks.items():
        for network in theirs:
            if network in owners:
                raise ValueError(f"{network} is claimed by {owners[network]} and {host}")
            owners[network] = host


def _endpoint(hub: Peer) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    if hub.endpoint is None:
        raise ValueError(
            f"the hub {hub.host} has no address that this host can call: give it a public address"
        )
    address, _colon, port = hub.endpoint.rpartition(":")
    return ipaddress.ip_address(address.removeprefix("[").removesuffix("]")), _port(int(port))


def _port(value: int) -> int:
    if not 1 <= value <= 65535:
        raise ValueError(f"{value} is not a port")
    return value


def _fingerprint(text: str) -> str:
    if not _FINGERPRINT.fullmatch(text):
        raise ValueError(f"{ascii(text)} is not a SHA-256 fingerprint")
    return text


def _line(*words: object) -> str:
    """One option with its arguments; nothing that openvpn could take for another word or line."""
    texts = [str(word) for word in words]
    for text in texts:
        if not _WORD.fullmatch(text):
            raise ValueError(f"{ascii(text)} cannot stand in a configuration of OpenVPN")
    return " ".join(texts)


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
