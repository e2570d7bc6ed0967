# SPDX-License-Identifier: Apache-2.0
"""Whom a policy names; pure."""

from __future__ import annotations

from collections.abc import Iterator

from cnsmo.services.base import Mentions
from cnsmo.services.firewall.spec import FirewallSpec
from cnsmo.services.firewall.terms import ANY, is_network


def mentions(spec: FirewallSpec) -> Mentions:
    """The names in all of a policy's rules, and of the groups that it holds for."""
    found: dict[str, set[str]] = {"host": set(), "group": set(spec.hosts), "": set()}
    for term in _terms(spec):
        kind, _colon, name = term.rpartition(":")
        if kind in found and term != ANY and not is_network(term):
            found[kind].add(name)
    return Mentions(*(frozenset(found[kind]) for kind in ("host", "group", "")))


def _terms(spec: FirewallSpec) -> Iterator[str]:
    for rule in (*spec.inbound, *spec.outbound):
        yield from (*rule.source, *rule.target)
    for opening in spec.failsafe:
        yield from opening.source
    for test in spec.tests:
        yield from (test.source, test.target)
