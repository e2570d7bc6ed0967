# SPDX-License-Identifier: Apache-2.0
"""Binds ports where no agent of Neutron's runs; wiring.py does what an agent would do."""

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api


class LabMechanism(api.MechanismDriver):
    """Every port of every host is bound at once: a TAP device that Nova makes."""

    def initialize(self) -> None:
        """Nothing is needed."""

    @property
    def connectivity(self) -> str:
        """Frames pass between the ports of a network."""
        return str(portbindings.CONNECTIVITY_L2)

    def bind_port(self, context: api.PortContext) -> None:
        """Bind it to its first segment."""
        segment = context.segments_to_bind[0]
        context.set_binding(
            segment[api.ID],
            portbindings.VIF_TYPE_TAP,
            {portbindings.CAP_PORT_FILTER: False},
            status=constants.PORT_STATUS_ACTIVE,
        )
