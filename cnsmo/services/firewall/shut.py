# SPDX-License-Identifier: Apache-2.0
"""The firewall of a host in quarantine; pure.

It keeps what no policy can close: the fail-safe ports of its own policies (or SSH), what a network
needs to work at all, and the agent's way to the core. Flows that began earlier are ended.
"""

from __future__ import annotations

from collections.abc import Mapping

from cnsmo.model.host import Host
from cnsmo.services.firewall.compile import Asked, concerned
from cnsmo.services.firewall.desired import Action
from cnsmo.services.firewall.spec import Defaults, FirewallSpec, Mode

NAME = "quarantine"
"""Of the instance of a host for which none is declared."""
SHUT = {
    "inbound": (),
    "outbound": (),
    "default": Defaults(inbound=Action.DROP, outbound=Action.DROP),
    "mode": Mode.ENFORCE,
    "cut": True,
}


def in_force(specs: Mapping[str, FirewallSpec], host: Host) -> Asked:
    """The instances that hold for a host; for one in quarantine without any rule."""
    asked = concerned(specs, host)
    if not host.quarantined:
        return asked
    asked = asked or [(NAME, FirewallSpec())]
    return [(name, spec.model_copy(update=SHUT)) for name, spec in asked]
