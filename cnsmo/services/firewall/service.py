# SPDX-License-Identifier: Apache-2.0
"""The firewall as a service: all instances that hold for a host make one firewall there."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from pydantic import BaseModel

from cnsmo.model.host import Host
from cnsmo.model.messages import Problem
from cnsmo.model.resource import View
from cnsmo.services import networks, registry
from cnsmo.services.base import (
    Desired,
    Mentions,
    NetworkService,
    Unit,
    specs,
    unknown_groups,
)
from cnsmo.services.firewall.always import unseen
from cnsmo.services.firewall.check import check_rules, check_together
from cnsmo.services.firewall.compile import Asked, compile_firewall
from cnsmo.services.firewall.desired import FirewallDesired
from cnsmo.services.firewall.effects import Told, changed_flows, told
from cnsmo.services.firewall.flows import Site, failed_tests
from cnsmo.services.firewall.mentions import mentions
from cnsmo.services.firewall.seen import FirewallSeen
from cnsmo.services.firewall.shut import in_force
from cnsmo.services.firewall.spec import FirewallSpec

UNIT = "host"
"""There is one firewall on a host, whatever number of instances it is made from."""


class FirewallService(NetworkService):
    """One policy, enforced in every VM."""

    name = "firewall"
    Spec = FirewallSpec
    Detail = FirewallSeen

    def check(self, view: View) -> list[Problem]:
        declared: dict[str, FirewallSpec] = specs(self, view)
        problems = check_together(view, declared)
        for name, spec in declared.items():
            problems += unknown_groups(view, f"firewall.{name}.hosts", spec.hosts)
            problems += check_rules(view, name, spec, networks.names(view))
            if _provided(spec):
                driver = registry.provider_class(self.name, spec.driver)
                problems += driver.refused(f"firewall.{name}", spec)
        if any(not problem.absent for problem in problems):
            return problems
        return problems + failed_tests(declared, self.site(view))

    def concerns(self, instance: str, spec: BaseModel, host: Host) -> bool:
        return isinstance(spec, FirewallSpec) and host.within(spec.hosts)

    def mentions(self, spec: BaseModel) -> Mentions:
        if not isinstance(spec, FirewallSpec):
            return Mentions()
        return mentions(spec)

    def units(self, view: View, host: str) -> list[Unit]:
        asked = self._asked(view, host, here=True)
        return [Unit(name=UNIT, driver=asked[0][1].driver)] if asked else []

    def compile(self, view: View, host: str) -> Mapping[str, Desired]:
        desired = self.firewall(view, host, here=True)
        return {} if desired is None else {UNIT: desired}

    def firewall(self, view: View, host: str, here: bool = False) -> FirewallDesired | None:
        """The firewall of one host; None where no instance holds for it.

        here: only what its agent realises.
        """
        asked = self._asked(view, host, here)
        if not asked:
            return None
        segments = networks.segments(view, host).values()
        found = compile_firewall(view, asked, host, segments, networks.listeners(view, host))
        return unseen(found) if _provided(asked[0][1]) else found

    def effects(self, before: View, after: View, host: str) -> list[str]:
        return changed_flows(self._told(before, host), self._told(after, host))

    def _told(self, view: View, host: str) -> Told | None:
        desired = self.firewall(view, host)
        return None if desired is None else told(self._asked(view, host), desired)

    def _asked(self, view: View, host: str, here: bool = False) -> Asked:
        me = view.everybody.get(host)
        if me is None:
            return []
        declared: dict[str, FirewallSpec] = specs(self, view)
        if here:
            declared = {name: spec for name, spec in declared.items() if not _provided(spec)}
        return in_force(declared, me)

    def site(self, view: View) -> Site:
        """All firewalls of the deployment, to ask them about flows."""
        return Site(
            view,
            functools.partial(self.firewall, view),
            functools.partial(networks.segments, view),
        )


def _provided(spec: FirewallSpec) -> bool:
    """Whether cores keep it in the cloud."""
    return registry.is_provided(FirewallService.name, spec.driver)
