# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage service: what is declared."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cnsmo.manage import changes
from cnsmo.manage.cells import Moment, Tree
from cnsmo.manage.command import Command, ListCommand, ShowCommand
from cnsmo.manage.views import present
from cnsmo.model.errors import NotFound

if TYPE_CHECKING:
    from cnsmo.bus.clients import OperatorClient
    from cnsmo.model.messages import ProviderStatus
    from cnsmo.model.resource import Row, View


class List(ListCommand):
    """List all declared instances of services, and who changed them last."""

    in_deployment = True
    examples = """
cnsmo-manage service list
"""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Any]]:
        name, client = self.deployment(parsed_args), self.session.client
        columns = (
            *("Service", "Name", "Driver", "Members", "Revision", "Changed", "Changed by"),
            "In the cloud",
        )
        kept = {(one.service, one.instance): one for one in client.provider_list(name)}
        declared = client.service_list(name)
        rows: list[tuple[Any, ...]] = [
            (
                row.kind,
                row.name,
                row.body.get("driver"),
                self._members(client, name, row),
                row.revision,
                Moment(row.updated_at),
                row.author,
                self._state(kept.pop((row.kind, row.name), None)),
            )
            for row in declared
        ]
        for one in kept.values():  # not declared any more, and not gone yet
            cells = (one.service, one.instance, one.driver, None, None, Moment(one.since), None)
            rows.append((*cells, self._state(one)))
        return columns, rows

    def _state(self, kept: ProviderStatus | None) -> str | None:
        """How it stands with what cores keep; None where there is no such thing."""
        if kept is None:
            return None
        state = kept.state if kept.current else "configuring"
        return f"{state}: {kept.reason}" if kept.reason else str(state)

    def _members(self, client: OperatorClient, deployment: str, row: Row) -> int | None:
        """How many there are; None where the service has no members."""
        from cnsmo.services import registry

        service = registry.services().get(row.kind)
        if service is not None and service.Announcement is None:
            return None
        return len(client.member_list(deployment, row.kind, row.name))

    def empty(self, args: argparse.Namespace) -> str:
        return "Nothing is declared yet: 'cnsmo-manage apply FILE' declares services."


class Show(ShowCommand):
    """Show one declared instance, with its defaults, and its members."""

    in_deployment = True
    examples = """
cnsmo-manage service show vpn backbone
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_names(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        name, client = self.deployment(parsed_args), self.session.client
        row = find(client, name, parsed_args.service, parsed_args.instance)
        members = client.member_list(name, row.kind, row.name)
        shown: dict[str, Any] = {
            "Service": row.kind,
            "Name": row.name,
            "Revision": row.revision,
            "Changed": Moment(row.updated_at),
            "Changed by": row.author,
            "Spec": Tree(row.body),
            "Members": Tree({host: member.body for host, member in members.items()}),
            "Adjustments": Tree(_adjustments(present(client, name), row)),
            "In the cloud": Tree(_kept(client, name, row)),
        }
        return self.dict2columns(shown)


class Delete(Command):
    """Delete one declared instance; its members take it down when they learn of it.

    What something else that is declared needs (a VPN that a rule names) is not deleted; the message
    says by what it is needed. To change an instance instead, change the document and 'apply' it.
    """

    in_deployment = True
    writes = True
    examples = """
cnsmo-manage service delete vpn backbone --dry-run
cnsmo-manage service delete vpn backbone
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_names(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        name, client = self.deployment(parsed_args), self.session.client
        service, instance = parsed_args.service, parsed_args.instance
        if parsed_args.dry_run:
            find(client, name, service, instance)
            for line in changes.told(client.plan_delete(name, service, instance), self.style):
                self.say(line)
            members = client.member_list(name, service, instance)
            listed = f" from {', '.join(members)}" if members else ", which has no members"
            self.dry(f"delete {service} {instance} of {name}{listed}")
            return
        revision = client.service_delete(name, service, instance)
        self.say(f"{service} {instance} of {name} deleted in revision {revision}.")


def find(client: OperatorClient, deployment: str, service: str, instance: str) -> Row:
    """A declared instance.

    :raises NotFound: when it is not declared.
    """
    rows = client.service_list(deployment)
    for row in rows:
        if (row.kind, row.name) == (service, instance):
            return row
    declared = ", ".join(f"{row.kind} {row.name}" for row in rows) or "nothing"
    raise NotFound(f"deployment {deployment!r} declares no {service} {instance!r}, but {declared}")


def _kept(client: OperatorClient, deployment: str, row: Row) -> dict[str, Any]:
    """What cores keep in the cloud for an instance."""
    for one in client.provider_list(deployment):
        if (one.service, one.instance) == (row.kind, row.name):
            return {"state": str(one.state), "reason": one.reason, **one.detail}
    return {}


def _adjustments(view: View, row: Row) -> dict[str, Any]:
    """What operators said of single hosts, by host."""
    from cnsmo.model.resource import adjustment_kind, joined

    prefix = joined(row.name, "")
    return {
        found.name.removeprefix(prefix): found.body
        for found in view.rows(adjustment_kind(row.kind))
        if found.name.startswith(prefix)
    }


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE", help="the service, as vpn")
    parser.add_argument("instance", metavar="NAME", help="the instance's name")
