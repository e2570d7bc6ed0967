# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage host: the VMs of a deployment."""

from __future__ import annotations

import argparse
import datetime
from datetime import UTC
from typing import TYPE_CHECKING, Any

from cnsmo.manage import durations, fresh, hosts
from cnsmo.manage.cells import Age, Moment, Names, age
from cnsmo.manage.command import Command, ListCommand, ShowCommand
from cnsmo.manage.token import is_valid
from cnsmo.model.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from cnsmo.bus.clients import OperatorClient
    from cnsmo.model.messages import HostStatus


class List(ListCommand):
    """List all hosts: where they are, how their agents stand, whom they hear.

    'Handshakes' counts the VPN peers that a host has shaken hands with, and tells how long ago it
    last did with the quietest of them. 'Revision' is what all its agents have applied. A host that
    is late is silent for longer than it should be ([core] late_after), and not down yet.
    """

    in_deployment = True
    examples = """
cnsmo-manage host list
cnsmo-manage host list --look                  # with observations made just now
cnsmo-manage host list -f json -c name -c state
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--look",
            action="store_true",
            help="ask the agents for fresh observations first, and wait up to "
            f"{fresh.PATIENCE:g} s for them",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Any]]:
        name, client = self.deployment(parsed_args), self.session.client
        patience = fresh.PATIENCE if parsed_args.look else 0
        found = fresh.observed(client, name, patience)
        addresses = hosts.addresses(client, name) if found else {}
        columns = (
            "Name",
            "Groups",
            "Site",
            "VPN addresses",
            "Endpoint",
            "State",
            "Handshakes",
            "Revision",
            "Heartbeat",
        )
        return columns, [
            (
                host.name,
                Names(host.groups),
                host.facts.site,
                hosts.Addresses(addresses.get(host.name, {})),
                hosts.endpoint(host) or None,
                hosts.States(host.agents, self.style, host.quarantined),
                hosts.Handshakes(hosts.Heard.by(host)),
                hosts.revision(host),
                Age(hosts.last_heard(host)),
            )
            for host in found
        ]

    def empty(self, args: argparse.Namespace) -> str:
        return (
            "No host has joined yet. 'cnsmo-manage token create' makes the token that a VM's "
            "cnsmo-agent joins with."
        )


class Show(ShowCommand):
    """Show one host: its facts, its addresses, and its agents with their reasons.

    Of a host that was removed: whether all others have done their part, or whom that waits for.
    """

    in_deployment = True
    examples = """
cnsmo-manage host show web1
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST", help="its name")
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        name, client = self.deployment(parsed_args), self.session.client
        host = next((it for it in client.host_list(name) if it.name == parsed_args.host), None)
        if host is None:
            return self.dict2columns(_removed(client, name, parsed_args.host))
        facts = host.facts
        shown: dict[str, Any] = {
            "Name": host.name,
            "ID": host.id,
            "Groups": Names(host.groups),
            "Site": facts.site,
            "Private addresses": Names(facts.private),
            "Public addresses": Names(facts.public),
            "Not believed": Names(
                [f"{it}: {why}" for it, why in host.disputed.items()], lines=True
            ),
            "Must be in": Names(host.bounds),
            "Behind NAT": facts.behind_nat,
            "MTU": facts.mtu,
            "Instance ID": facts.instance_id or None,
            "VPN addresses": hosts.Addresses(hosts.addresses(client, name).get(host.name, {})),
            "Handshakes": hosts.Handshakes(hosts.Heard.by(host)),
            "Revision": hosts.revision(host),
            "Heartbeat": Age(hosts.last_heard(host)),
            "Certificate": hosts.Certificate(host.certified_until, datetime.datetime.now(UTC)),
            "May be replaced until": Moment(host.readmit_until),
            "In quarantine": host.quarantined,
            "Came by tokens": Names(host.tokens),
            "Late": any(agent.late for agent in host.agents),
            "Agents": Names([hosts.standing(agent) for agent in host.agents], lines=True),
        }
        return self.dict2columns(shown)


