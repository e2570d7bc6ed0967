# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage agent: the pairs of a host and a service."""

from __future__ import annotations

import argparse
from typing import Any

from cnsmo.manage.cells import Age, Moment, State, Tree
from cnsmo.manage.command import ListCommand, ShowCommand
from cnsmo.manage.host import find
from cnsmo.model.errors import InvalidRequest, NotFound


class List(ListCommand):
    """List all agents: their states, since when, and why."""

    in_deployment = True
    examples = """
cnsmo-manage agent list
cnsmo-manage agent list --state error --state down
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--state",
            action="append",
            default=[],
            choices=("joining", "configuring", "ready", "degraded", "error", "down"),
            metavar="STATE",
            help="only those in this state; may be repeated",
        )
        parser.add_argument("--service", metavar="SERVICE", help="only those of this service")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Any]]:
        columns = "Host", "Service", "State", "Since", "Revision", "Heartbeat", "Reason"
        return columns, [
            (
                agent.host,
                agent.service,
                State(str(agent.state), self.style),
                Moment(agent.since),
                agent.applied_revision,
                Age(agent.heartbeat_age),
                agent.reason,
            )
            for host in self.session.client.host_list(self.deployment(parsed_args))
            for agent in host.agents
            if not parsed_args.state or str(agent.state) in parsed_args.state
            if parsed_args.service in (None, agent.service)
        ]

    def empty(self, args: argparse.Namespace) -> str:
        return "There is no such agent." if args.state or args.service else "There is no agent yet."


class Show(ShowCommand):
    """Show one agent with all that its drivers observed."""

    in_deployment = True
    examples = """
cnsmo-manage agent show web1              # where the host runs one service
cnsmo-manage agent show web1 vpn -f json
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST", help="the host's name")
        parser.add_argument("service", nargs="?", metavar="SERVICE", help="the service")
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        host = find(self.session.client, self.deployment(parsed_args), parsed_args.host)
        agents = {agent.service: agent for agent in host.agents}
        listed = ", ".join(agents) or "none"
        wanted = parsed_args.service
        if wanted is None and len(agents) > 1:
            raise InvalidRequest(f"which service? {host.name} runs agents of {listed}")
        agent = agents.get(wanted) if wanted else next(iter(agents.values()), None)
        if agent is None:
            raise NotFound(f"{host.name} runs no agent of {wanted}; it has: {listed}")
        shown: dict[str, Any] = {
            "Host": agent.host,
            "Service": agent.service,
            "State": State(str(agent.state), self.style),
            "Reason": agent.reason or None,
            "Since": Moment(agent.since),
            "Revision": agent.applied_revision,
            "Heartbeat": Age(agent.heartbeat_age),
            "Observed": Age(agent.observed_age),
            "Observation": Tree(agent.observation),
        }
        return self.dict2columns(shown)
