# SPDX-License-Identifier: Apache-2.0
"""The last connections of servers that leave: waited for, then ended; then the server is gone.

A worker of an earlier configuration takes no orders about servers any more, but it does end single
sessions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from oslo_log import log

from cnsmo.services.loadbalancer.drivers.hap_leaving import Leaver
from cnsmo.services.loadbalancer.drivers.hap_plan import DELETED, Key, removal
from cnsmo.services.loadbalancer.drivers.hap_process import HapProcess
from cnsmo.services.loadbalancer.drivers.hap_report import Report
from cnsmo.services.loadbalancer.drivers.hap_socket import HapSocket
from cnsmo.services.loadbalancer.drivers.hap_stat import Workers, read_sessions

LOG = log.getLogger(__name__)


def part(
    leavers: Mapping[Key, Leaver],
    report: Report,
    pools: Collection[str],
    process: HapProcess,
    workers: Workers,
) -> list[Leaver]:
    """Take away those that have no connection any more, or no time left.

    pools: those that there still are. What is said of it is the log's business: this was decided
    when they left.

    :return: those that are still on their way.
    """
    sessions = report.sessions
    due = [it for key, it in leavers.items() if not sessions[key] or it.over]
    _end(_overdue(due, sessions), process, workers)
    commands: dict[str, Leaver] = {}
    orders: list[str] = []
    for leaver in due:
        server = leaver.server
        if server.pool in pools and server.key in report.servers:
            orders += removal(server, overdue=leaver.over)
            commands[orders[-1]] = leaver
    refused = _refused(process.worker, orders, commands)
    gone = [it for it in due if it.server.key not in refused]
    for leaver in gone:
        LOG.info("%s is gone", leaver.server.title)
    return [it for it in leavers.values() if it not in gone]


def _refused(worker: HapSocket, orders: Iterable[str], commands: Mapping[str, Leaver]) -> set[Key]:
    """Those that cannot be deleted yet."""
    found = set()
    for command, answer in worker.tell(orders):
        if command in commands and answer != DELETED and not answer.startswith("No such server"):
            LOG.info("%s: %s", command, answer)
            found.add(commands[command].server.key)
    return found


def _overdue(due: Iterable[Leaver], sessions: Mapping[Key, int]) -> set[Key]:
    return {it.server.key for it in due if sessions[it.server.key]}


def _end(overdue: Collection[Key], process: HapProcess, workers: Workers) -> None:
    """End the sessions that earlier workers have with servers whose time is over."""
    for pid in workers.old if overdue else ():
        for ident, key in read_sessions(process.ask_old(pid, "show sess")):
            if key in overdue:
                process.ask_old(pid, f"shutdown session {ident}")
