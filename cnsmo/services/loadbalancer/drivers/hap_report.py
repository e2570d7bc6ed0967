# SPDX-License-Identifier: Apache-2.0
"""What an operator is shown of a load balancer on one of its carriers; pure."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnsmo.services.kit import boot
from cnsmo.services.loadbalancer.desired import Bind, LoadBalancerDesired, Mode
from cnsmo.services.loadbalancer.drivers.falls import Place
from cnsmo.services.loadbalancer.drivers.hap_front import FRONT, REDIRECT
from cnsmo.services.loadbalancer.drivers.hap_leaving import Leaver
from cnsmo.services.loadbalancer.drivers.hap_plan import Key
from cnsmo.services.loadbalancer.drivers.hap_render import Config
from cnsmo.services.loadbalancer.drivers.hap_server import HapServer
from cnsmo.services.loadbalancer.drivers.hap_stat import Row

FRONTEND_ROW, SERVER_ROW = 0, 2
FRESH = ("", "INI", "* INI")
"""Results of the checks of a server that has not been checked yet."""
COMING = "NOLB"
"""Of a server that is down until its first good check; a check that failed is counted behind it."""
STATES = {"DOWN": "down", COMING: "down", "UP": "up", "no check": "unchecked"}
"""What we say of a server, by how what HAProxy says of it begins."""
_COUNT = re.compile(r"^(Ulimit-n|Maxsock|Maxconn): (\d+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Report:
    """``rows``: of the worker that takes new connections; ``old``: of all the others. ``info``:
    what the worker says of itself."""

    rows: Sequence[Row]
    old: Sequence[Row]
    info: str
    leavers: Mapping[Key, Leaver]

    @property
    def servers(self) -> dict[Key, Row]:
        """The servers' rows."""
        return {(row.pool, row.name): row for row in self.rows if row.kind == SERVER_ROW}

    @property
    def sessions(self) -> Counter[Key]:
        """Connections that each server has, by whatever process."""
        counted: Counter[Key] = Counter()
        for row in (*self.rows, *self.old):
            if row.kind == SERVER_ROW:
                counted[row.pool, row.name] += row.number("scur")
        return counted


def detail(desired: LoadBalancerDesired, config: Config, report: Report) -> dict[str, Any]:
    """Servers and frontends as JSON; sessions, total and rate (a second) are requests or, in mode
    tcp, connections."""
    rows, sessions = report.servers, report.sessions
    servers: dict[str, dict[str, Any]] = {pool.name: {} for pool in desired.pools}
    for server in config.servers.values():
        if row := rows.get(server.key):
            servers[server.pool][_free(servers[server.pool], server)] = {
                "state": _state(server, row),
                "why": _why(row),
                **_counts(row, sessions[server.key]),
            }
    gone = {(row.pool, row.name): row for row in report.old if row.kind == SERVER_ROW}
    for key, leaver in report.leavers.items():
        if row := rows.get(key, gone.get(key)):
            theirs = servers.setdefault(leaver.server.pool, {})
            theirs[_free(theirs, leaver.server)] = {
                "state": "leaving",
                "why": leaver.leave.told(boot.now(), "its connections are ended"),
                **_counts(row, sessions[key]),
            }
    return {"servers": servers, "frontends": _frontends(desired, report)}


def problems(desired: LoadBalancerDesired, config: Config, report: Report) -> list[str]:
    """What is in force and does not work."""
    found = [*_silent_pools(config, report)]
    counts = {name: int(number) for name, number in _COUNT.findall(report.info)}
    missing = counts.get("Maxsock", 0) - counts.get("Ulimit-n", 0)
    if desired.max_connections and missing > 0:
        room = max(0, desired.max_connections - (missing + 1) // 2)
        found.append(
            f"max_connections: {desired.max_connections} needs {counts['Maxsock']} open files, of "
            f"which this host allows {counts['Ulimit-n']}: about {room} connections have room"
        )
    return found


def unsettled(config: Config, report: Report) -> bool:
    """Whether there are servers that nobody knows yet whether they are well."""
    rows = report.servers
    return any(_fresh(server, rows.get(server.key)) for server in config.servers.values())


def falls(config: Config, report: Report) -> dict[str, tuple[Place, int]]:
    """How often checks took each server out, as the worker counts it."""
    rows = report.servers
    return {
        server.path: ((server.pool, server.address, server.port), rows[key].number("chkdown"))
        for key, server in config.servers.items()
        if key in rows
    }


def _silent_pools(config: Config, report: Report) -> Iterator[str]:
    rows = report.servers
    for backend in config.backends:
        states = [_state(it, rows[it.key]) for it in backend.servers if it.key in rows]
        if not backend.servers:
            yield f"the pool {backend.name} has no server"
        elif not {"up", "unchecked"} & set(states) and not any(
            _fresh(it, rows.get(it.key)) for it in backend.servers
        ):
            yield f"no server of the pool {backend.name} is up"


def _fresh(server: HapServer, row: Row | None) -> bool:
    if row is None or server.stopped or not server.checked:
        return False
    status, check = row.text("status"), row.text("check_status")
    rising = status.startswith("DOWN") and (check in FRESH or "/" in status)
    return rising or status == COMING


def _state(server: HapServer, row: Row) -> str:
    status = row.text("status")
    if server.stopped or not status:
        return "drain"
    for beginning, state in STATES.items():
        if status.startswith(beginning):
            return state if server.weight or state == "down" else "drain"
    return "drain"  # by hand, until apply() comes by


def _why(row: Row) -> str:
    """What the last check found, with HTTP's status where there is one."""
    code = row.text("check_code") if row.number("check_code") else ""
    said = (row.text("check_desc"), " ".join(filter(None, [code, row.text("last_chk")])))
    return ": ".join(filter(None, said))


def _counts(row: Row, sessions: int) -> dict[str, int]:
    return {
        "weight": row.number("weight"),
        "sessions": sessions,
        "total": row.number("stot"),
        "rate": row.number("rate"),
        "errors": row.number("econ") + row.number("eresp"),
    }


def _free(taken: Mapping[str, Any], server: HapServer) -> str:
    """A server is called by its host's name; where that is taken, by its full one."""
    return server.name if server.host in taken else server.host


def _frontends(desired: LoadBalancerDesired, report: Report) -> dict[str, dict[str, Any]]:
    rows = {row.pool: row for row in report.rows if row.kind == FRONTEND_ROW}
    redirects = desired.tls.redirects if desired.tls else ()
    places = [(f"{FRONT}-{index}", bind) for index, bind in enumerate(desired.binds)]
    places += [(f"{REDIRECT}-{index}", bind) for index, bind in enumerate(redirects)]
    total, rate = ("req_tot", "req_rate") if desired.mode == Mode.HTTP else ("stot", "rate")
    return {
        place(bind): {
            "state": rows[name].text("status").lower(),
            "sessions": rows[name].number("scur"),
            "total": rows[name].number(total),
            "rate": rows[name].number(rate),
            "errors": rows[name].number("ereq"),
        }
        for name, bind in places
        if name in rows
    }


def place(bind: Bind) -> str:
    """Where it listens, as operators write it."""
    host = f"[{bind.address}]" if ":" in bind.address else bind.address or "*"
    return f"{host}:{bind.port}"
