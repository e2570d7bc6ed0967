# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage firewall show and diff: what is in force on the hosts, and what it counted."""

from __future__ import annotations

import argparse
import functools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cnsmo.manage import fresh
from cnsmo.manage.cells import Names, Size, State, age, size
from cnsmo.manage.command import ListCommand
from cnsmo.manage.errors import NotInForce
from cnsmo.model.errors import NotFound
from cnsmo.model.suggest import did_you_mean

if TYPE_CHECKING:
    from cnsmo.manage.firewall_seen import Counted
    from cnsmo.model.messages import AgentStatus, HostStatus
    from cnsmo.services.firewall.desired import FirewallDesired

Desire = Callable[[str], "FirewallDesired | None"]
"""What is desired on the host of that name."""
WIDTH = 80
OLD = 10
"""Seconds after which it is said how old an observation is."""
_HOSTS = "Host", "State", "Driver", "Rules", "Dropped", "Trial", "Reason"
_RULES = "Direction", "Over", "Part", "Rule", "Action", "Default", "Packets", "Bytes"
_SETS = "Set", "Count", "Members"
_ACTIONS = {"accept": "green", "drop": "red", "reject": "red"}


class _Looking(ListCommand):
    """What both commands need: the hosts' observations, and what is desired there."""

    in_deployment = True

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--patience",
            type=float,
            default=fresh.PATIENCE,
            metavar="SECONDS",
            help="how long to wait for the hosts' observations; 0: show what is known; "
            f"default: {fresh.PATIENCE:g}",
        )
        return parser

    def _look(self, args: argparse.Namespace) -> dict[str, HostStatus]:
        """The hosts by name; what is desired is taken from now on by _desired()."""
        from cnsmo.manage.views import present
        from cnsmo.services.firewall.service import FirewallService

        name, client = self.deployment(args), self.session.client
        self._name = name
        found = {host.name: host for host in fresh.observed(client, name, args.patience)}
        view = present(client, name)
        self._desired: Desire = functools.partial(FirewallService().firewall, view)
        return found

    def _one(self, hosts: dict[str, HostStatus], name: str) -> tuple[AgentStatus, Any]:
        """A host's firewall agent, and the firewall that is desired there.

        :raises NotFound: when there is no such host, or it runs no such agent.
        """
        from cnsmo.manage.firewall_seen import agent_of

        if name not in hosts:
            raise NotFound(
                f"deployment {self._name!r} has no host {name!r}; {did_you_mean(name, hosts)}"
            )
        agent = agent_of(hosts[name])
        if agent is None:
            listed = ", ".join(each.service for each in hosts[name].agents) or "none"
            raise NotFound(f"{name} runs no agent of the service firewall; it has: {listed}")
        return agent, self._desired(name)

    def _stale(self, agent: AgentStatus) -> list[str]:
        if agent.observed_age is None or agent.observed_age <= OLD:
            return []
        return [f"{agent.host} has not answered; what it saw is {age(agent.observed_age)} old"]


