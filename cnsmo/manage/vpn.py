# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage vpn: encrypted networks, as their members see them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cnsmo.manage import fresh, mesh, service
from cnsmo.manage.cells import Age, Names, Size, age, size
from cnsmo.manage.command import Command, ListCommand

if TYPE_CHECKING:
    from cnsmo.model.messages import HostStatus
    from cnsmo.model.resource import Row

WIDEST = 14
"""Members up to which people get a matrix; of more, a line for each."""
_LONG = "From", "To", "Path", "Via", "Endpoint", "Handshake", "Received", "Sent"


class Show(ListCommand):
    """Show who sees whom in a VPN, by observations made just now.

    For people a matrix: how long ago each member (a line) last shook hands with each other one (a
    column). 'quiet': a peer, but no packet has needed the tunnel yet. 'via HOST': no direct way,
    HOST passes packets on. 'none': no way. '?': that host has not told. --long, and every format
    for programs, gives a line for each pair: path, endpoint, handshake (seconds), bytes.
    """

    in_deployment = True
    examples = """
cnsmo-manage vpn show backbone
cnsmo-manage vpn show backbone --long
cnsmo-manage vpn show backbone -f json
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="the VPN")
        parser.add_argument("--long", action="store_true", help="a line for each pair")
        parser.add_argument(
            "--patience",
            type=float,
            default=fresh.PATIENCE,
            metavar="SECONDS",
            help="how long to wait for the members' observations; 0: show what is known; "
            f"default: {fresh.PATIENCE:g}",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], list[Any]]:
        name, client = self.deployment(parsed_args), self.session.client
        self._row = service.find(client, name, "vpn", parsed_args.name)
        hosts = fresh.observed(client, name, parsed_args.patience)
        self._members = client.member_list(name, "vpn", parsed_args.name)
        self._hosts = {host.name: host for host in hosts}
        self._links = mesh.links(hosts, parsed_args.name, self._members)
        if parsed_args.long or parsed_args.formatter != "table" or parsed_args.columns:
            return _LONG, [_long(link) for link in self._links]
        if len(self._members) > WIDEST:
            return self._summary()
        return self._matrix()

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Any]
    ) -> int:
        people = parsed_args.formatter == "table"
        if people:
            self.say(self._headline(self._row))
        code = super().produce_output(parsed_args, column_names, data)
        for line in self._remarks() if people else ():
            self.say(line)
        return code

    def empty(self, args: argparse.Namespace) -> str:
        return "No host has a place in it yet."

    def _headline(self, row: Row) -> str:
        cidr = ", ".join(row.body.get("cidr", []))
        kind, driver = row.body.get("topology", ""), row.body.get("driver", "")
        many = f"{len(self._members)} member{'' if len(self._members) == 1 else 's'}"
        told = f"VPN {row.name}: {cidr}, {kind}, {driver}, {many}"
        return self.style.paint(told, "bold")

    def _matrix(self) -> tuple[list[str], list[Any]]:
        targets = sorted({link.target for link in self._links} | set(self._members))
        cells = {(link.source, link.target): mesh.cell(link) for link in self._links}
        rows = []
        for source in sorted(self._members):
            shown = [self._painted(cells.get((source, target), "")) for target in targets]
            rows.append([source, self._addresses(source), *shown, *self._traffic(source)])
        return ["From \\ to", "Address", *targets, *self._counted()], rows

    def _summary(self) -> tuple[list[str], list[Any]]:
        rows = []
        for source in sorted(self._members):
            own = [link for link in self._links if link.source == source]
            ages = [link.handshake_age for link in own if link.handshake_age is not None]
            lost = [link.target for link in own if link.path in (mesh.NONE, mesh.UNKNOWN)]
            sees = f"{len(own) - len(lost)}/{len(own)}"
            oldest = Age(max(ages, default=None))
            missing = Names(lost[:4] + ["..."] * (len(lost) > 4))
            rows.append(
                [source, self._addresses(source), sees, oldest, missing, *self._traffic(source)]
            )
        columns = ["From", "Address", "Sees", "Oldest handshake", "Does not see"]
        return [*columns, *self._counted()], rows

    def _addresses(self, host: str) -> Names:
        return Names(self._members[host].body.get("addresses", []))

    def _counted(self) -> list[str]:
        """The titles of the columns about traffic, where the driver counts it."""
        return ["Received", "Sent"] if any(link.rx is not None for link in self._links) else []

    def _traffic(self, source: str) -> tuple[str, ...]:
        if not self._counted():
            return ()
        own = [link for link in self._links if link.source == source]
        rx = [link.rx for link in own if link.rx is not None]
        tx = [link.tx for link in own if link.tx is not None]
        return size(sum(rx)) if rx else "-", size(sum(tx)) if tx else "-"

    def _painted(self, text: str) -> str:
        colours = {"none": "red", "?": "yellow", "quiet": "dim"}
        return self.style.paint(text, colours[text]) if text in colours else text

    def _remarks(self) -> list[str]:
        lost = [link for link in self._links if link.path == mesh.NONE]
        lines = [f"No way: {link.source} -> {link.target}" for link in lost[:10]]
        if len(lost) > 10:
            lines.append(f"... and {len(lost) - 10} more pairs")
        for name in sorted(self._members):
            lines += self._told(name, self._hosts.get(name))
        return lines

    def _told(self, name: str, host: HostStatus | None) -> list[str]:
        agent = (
            next((agent for agent in host.agents if agent.service == "vpn"), None) if host else None
        )
        if agent is None:
            return [f"{name} runs no agent of the service vpn"]
        lines = []
        if str(agent.state) != "ready":
            reason = f": {agent.reason}" if agent.reason else ""
            lines.append(f"{name} is {self.style.state(str(agent.state))}{reason}")
        if agent.observed_age is not None and agent.observed_age > 10:
            lines.append(f"{name} has not answered; what it saw is {age(agent.observed_age)} old")
        return lines


class Rotate(Command):
    """Ask all members of a VPN to replace their keys now.

    Each makes its next key, tells everybody, and lets go of the old one when all have heard: the
    tunnels carry traffic all the while. Private keys never leave the hosts that made them.
    """

    in_deployment = True
    writes = True
    examples = """
cnsmo-manage vpn rotate backbone
cnsmo-manage watch --type vpn.member.declared    # in another terminal: new keys being announced
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="the VPN")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        name, client = self.deployment(parsed_args), self.session.client
        service.find(client, name, "vpn", parsed_args.name)
        members = client.member_list(name, "vpn", parsed_args.name)
        who = f"{len(members)} member{'' if len(members) == 1 else 's'} of VPN {parsed_args.name}"
        if parsed_args.dry_run:
            self.dry(f"ask {who} for new keys")
            return
        revision = client.renew(name, "vpn", parsed_args.name)
        self.say(f"Asked {who} for new keys, in revision {revision}.")


def _long(link: mesh.Link) -> tuple[Any, ...]:
    return (
        link.source,
        link.target,
        link.path,
        link.via or None,
        link.endpoint or None,
        Age(link.handshake_age),
        Size(link.rx),
        Size(link.tx),
    )
