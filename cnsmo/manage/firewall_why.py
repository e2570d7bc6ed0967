# SPDX-License-Identifier: Apache-2.0
"""Why a firewall's verdict is as it is: the operator's own words for a rule, ours for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsmo.manage.cells import one_line
from cnsmo.model.reading import read
from cnsmo.services.firewall.desired import DEFAULT, SPOOFED, Action, Direction
from cnsmo.services.firewall.shut import in_force
from cnsmo.services.firewall.spec import FirewallSpec, Mode
from cnsmo.services.firewall.terms import port_ranges

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cnsmo.model.resource import View
    from cnsmo.services.firewall.flows import Flow, Judged

_NEEDED = {
    SPOOFED: "a VPN's addresses are believed on that VPN only, never elsewhere",
    "always/neighbour-discovery": "without it there is no IPv6; no rule can close it",
    "always/path-mtu": "errors that connections depend on; no rule can close it",
    "always/dhcp": "how the host gets its address; no rule can close it",
    "no instance is enforced": "all policies that hold for the host are audits",
}


class Reasons:
    """Reasons of verdicts in one deployment."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._specs = {row.name: read(FirewallSpec, row.body) for row in view.rows("firewall")}
        self._declared: dict[str, str] = {}

    def why(self, judged: Judged) -> str:
        """The reason of a verdict, in a line."""
        rule, host = judged.verdict.rule, judged.at
        if not host:
            return f"no policy holds for {_ends(judged)}"
        if rule == "always/failsafe":
            return f"a fail-safe port: {self._failsafe(host, judged.flow)}"
        if rule in _NEEDED:
            return _NEEDED[rule]
        if rule.startswith("always/") and rule.count("/") == 1:
            daemons = rule.removeprefix("always/").replace("-", " ", 1)
            return f"what the daemons of {daemons} need; no rule can close it"
        return self.declared(rule) or self._default(rule, host, judged.direction)

    def audit(self, rule: str) -> str:
        """The words for a rule of an instance on trial, which would not let the flow pass."""
        return self.declared(rule) or "no rule of it matches, and its default is not to accept"

    def declared(self, rule: str) -> str:
        """A rule as its operator wrote it, in YAML; "" where the words name none."""
        if rule not in self._declared:
            self._declared[rule] = self._find(rule)
        return self._declared[rule]

    def _find(self, rule: str) -> str:
        instance = rule.partition("/")[0]
        spec = self._specs.get(instance)
        if spec is None:
            return ""
        declared = (
            written(found)
            for direction in Direction
            for label, found in spec.labelled(instance, direction)
            if label == rule
        )
        return next(declared, "")

    def _enforced(self, host: str) -> list[tuple[str, FirewallSpec]]:
        asked = in_force(self._specs, self._view.everybody[host])
        return [(name, spec) for name, spec in asked if spec.mode is Mode.ENFORCE]

    def _failsafe(self, host: str, flow: Flow) -> str:
        """The openings that it may have come through."""
        return ", ".join(
            f"{name} has failsafe {written(opening)}"
            for name, spec in self._enforced(host)
            for opening in spec.failsafe
            if opening.number == flow.protocol
            if any(first <= (flow.port or 0) <= last for first, last in port_ranges(opening.ports))
        )

    def _default(self, rule: str, host: str, direction: Direction) -> str:
        """Of several instances the strictest default holds: whose that is."""
        defaults = {name: spec.default.of(direction) for name, spec in self._enforced(host)}
        if DEFAULT not in rule or not defaults:
            return rule
        strictest = Action.strictest(defaults.values())
        names = [name for name, action in defaults.items() if action is strictest]
        return f"no rule matches; {', '.join(names)} has default {{{direction}: {strictest}}}"


def written(model: BaseModel) -> str:
    """A part of a spec in one line of YAML, without what equals a default."""
    data = model.model_dump(mode="json", exclude_defaults=True)
    first = sorted(data, key=lambda key: key not in ("from", "to"))
    return one_line({key: data[key] for key in first})


def _ends(judged: Judged) -> str:
    hosts = [side.host for side in (judged.source, judged.target) if side.host]
    return " or ".join(hosts) or "an address outside"
