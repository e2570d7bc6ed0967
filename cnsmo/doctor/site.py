# SPDX-License-Identifier: Apache-2.0
"""What the doctor looks at where a core runs: its configuration, database, broker, other cores.

Each is asked for once; what does not answer fails at once from then on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Generic, TypeVar

import sqlalchemy as sa
from oslo_config import cfg

from cnsmo.bus import broker, rollcall
from cnsmo.bus.broker import Broker
from cnsmo.bus.clients import OperatorClient
from cnsmo.bus.rollcall import Answer
from cnsmo.model.errors import CnsmoError, Unavailable
from cnsmo.state.engine import transaction
from cnsmo.state.vault import Vault, vault_of
from cnsmo.telemetry.probe import Probe

T = TypeVar("T")
PATIENCE = 5.0
"""Seconds for the database's first answer."""


class Site:
    """Where a core runs."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        engine: Callable[[], sa.Engine],
        client: Callable[[], OperatorClient],
    ) -> None:
        """engine: raises where a database that is a file is not there; client: asks cores."""
        self.conf = conf
        self._engine = _Once(lambda: _answering(engine()))
        self._client = _Once(client)
        self._present = _Once(self._call_the_roll)

    def engine(self) -> sa.Engine:
        """The database, which answers.

        :raises CnsmoError: when it does not.
        """
        return self._engine()

    def client(self) -> OperatorClient:
        """Asks cores.

        :raises CnsmoError: when there is no way to them.
        """
        return self._client()

    def present(self) -> list[Answer]:
        """The cores that are there.

        :raises CnsmoError: when there is no way to them.
        """
        return self._present()

    @property
    def vault(self) -> Vault:
        """The key of the database's secrets; nothing is read yet."""
        return vault_of(self.conf)

    @functools.cached_property
    def broker(self) -> Broker:
        """Who makes the agents' accounts."""
        return broker.load(self.conf)

    def _call_the_roll(self) -> list[Answer]:
        self.client()  # where the bus lives in this process, this starts the only core
        return rollcall.roll_call(self.conf)


class _Once(Generic[T]):
    """Does something the first time; its outcome stays, an error of ours, too."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: T | None = None
        self._failure: CnsmoError | None = None

    def __call__(self) -> T:
        if self._failure is not None:
            raise self._failure
        if self._made is None:
            try:
                self._made = self._make()
            except CnsmoError as exc:
                self._failure = exc
                raise
        return self._made


def _answering(engine: sa.Engine) -> sa.Engine:
    def ask() -> None:
        with transaction(engine) as connection:
            connection.execute(sa.select(1))

    try:
        Probe(ask, PATIENCE).read()
    except TimeoutError:
        raise Unavailable(f"the database does not answer within {PATIENCE:g} s") from None
    return engine
