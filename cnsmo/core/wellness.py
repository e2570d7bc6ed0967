# SPDX-License-Identifier: Apache-2.0
"""Whether a core does its work: what ``/healthz`` of a core looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent import futures

import sqlalchemy as sa
from oslo_config import cfg

from cnsmo.bus import transport
from cnsmo.bus.knock import knock
from cnsmo.model.errors import CnsmoError
from cnsmo.state.engine import transaction
from cnsmo.telemetry.health import Check, Health, Level
from cnsmo.telemetry.probe import Probe

PATIENCE = 3.0
"""Seconds for each look; less than any monitor's time-out."""


class Wellness:
    """Looks when it is asked; at everything at the same time."""

    def __init__(
        self, conf: cfg.ConfigOpts, engine: sa.Engine, running: Mapping[str, Callable[[], str]]
    ) -> None:
        """running: parts of this process, and what is wrong with each; "": it does its work."""
        self._running = running

        def database() -> None:
            with transaction(engine) as connection:
                connection.execute(sa.select(1))

        def broker() -> None:
            if not transport.is_in_process(conf):
                knock(conf, PATIENCE)

        self._probes = {"database": Probe(database, PATIENCE), "broker": Probe(broker, PATIENCE)}

    def health(self) -> Health:
        """Without the database or the broker a core does nothing that anybody could want."""
        with futures.ThreadPoolExecutor(len(self._probes)) as pool:
            outside = list(pool.map(_look, self._probes, self._probes.values()))
        inside = [
            Check(name, Level.FAILING, wrong) if (wrong := look()) else Check(name)
            for name, look in self._running.items()
        ]
        return Health.of([*outside, *inside])


def _look(name: str, probe: Probe[None]) -> Check:
    try:
        probe.read()
    except TimeoutError:
        return Check(name, Level.FAILING, f"does not answer within {PATIENCE:g} s")
    except CnsmoError as exc:
        return Check(name, Level.FAILING, str(exc))
    except Exception as exc:  # noqa: BLE001  # of a library; its text may hold a password
        return Check(name, Level.FAILING, f"{type(exc).__name__}, see the log")
    return Check(name)
