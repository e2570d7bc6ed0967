# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage host: the VMs of a deployment."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cnsmo.manage import fresh, hosts
from cnsmo.manage.cells import Age, Names, age
from cnsmo.manage.command import Command, ListCommand, ShowCommand
from cnsmo.model.errors import NotFound

if TYPE_CHECKING:
    from cnsmo.bus.clients import OperatorClient
    from cnsmo.model.messages import HostStatus


class List(ListCommand):
    """List all hosts: where they are, how their agents stand, whom they hear.

    'Handshakes' counts the VPN peers that a host has shaken hands with, and tells how long ago it
    last did with the quietest of them. 'Revision' is what all its agents have applied.
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
                hosts.States(host.agents, self.style),
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
    """Show one host: its facts, its addresses, and its agents with their reasons."""

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
        host = find(client, name, parsed_args.host)
        facts = host.facts
        shown: dict[str, Any] = {
            "Name": host.name,
            "ID": host.id,
            "Groups": Names(host.groups),
            "Site": facts.site,
            "Private addresses": Names(facts.private),
            "Public addresses": Names(facts.public),
            "Behind NAT": facts.behind_nat,
            "MTU": facts.mtu,
            "Instance ID": facts.instance_id or None,
            "VPN addresses": hosts.Addresses(hosts.addresses(client, name).get(host.name, {})),
            "Handshakes": hosts.Handshakes(hosts.Heard.by(host)),
            "Revision": hosts.revision(host),
            "Heartbeat": Age(hosts.last_heard(host)),
            "Agents": Names(
                [
                    f"{agent.service}: {agent.state}" + (f": {agent.reason}" * bool(agent.reason))
                    for agent in host.agents
                ],
                lines=True,
            ),
        }
        return self.dict2columns(shown)


class Remove(Command):
    """Remove hosts for good: from all services, at once for all others.

    A removed host takes everything down when it learns of it. Its addresses are not given to
    others before their quarantine is over; to return, it needs a new token.
    """

    in_deployment = True
    writes = True
    examples = """
cnsmo-manage host remove web2
cnsmo-manage host remove web2 web3 --dry-run
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("hosts", nargs="+", metavar="HOST", help="their names")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        name, client = self.deployment(parsed_args), self.session.client
        known = {host.name: host for host in client.host_list(name)}
        for host in parsed_args.hosts:
            if host not in known:
                raise _unknown(name, host)
        if parsed_args.dry_run:
            given = hosts.addresses(client, name)
            for host in parsed_args.hosts:
                vpns = ", ".join(given.get(host, {})) or "none"
                heard = age(hosts.last_heard(known[host]))
                self.dry(f"remove {host} (last heartbeat {heard} ago, member of VPNs: {vpns})")
            return
        for host in dict.fromkeys(parsed_args.hosts):
            revision = client.host_remove(name, host)
            self.say(f"Host {host} removed in revision {revision}.")


def find(client: OperatorClient, deployment: str, name: str) -> HostStatus:
    """A host by its name.

    :raises NotFound: when the deployment has none of that name.
    """
    for host in client.host_list(deployment):
        if host.name == name:
            return host
    raise _unknown(deployment, name)


def _unknown(deployment: str, host: str) -> NotFound:
    return NotFound(
        f"deployment {deployment!r} has no host {host!r}; 'cnsmo-manage host list' shows all"
    )
