# SPDX-License-Identifier: Apache-2.0
"""What a change of policy comes to on a host: which flows open, which close; pure.

Told from the rules as the operator wrote them, as far as they make lines on the host. That one rule
hides another is not worked out: `firewall explain` and a document's tests answer for a flow.
"""

from __future__ import annotations

import dataclasses

from cnsmo.services.firewall.desired import Action, Direction, FirewallDesired, Kind
from cnsmo.services.firewall.spec import Failsafe, FirewallSpec, Rule


@dataclasses.dataclass(frozen=True)
class Told:
    """A host's firewall in words. ``rules``: what is accepted or not, and whose rules say so."""

    rules: dict[tuple[str, Action], str]
    defaults: dict[Direction, Action]


def told(asked: list[tuple[str, FirewallSpec]], desired: FirewallDesired) -> Told:
    """The rules of these instances that make lines in the firewall of a host."""
    lines = {
        line.rule
        for part in desired.parts
        if part.kind is Kind.ENFORCE
        for found in part.realms.values()
        for line in found
    }
    rules: dict[tuple[str, Action], str] = {}
    for name, spec in asked:
        for direction in Direction:
            for label, rule in spec.labelled(name, direction):
                if label in lines:
                    rules.setdefault((_words(direction, rule), rule.action), label)
        for opening in spec.failsafe:
            words = f"{_what(opening)} from {_who(opening.source)}, always"
            rules.setdefault((words, Action.ACCEPT), f"{name}/failsafe")
    defaults = {
        part.direction: part.default
        for part in desired.parts
        if part.kind is Kind.ENFORCE and part.default is not None
    }
    return Told(rules, defaults)


def changed_flows(before: Told | None, after: Told | None) -> list[str]:
    """One line for each difference."""
    if before is None and after is None:
        return []
    if after is None:
        return ["the firewall goes: all flows open"]
    lines = []
    if before is None:
        lines.append("gets a firewall")
        before = Told({}, {})
    gone = before.rules.keys() - after.rules.keys()
    new = after.rules.keys() - before.rules.keys()
    for words, action in sorted(new):
        opens = action is Action.ACCEPT
        rule = after.rules[words, action]
        lines.append(f"{'opens' if opens else 'closes'} {words} ({rule}: {action})")
    for words, action in sorted(gone):
        opens = action is not Action.ACCEPT
        rule = before.rules[words, action]
        lines.append(f"{'opens' if opens else 'closes'} {words} ({rule} goes: {action})")
    for direction in Direction:
        old = before.defaults.get(direction, Action.ACCEPT)
        now = after.defaults.get(direction, Action.ACCEPT)
        if old is not now:
            way = "opens" if now is Action.ACCEPT else "closes"
            lines.append(f"{way} everything else {direction} (default: {old} -> {now})")
    return lines


def _words(direction: Direction, rule: Rule) -> str:
    theirs = rule.source if direction is Direction.INBOUND else rule.target
    mine = rule.target if direction is Direction.INBOUND else rule.source
    way = "from" if direction is Direction.INBOUND else "to"
    words = f"{_what(rule)} {way} {_who(theirs)}"
    if any("/" in term for term in mine):
        words += f" at {_who(mine)}"
    if rule.via is not None:
        words += f" via {rule.via.removeprefix('vpn:')}"
    return words if rule.limit is None else f"{words} up to {rule.limit}"


def _what(flow: Rule | Failsafe) -> str:
    names = list(map(str, flow.ports)) or (list(flow.icmp) if isinstance(flow, Rule) else [])
    protocol = "everything" if flow.protocol == "any" else flow.protocol
    return f"{protocol}/{','.join(names)}" if names else protocol


def _who(terms: tuple[str, ...]) -> str:
    return ", ".join(terms)
