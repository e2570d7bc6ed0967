# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage cloud: the VMs of a deployment, as the cloud sees them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cnsmo.manage.cells import Names
from cnsmo.manage.command import Command, ListCommand
from cnsmo.manage.hosts import States
from cnsmo.model.errors import CnsmoError, Conflict, InvalidRequest

if TYPE_CHECKING:
    from cnsmo.cloud.deployer import Deployer, Server
    from cnsmo.model.messages import HostStatus


class CloudCommand(Command):
    """Base of the commands that ask a cloud."""

    in_deployment = True

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--deployer", default="", metavar="NAME", help="default: [cloud] deployer"
        )
        return parser

    def deployer(self, args: argparse.Namespace) -> Deployer:
        """What makes VMs here."""
        from cnsmo.cloud import registry

        return registry.load(self.session.conf, args.deployer)

    def hosts(self, deployment: str) -> dict[str, HostStatus]:
        """The hosts of a deployment, by name."""
        return {host.name: host for host in self.session.client.host_list(deployment)}


class List(ListCommand, CloudCommand):
    """List the deployment's VMs as the cloud sees them, beside their hosts.

    A VM without a host has not joined (yet), or its host was removed. A host without a VM was made
    elsewhere ('cloud adopt'), or its VM is gone.
    """

    examples = """
cnsmo-manage cloud list
cnsmo-manage cloud list --all          # VMs of others, too
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--all", action="store_true", help="all VMs that the cloud shows")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Any]]:
        from cnsmo.cloud import facts

        name = self.deployment(parsed_args)
        servers, hosts = self.deployer(parsed_args).servers(), self.hosts(name)
        known = {host: status.facts for host, status in hosts.items()}
        pairs = facts.match(known, servers, name)
        host_of = {pair.server.id: pair.host for pair in pairs if pair.server is not None}
        shown = [
            server
            for server in servers
            if parsed_args.all or server.deployment == name or server.id in host_of
        ]
        rows = [self._row(server, hosts.get(host_of.get(server.id, ""))) for server in shown]
        rows += [
            (None, pair.host, None, "no VM", None, None, None, self._state(hosts[pair.host]))
            for pair in pairs
            if pair.server is None
        ]
        titles = ("VM", "Host", "Deployment", "Status", "Addresses", "Floating", "Zone", "State")
        return titles, rows

    def _row(self, server: Server, host: HostStatus | None) -> tuple[Any, ...]:
        return (
            server.name,
            host.name if host else None,
            server.deployment or None,
            str(server.status),
            Names(server.private),
            Names(server.public),
            server.zone or None,
            self._state(host) if host else None,
        )

    def _state(self, host: HostStatus) -> States:
        return States(host.agents, self.style, host.quarantined)

    def empty(self, args: argparse.Namespace) -> str:
        return "The cloud shows no VM of this deployment: 'cnsmo-manage cloud launch' makes some."


class Sync(CloudCommand):
    """Tell the hosts' floating IPs, and instance ids, to the core: VMs cannot know them.

    Floating IPs come, go and move while a VM runs; its agent learns of it where the cloud has a
    metadata service. Run it after you changed one, or every now and then.
    """

    writes = True
    examples = """
cnsmo-manage cloud sync
cnsmo-manage cloud sync --dry-run
"""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.cloud import facts
        from cnsmo.model.host import CloudFacts

        name, client = self.deployment(parsed_args), self.session.client
        known = {host: status.facts for host, status in self.hosts(name).items()}
        pairs = facts.match(known, self.deployer(parsed_args).servers(), name)
        before = {row.name: row.body.get("cloud") for row in client.rows(name).rows}
        for pair in pairs:
            if pair.server is None:
                self.note(f"{pair.host}: the cloud shows no VM of it")
                continue
            if CloudFacts.model_validate(before.get(pair.host) or {}) == pair.facts:
                continue
            told = ", ".join(pair.facts.public) or "no floating IP"
            if parsed_args.dry_run:
                self.dry(f"note of {pair.host}: {told}")
            else:
                revision = client.host_learn(name, pair.host, pair.facts)
                self.say(f"{pair.host}: {told}, noted in revision {revision}.")


class Adopt(CloudCommand):
    """Take a VM that somebody else started for one of the deployment's own.

    Its host has to have joined already ('cnsmo-manage userdata agent' has what its agent needs).
    From then on 'cloud list' shows it, and 'cloud remove' removes it.
    """

    writes = True
    examples = """
cnsmo-manage cloud adopt legacy-web-3
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="VM", help="its name or id in the cloud")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.cloud import facts
        from cnsmo.cloud.deployer import named

        name, deployer = self.deployment(parsed_args), self.deployer(parsed_args)
        server = named(deployer.servers(), parsed_args.server)
        if server.deployment == name:
            self.say(f"{server.name} is of {name} already.")
            return
        if server.deployment:
            raise Conflict(f"{server.name} is of the deployment {server.deployment!r}")
        host = self._host(name, server)
        if parsed_args.dry_run:
            self.dry(f"take {server.name} ({server.id}) for the VM of {host.name}")
            return
        marked = deployer.mark(server, name, tuple(host.groups))
        self.session.client.host_learn(name, host.name, facts.Found(host.name, marked).facts)
        self.say(f"{server.name} is the VM of {host.name}, and of {name} from now on.")

    def _host(self, name: str, server: Server) -> HostStatus:
        hosts = self.hosts(name)
        for host in hosts.values():
            if host.facts.instance_id == server.id:
                return host
        unknown = hosts.get(server.name)
        if unknown is not None and not unknown.facts.instance_id:
            return unknown
        raise InvalidRequest(
            f"no host of {name!r} runs in {server.name} ({server.id}): let its agent join first "
            "('cnsmo-manage userdata agent')"
        )


class Remove(CloudCommand):
    """Remove VMs for good, with their hosts: first from all services, then from the cloud.

    Only VMs of the deployment: those that 'cloud launch' made, and adopted ones. Floating IPs are
    set free and kept.
    """

    writes = True
    examples = """
cnsmo-manage cloud remove web2 web3
cnsmo-manage cloud remove web2 --dry-run
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("servers", nargs="+", metavar="VM", help="names or ids")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.cloud import facts, launch
        from cnsmo.cloud.deployer import named

        name, deployer = self.deployment(parsed_args), self.deployer(parsed_args)
        hosts = self.hosts(name)
        owned = deployer.owned(name)
        servers = [named(owned, word) for word in dict.fromkeys(parsed_args.servers)]
        known = {host: status.facts for host, status in hosts.items()}
        pairs = facts.match(known, servers, name)
        leaving = {pair.server.id: pair.host for pair in pairs if pair.server is not None}
        for server in servers:
            host = leaving.get(server.id)
            if parsed_args.dry_run:
                self.dry(f"remove {server.name} ({server.id})" + f" and host {host}" * bool(host))
            elif host:
                revision = self.session.client.host_remove(name, host)
                self.say(f"{host}: host removed in revision {revision}.")
        if parsed_args.dry_run:
            return
        left = launch.remove(deployer, servers, lambda one, how: self.say(f"{one}: VM {how}."))
        if left:
            raise CnsmoError("\n".join(left))
