# SPDX-License-Identifier: Apache-2.0
"""What firewall agents found in their kernels, beside what is desired there; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cnsmo.manage import hosts
from cnsmo.model.observation import LEFT_OUT
from cnsmo.services.firewall.desired import DEFAULT, SPOOFED, Action, FirewallDesired, Kind
from cnsmo.services.firewall.drivers.nft_text import ident
from cnsmo.services.firewall.service import UNIT
from cnsmo.services.kit.nft_values import elements

if TYPE_CHECKING:
    from cnsmo.model.messages import AgentStatus, HostStatus

SERVICE = "firewall"
SILENT = "noop"
"""The driver that keeps no rules, and so cannot tell of any."""
_Key = tuple[str, str, str, str, str]


@dataclasses.dataclass(frozen=True)
class Counted:
    """A rule in the kernel, with what it counted. ``default``: what stands for no rule at all.

    ``realm``: "" on the underlay. ``action``: None where no such rule is desired (any more).
    """

    part: str
    direction: str
    realm: str
    rule: str
    action: Action | None
    default: bool
    packets: int
    bytes: int


def agent_of(host: HostStatus) -> AgentStatus | None:
    """The host's firewall agent."""
    return hosts.agent_of(host, SERVICE)


def seen(agent: AgentStatus | None) -> dict[str, Any] | None:
    """What it told of its firewall; None: nothing."""
    return hosts.seen(agent, UNIT)


def counted(found: Mapping[str, Any], desired: FirewallDesired | None) -> list[Counted]:
    """The rules in the kernel, in their order; defaults, too."""
    actions = _actions(desired)
    return [_counted(entry, actions) for entry in found.get("rules") or ()]


def dropped(rules: list[Counted]) -> int:
    """Packets that the enforced defaults dropped or rejected."""
    return sum(
        each.packets
        for each in rules
        if each.default and each.part == Kind.ENFORCE and each.action is not Action.ACCEPT
    )


def differences(desired: FirewallDesired | None, found: Mapping[str, Any] | None) -> list[str]:
    """What the kernel has otherwise than desired, one line each."""
    if desired is None:
        return ["the firewall is still there, though no policy holds here"] if found else []
    if found is None:
        return ["nothing is known of a firewall in the kernel"]
    if why := found.get(LEFT_OUT):
        return [f"what the kernel holds was not kept: {why}"]
    if refused := found.get("refused"):
        return [f"another ruleset is in force: {refused}"]
    if desired.driver == SILENT:
        return []
    if not found.get("rules") and not found.get("sets"):
        return ["the table is missing"]
    return [*_rules(desired, found), *_sets(desired, found.get("sets") or {})]


def _counted(entry: Mapping[str, Any], actions: Mapping[_Key, tuple[Action, bool]]) -> Counted:
    key = _key(entry)
    rule = key[-1]
    spoofed = rule == SPOOFED
    action, default = actions.get(key, (Action.DROP if spoofed else None, spoofed))
    return Counted(
        key[0],
        "inbound" if spoofed else key[2],
        key[3],
        rule,
        action,
        default,
        int(entry.get("packets") or 0),
        int(entry.get("bytes") or 0),
    )


def _key(entry: Mapping[str, Any]) -> _Key:
    part, instance, direction, realm, rule = (
        str(entry.get(key) or "") for key in ("part", "instance", "direction", "realm", "rule")
    )
    return part, instance, direction, realm, rule


def _actions(desired: FirewallDesired | None) -> dict[_Key, tuple[Action, bool]]:
    """What each rule shall do, in the order of the kernel; and whether it is a default."""
    found: dict[_Key, tuple[Action, bool]] = {}
    for part in desired.parts if desired else ():
        for realm, lines in part.realms.items():
            where = (str(part.kind), part.instance, str(part.direction), realm)
            for line in lines:
                found.setdefault((*where, ident(line.rule)), (line.action, False))
            if part.default is not None:
                owner = f"{part.instance}/" if part.instance else ""
                name = ident(f"{owner}{part.direction}/{DEFAULT}")
                found.setdefault((*where, name), (part.default, True))
    return found


def _rules(desired: FirewallDesired, found: Mapping[str, Any]) -> list[str]:
    wanted = dict.fromkeys(_actions(desired))
    there = dict.fromkeys(_key(entry) for entry in found.get("rules") or ())
    lacking = [f"{_called(key)} is missing" for key in wanted if key not in there]
    much = [key for key in there if key not in wanted and key[-1] != SPOOFED]
    return [*lacking, *(f"{_called(key)} is there, and not desired" for key in much)]


def _called(key: _Key) -> str:
    _part, _instance, direction, realm, rule = key
    return f"rule {rule} ({direction}, {realm or 'underlay'})" if direction else f"rule {rule}"


def _sets(desired: FirewallDesired, found: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, items in desired.sets.items():
        wanted = elements(items, int(name[-1]))
        if name not in found:
            lines.append(f"set {name} is missing")
            continue
        told, count = found[name].get("elements") or (), found[name].get("count", 0)
        lines += [f"set {name} has {item}, which is no member" for item in told
                  if item not in set(wanted)]  # fmt: skip
        if count == len(told):
            lines += [f"set {name} lacks {item}" for item in wanted if item not in set(told)]
        elif count != len(wanted):
            lines.append(f"set {name} has {count} members, {len(wanted)} are desired")
    return lines
