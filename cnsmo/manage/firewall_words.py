# SPDX-License-Identifier: Apache-2.0
"""What a person says about a flow, checked: who, to whom, which protocol and port, over what."""

from __future__ import annotations

import ipaddress

from cnsmo.model.errors import InvalidRequest, NotFound
from cnsmo.model.resource import View
from cnsmo.model.suggest import did_you_mean
from cnsmo.services import networks
from cnsmo.services.firewall.check import Known
from cnsmo.services.firewall.flows import Flow, Site
from cnsmo.services.firewall.terms import (
    ANY,
    PROTOCOLS,
    WITH_PORTS,
    check_port,
    check_protocol,
    check_term,
    is_network,
    protocol_number,
)
from cnsmo.services.words import UNDERLAY_WORD, check_via


def side(view: View, word: str) -> str:
    """A host, a group or an address, as flows take it.

    :raises InvalidRequest: when it can mean none of these, or two of them.
    :raises NotFound: when there is none of that name.
    """
    try:
        term = check_term(word)
    except ValueError as exc:
        raise InvalidRequest(f"{word}: {exc}") from exc
    kind = term.rpartition(":")[0]
    if is_network(term):
        return _address(term)
    if term == ANY or kind == "vpn":
        raise InvalidRequest(
            f"{word}: say who: a host, a group ('all' is every host) or an address"
        )
    if problem := Known(view, ()).problem("", term):
        both = term in view.groups and term in view.everybody
        raise (InvalidRequest if both else NotFound)(f"{problem.message}; {problem.remedy}")
    return term


def flow(protocol: str, port: str | None) -> Flow:
    """protocol: a name or a number, or both in one as ``tcp/22``.

    :raises InvalidRequest: when there is no such thing, or the port is missing, or too much.
    """
    if port is None and "/" in protocol:
        protocol, _slash, port = protocol.partition("/")
    number = _protocol(protocol)
    if number not in WITH_PORTS:
        if port is not None:
            raise InvalidRequest(f"{protocol} has no ports; only tcp, udp, udplite and sctp have")
        return Flow(number)
    if port is None:
        raise InvalidRequest(f"which port? Write {protocol} and its number or name: {protocol} 22")
    try:
        found = check_port(port)
    except ValueError as exc:
        raise InvalidRequest(f"port {port}: {exc}") from exc
    if not isinstance(found, int):
        raise InvalidRequest(f"port {port}: a flow has one port, not a range")
    return Flow(number, found)


def network(view: View, word: str | None) -> str | None:
    """What --via says, as rules say it.

    :raises NotFound: when no VPN of that name is declared.
    """
    if word is None:
        return None
    try:
        via = check_via(word)
    except ValueError as exc:
        raise InvalidRequest(f"--via {word}: {exc}") from exc
    known = [UNDERLAY_WORD, *networks.names(view)]
    name = via.removeprefix("vpn:")
    if name not in known:
        raise NotFound(f"--via {word}: no such VPN is declared; {did_you_mean(name, known)}")
    return via


def owner(site: Site, term: str) -> str:
    """The host whose address it is; "" when it is nobody's, or no address."""
    return site.owner(ipaddress.ip_network(term)[0]) if is_network(term) else ""


def _address(term: str) -> str:
    found = ipaddress.ip_network(term)
    if found.num_addresses > 1:
        raise InvalidRequest(f"{term} is a network: say one address of it, as {found[1]}")
    return term


def _protocol(word: str) -> int:
    try:
        number = protocol_number(check_protocol(word))
    except ValueError as exc:
        raise InvalidRequest(
            f"{word!r} is no protocol ({did_you_mean(word, PROTOCOLS)}, and numbers up to 255); "
            f"a port comes after one: tcp {word}"
        ) from exc
    if number is None:
        raise InvalidRequest("which protocol? A flow has one: tcp, udp, icmp, ...")
    return number