class Show(_Looking):
    """Show the firewalls of all hosts, or the rules and counters of one.

    Without HOST a line for each host: its agent's state, how many declared rules it has, how many
    packets the defaults dropped, whether a change is on trial. With HOST its rules in the order in
    which a packet meets them, with packets and bytes since they were loaded, then its sets with
    their members, then what no rule matched. A packet is counted where it begins a flow; what
    belongs to a flow is not counted again.
    """

    examples = """
cnsmo-manage firewall show
cnsmo-manage firewall show web1
cnsmo-manage firewall show web1 --all           # also what is always open, and was never used
cnsmo-manage firewall show web1 --sets -f json
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST", nargs="?", help="show this one with its rules")
        parser.add_argument(
            "--all",
            action="store_true",
            help="also the rules for what is always open that no packet met",
        )
        parser.add_argument("--sets", action="store_true", help="of HOST, the sets only")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], list[Any]]:
        from cnsmo.manage import firewall_seen

        hosts = self._look(parsed_args)
        if parsed_args.host is None:
            return _HOSTS, [self._line(host) for host in hosts.values()]
        self._agent, self._wanted = self._one(hosts, parsed_args.host)
        self._seen = firewall_seen.seen(self._agent) or {}
        self._rules = firewall_seen.counted(self._seen, self._wanted)
        if parsed_args.sets:
            return _SETS, [
                (name, told.get("count", 0), Names(told.get("elements") or []))
                for name, told in (self._seen.get("sets") or {}).items()
            ]
        return _RULES, [
            (
                each.direction or None,
                each.realm or "underlay",
                each.part or None,
                each.rule,
                str(each.action) if each.action else None,
                each.default,
                each.packets,
                Size(each.bytes),
            )
            for each in self._rules
        ]

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Any]
    ) -> int:
        people = parsed_args.formatter == "table" and not parsed_args.columns
        if people and parsed_args.host is None:
            lines = list(data)
            code = super().produce_output(parsed_args, _HOSTS[:-1], [line[:-1] for line in lines])
            for host, reason in ((line[0], line[-1]) for line in lines if line[-1]):
                self.say(f"{host}: {reason}")
            return code
        if not people or parsed_args.sets:
            return super().produce_output(parsed_args, column_names, data)
        for line in self._headlines():
            self.say(line)
        shown, hidden = self._shown(parsed_args.all)
        code = 0
        if shown:
            columns = ("Way", "Over", "Rule", "Action", "Packets", "Bytes")
            code = super().produce_output(parsed_args, columns, [self._row(it) for it in shown])
        if hidden:
            self.say(f"Not shown: {hidden} rules for what is always open, not used; see --all.")
        if any(each.part == "audit" for each in shown):
            self.say("In brackets: on trial (mode: audit), counted but not done.")
        for line in self._below():
            self.say(line)
        return code

    def empty(self, args: argparse.Namespace) -> str:
        return "No set is there." if args.sets else "No host has joined yet."

    def _line(self, host: HostStatus) -> tuple[Any, ...]:
        from cnsmo.manage import firewall_seen

        agent, wanted = firewall_seen.agent_of(host), self._desired(host.name)
        found = firewall_seen.seen(agent)
        if agent is None:
            reason = "runs no agent of the service firewall" if wanted else "no policy holds for it"
            return host.name, None, None, None, None, None, reason
        rules = firewall_seen.counted(found or {}, wanted)
        declared = {
            (each.direction, each.rule)
            for each in rules
            if each.part in ("audit", "enforce") and not each.default
        }
        counts = wanted is not None and found is not None and wanted.driver != firewall_seen.SILENT
        reason = agent.reason or ("" if wanted else "no policy holds for it")
        return (
            host.name,
            State(str(agent.state), self.style),
            wanted.driver if wanted else None,
            len(declared) if counts else None,
            firewall_seen.dropped(rules) if counts else None,
            "trial" in found if found is not None else None,
            reason or None,
        )

    def _headlines(self) -> Iterator[str]:
        agent, wanted = self._agent, self._wanted
        driver = wanted.driver if wanted else "no policy holds for it"
        head = self.style.paint(f"Firewall of {agent.host}:", "bold")
        reason = f": {agent.reason}" if agent.reason else ""
        yield f"{head} {self.style.state(str(agent.state))}, {driver}{reason}"
        trial = self._seen.get("trial")
        if trial:
            left = trial.get("seconds_left", 0) - (agent.observed_age or 0)
            yield (
                f"On trial: unless the core is reached within {max(0, round(left))} s, "
                "the last good ruleset returns."
            )
        yield from self._stale(agent)

    def _shown(self, everything: bool) -> tuple[list[Counted], int]:
        rules = [each for each in self._rules if not each.default]
        shown = [each for each in rules if everything or each.packets or each.part != "always"]
        return shown, len(rules) - len(shown)

    def _row(self, each: Counted) -> tuple[Any, ...]:
        action = str(each.action or "?")
        painted = self.style.paint(action, _ACTIONS[action]) if action in _ACTIONS else action
        return (
            {"inbound": "in", "outbound": "out"}.get(each.direction),
            each.realm or "underlay",
            each.rule,
            f"({painted})" if each.part == "audit" else painted,
            each.packets,
            size(each.bytes),
        )

    def _below(self) -> Iterator[str]:
        sets = self._seen.get("sets") or {}
        if sets:
            yield self.style.paint("Sets:", "bold")
        for name, told in sets.items():
            if told.get("count"):
                yield _members(name, list(told.get("elements") or []), told["count"])
        if empty := [name for name, told in sets.items() if not told.get("count")]:
            yield _folded(f"empty: {', '.join(empty)}")
        defaults = [each for each in self._rules if each.default]
        if defaults:
            yield self.style.paint("What no rule matched:", "bold")
        for each in defaults:
            if each.packets or (each.part != "audit" and each.direction == "inbound"):
                yield f"  {_default(each)}: {each.packets} packets, {size(each.bytes)}"
        if not self._rules:
            yield self._silence()

    def _silence(self) -> str:
        from cnsmo.manage.firewall_seen import SILENT

        if self._wanted is not None and self._wanted.driver == SILENT:
            return f"The driver {SILENT} keeps no rules, and counts nothing."
        return f"{self._agent.host} has told of no rules."


class Diff(_Looking):
    """Tell how a host's firewall differs from the declared one; exit code 1 when it does.

    What is declared is compiled here as the host's agent does; what is there is what the agent
    found in the kernel just now. An agent repairs what it finds changed when it looks, so that
    differences that stay have a reason: the agent is down or in error, the host is not there yet
    with the newest revision, or a change was taken back because it cut the host off.
    """

    examples = """
