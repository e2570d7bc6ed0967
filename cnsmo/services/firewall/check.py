# SPDX-License-Identifier: Apache-2.0
"""Mistakes in a policy that show only beside the hosts and the other instances; pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from cnsmo.model.messages import Problem
from cnsmo.model.resource import View
from cnsmo.model.suggest import did_you_mean
from cnsmo.services.firewall.spec import FirewallSpec
from cnsmo.services.firewall.terms import ANY, is_network


def check_rules(
    view: View, name: str, spec: FirewallSpec, networks: Iterable[str]
) -> list[Problem]:
    """Words that mean nobody, or two things."""
    known = Known(view, networks)
    problems = []
    for key, rules in (("inbound", spec.inbound), ("outbound", spec.outbound)):
        for at, rule in enumerate(rules):
            path = f"firewall.{name}.{key}.{at}"
            problems += known.check(f"{path}.from", rule.source)
            problems += known.check(f"{path}.to", rule.target)
            problems += known.check_via(f"{path}.via", rule.via)
    for at, opening in enumerate(spec.failsafe):
        problems += known.check(f"firewall.{name}.failsafe.{at}.from", opening.source)
    for at, test in enumerate(spec.tests):
        path = f"firewall.{name}.tests.{at}"
        problems += known.check(f"{path}.from", (test.source,))
        problems += known.check(f"{path}.to", (test.target,))
        problems += known.check_via(f"{path}.via", test.via)
    return problems


def check_together(view: View, declared: Mapping[str, FirewallSpec]) -> list[Problem]:
    """A host has one firewall, and so one driver."""
    for (one, first), (other, second) in itertools.combinations(sorted(declared.items()), 2):
        shared = [
            host.name
            for host in view.hosts.values()
            if host.within(first.hosts) and host.within(second.hosts)
        ]
        if first.driver != second.driver and shared:
            message = (
                f"the driver {second.driver} on {shared[0]}, where {one} has {first.driver}: "
                "a host has one firewall"
            )
            return [
                Problem(
                    path=f"firewall.{other}.driver",
                    message=message,
                    remedy=f"write driver: {first.driver}",
                )
            ]
    return []


class Known:
    """Who and what there is."""

    def __init__(self, view: View, networks: Iterable[str]) -> None:
        """networks: names of the VPNs."""
        self._groups = view.groups
        self._hosts = frozenset(view.everybody)
        self._vpns = frozenset(networks)

    def check(self, path: str, terms: tuple[str, ...]) -> list[Problem]:
        """A problem for each term that means nobody, or two things."""
        found = (self.problem(path, term) for term in terms)
        return [problem for problem in found if problem is not None]

    def check_via(self, path: str, via: str | None) -> list[Problem]:
        """The same for a network."""
        return self.check(path, (via,)) if via is not None and via.startswith("vpn:") else []

    def problem(self, path: str, term: str) -> Problem | None:
        """What is wrong with a term."""
        if term == ANY or is_network(term):
            return None
        kind, _colon, name = term.rpartition(":")
        if not kind and name in self._groups and name in self._hosts:
            return Problem(
                path=path,
                message=f"{name} is a group and a host",
                remedy=f"write group:{name} or host:{name}",
            )
        things = {"group": self._groups, "host": self._hosts, "vpn": self._vpns}
        there = things.get(kind, self._groups | self._hosts)
        if name in there:
            return None
        message = {
            "group": f"no host is in the group {name!r} and no token grants it",
            "host": f"there is no host {name!r}",
            "vpn": f"no VPN {name!r} is declared",
        }.get(kind, f"{name!r} is neither a group nor a host")
        remedy = did_you_mean(name, there)
        return Problem(path=path, message=message, remedy=remedy, absent=kind != "vpn")
