# SPDX-License-Identifier: Apache-2.0
"""The state that a process hands over to the next one: who is down, and who is new (HAProxy's
manual, 3.1); pure.

Without it every server would be taken for well until its first checks have failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cnsmo.services.loadbalancer.drivers.hap_plan import Key
from cnsmo.services.loadbalancer.drivers.hap_server import HapServer
from cnsmo.services.loadbalancer.drivers.hap_stat import STOPPED, STOPPING, Seen

COLUMNS = (
    "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state "
    "srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl "
    "srv_check_port srv_check_addr srv_agent_addr srv_agent_port"
)
NOBODY = f"1\n# {COLUMNS}\n"
"""The first process takes everybody for well: nobody else is there to serve meanwhile."""


def handed_over(servers: Iterable[HapServer], seen: Mapping[Key, Seen]) -> str:
    """The file that the next process reads. (Where ``fall`` is 1, HAProxy takes who is new for
    down.)"""
    return NOBODY + "".join(
        _down(server, known)
        for server in servers
        if server.checked and not server.stopped
        if (known := seen.get(server.key)) is None or known.down
    )


def _down(server: HapServer, known: Seen | None) -> str:
    ident, weight = server.ident, server.weight
    state = STOPPING if known is None or known.coming else STOPPED
    since = known.since if known else 0
    return (
        f"0 {server.pool} {ident} {server.name} {server.address} {state} 0 {weight} {weight} "
        f"{since} 1 0 0 6 0 0 {int(bool(ident))} - {server.port} - 0 0 - - 0\n"
    )