class Remove(Command):
    """Remove hosts for good: from all services, at once for all others.

    A removed host takes everything down when it learns of it. Its addresses are not given to
    others before their quarantine is over; to return, it needs a new token. The tokens by which it
    came are revoked, as its VM may have them still: no other VM can join with them any more.
    """

    in_deployment = True
    writes = True
    examples = """
cnsmo-manage host remove web2
cnsmo-manage host remove web2 web3 --dry-run
cnsmo-manage host remove web7 --keep-tokens    # of a scaling group that goes on
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("hosts", nargs="+", metavar="HOST", help="their names")
        parser.add_argument(
            "--keep-tokens",
            action="store_true",
            help="do not revoke the tokens by which they came: others shall join with them",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        name, client = self.deployment(parsed_args), self.session.client
        known = {host.name: host for host in client.host_list(name)}
        for host in parsed_args.hosts:
            if host not in known:
                raise _unknown(name, host)
        keep = parsed_args.keep_tokens
        valid = {it.id: it.uses_left for it in client.token_list(name) if is_valid(it)}
        if parsed_args.dry_run:
            given = hosts.addresses(client, name)
            for host in parsed_args.hosts:
                vpns = ", ".join(given.get(host, {})) or "none"
                heard = age(hosts.last_heard(known[host]))
                self.dry(f"remove {host} (last heartbeat {heard} ago, member of VPNs: {vpns})")
                self._tell_tokens(known[host], valid, "would let it in again" if keep else
                                  "would be revoked, too")  # fmt: skip
            return
        for host in dict.fromkeys(parsed_args.hosts):
            revision = client.host_remove(name, host, keep)
            self.say(f"Host {host} removed in revision {revision}.")
            told = "would let it in again" if keep else "is revoked, too; --keep-tokens keeps it"
            self._tell_tokens(known[host], valid, told)

    def _tell_tokens(self, host: HostStatus, valid: dict[str, int], told: str) -> None:
        """What becomes of the tokens by which a host came, and which others could use."""
        for token in host.tokens:
            if token in valid:
                uses = f"{valid[token]} more use{'s' * (valid[token] != 1)}"
                self.say(f"Token {token}, by which it came, with {uses}, {told}.")
        if not host.tokens:
            self.say("By which token it came is not known: see 'cnsmo-manage token list'.")


class Quarantine(Command):
    """Take hosts out of everything, or let them back: for a VM that may be stolen, or is sick.

    All others drop a host in quarantine at once: as a VPN peer, from the firewall's sets, from
    pools. It is shut in itself: only its fail-safe ports (SSH) and its way to the core stay open,
    so that you can look at it. It keeps its identity and its addresses. 'host remove' is for good.
    """

    in_deployment = True
    writes = True
    examples = """
cnsmo-manage host quarantine web2
cnsmo-manage host quarantine web2 --release
cnsmo-manage host quarantine web2 web3 --dry-run
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("hosts", nargs="+", metavar="HOST", help="their names")
        parser.add_argument("--release", action="store_true", help="let them back")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        name, client = self.deployment(parsed_args), self.session.client
        known = {host.name for host in client.host_list(name)}
        for host in parsed_args.hosts:
            if host not in known:
                raise _unknown(name, host)
        release = parsed_args.release
        if parsed_args.dry_run:
            given = hosts.addresses(client, name)
            for host in parsed_args.hosts:
                vpns = ", ".join(given.get(host, {})) or "none"
                done = "let {} back" if release else "take {} out of everything"
                self.dry(f"{done.format(host)} (member of VPNs: {vpns})")
            return
        for host in dict.fromkeys(parsed_args.hosts):
            revision = client.host_quarantine(name, host, release)
            told = "let back" if release else "in quarantine"
            self.say(f"Host {host} {told} since revision {revision}.")


class Readmit(Command):
    """Let a host that has a new key take its name's place: a VM that was made anew.

    Whoever joins next under that name, with a valid token, is the host from then on; what knows
    the old key is out. Without this, a join with another key is refused, so that a stolen token
    cannot push a living host out.
    """

    in_deployment = True
    writes = True
    examples = """
cnsmo-manage host readmit web1
cnsmo-manage host readmit web1 --lifetime 10m
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST", help="its name")
        parser.add_argument(
            "--lifetime",
            type=durations.seconds,
            default=3600,
            metavar="DURATION",
            help="for how long, as 10m or 1h; default: 1h, at most 30d",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        name, client = self.deployment(parsed_args), self.session.client
        if not 1 <= parsed_args.lifetime <= 30 * 86400:
            raise InvalidRequest("--lifetime: from 1 second to 30 days")
        find(client, name, parsed_args.host)
        told = f"a new {parsed_args.host} take the old one's place"
        if parsed_args.dry_run:
            self.dry(f"let {told}, for {durations.words(parsed_args.lifetime)}")
            return
        client.host_readmit(name, parsed_args.host, parsed_args.lifetime)
        self.say(
            f"For {durations.words(parsed_args.lifetime)}, a join with a valid token lets {told}."
        )


def find(client: OperatorClient, deployment: str, name: str) -> HostStatus:
    """A host by its name.

    :raises NotFound: when the deployment has none of that name.
    """
    for host in client.host_list(deployment):
        if host.name == name:
            return host
    raise _unknown(deployment, name)


def _removed(client: OperatorClient, deployment: str, name: str) -> dict[str, Any]:
    """What is known of a host that was removed.

    :raises NotFound: when there never was one of that name.
    """
    found = [it for it in client.host_removals(deployment) if it.host == name]
    if not found:
        raise _unknown(deployment, name)
    last = found[-1]
    return {
        "Name": last.host,
        "ID": last.id,
        "Removed": Moment(last.removed_at),
        "Removed in revision": last.revision,
        "Confirmed by all others": Moment(last.confirmed_at),
        "Waiting for": Names(last.waiting),
    }


def _unknown(deployment: str, host: str) -> NotFound:
    return NotFound(
        f"deployment {deployment!r} has no host {host!r}; 'cnsmo-manage host list' shows all"
    )