cnsmo-manage firewall diff web1
cnsmo-manage firewall diff web1 --patience 0    # by what the agent saw last
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST", help="its name")
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        return super().run(parsed_args) or int(bool(self._lines))

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], list[Any]]:
        agent, wanted = self._one(self._look(parsed_args), parsed_args.host)
        self._agent = agent
        self._lines = _differences(agent, wanted)
        return ("Difference",), [(line,) for line in self._lines]

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Any]
    ) -> int:
        if parsed_args.formatter != "table":
            return super().produce_output(parsed_args, column_names, data)
        for line in self._lines or ["no difference"]:
            self.say(f"{self._agent.host}: {line}")
        for line in self._stale(self._agent):
            self.say(line)
        return 0


def _differences(agent: AgentStatus, wanted: FirewallDesired | None) -> list[str]:
    """The kernel's, after what the agent itself says where it failed.

    :raises NotInForce: when the agent has not told anything.
    """
    from cnsmo.manage import firewall_seen

    found = firewall_seen.seen(agent)
    failed = str(agent.state) == "error"
    if found is None and wanted is not None and not failed:
        raise NotInForce(
            f"{agent.host} has not told what it found in its kernel: its agent is {agent.state}"
            f"{f': {agent.reason}' if agent.reason else ''}"
        )
    own = [f"its agent is in error: {agent.reason}"] if failed else []
    return own if found is None and failed else own + firewall_seen.differences(wanted, found)


def _default(each: Counted) -> str:
    from cnsmo.services.firewall.desired import SPOOFED

    if each.rule == SPOOFED:
        return "inbound, posing as a VPN's, dropped"
    done = {"accept": "accepted", "drop": "dropped", "reject": "rejected"}
    action = done.get(str(each.action), "?")
    if each.part == "audit":
        action = f"would be {action} by {each.rule.partition('/')[0]}"
    return f"{each.direction}, {each.realm or 'underlay'}, {action}"


def _members(name: str, items: list[str], count: int) -> str:
    more = [f"... and {count - len(items)} more"] if items and count > len(items) else []
    return _folded(f"{name} ({count}){': ' if items else ''}{', '.join(items + more)}")


def _folded(text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent="  ", subsequent_indent=" " * 6, break_on_hyphens=False
    )
