# SPDX-License-Identifier: Apache-2.0
"""What a broker's driver does: give each agent an account that can harm nobody else.

Drivers are found by entry point (group ``cnsmo.brokers``) and named by ``[bus] broker``.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable
from typing import ClassVar

from oslo_config import cfg
from stevedore import DriverManager
from stevedore.exception import NoMatches
from stevedore.extension import error_on_conflict

from cnsmo.model.errors import DriverUnavailable
from cnsmo.model.messages import BusFinding

NAMESPACE = "cnsmo.brokers"


@dataclasses.dataclass(frozen=True)
class Roster:
    """Ids of the hosts that must be at the broker, and of those that may be there still."""

    living: Collection[str]
    leaving: Collection[str] = ()


AskRoster = Callable[[], Roster]
"""Asks who is on the roster at the moment of the call."""


class Broker(abc.ABC):
    """Accounts and the layout of a broker. Every method may be repeated: the second time is idle.

    An error's text says what to do, and never holds a secret.
    """

    has_accounts: ClassVar[bool] = True
    """Whether there is something to revoke and to audit."""
    answering_url: str = ""
    """Where a core answers agents; empty: ``[bus] url``."""
    hinting_url: str = ""
    """Where a core sends hints; empty: ``[bus] url``."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:  # noqa: B027  # a driver may have no need
        """Only reads options and files.

        :raises InvalidRequest: when what the driver needs is not configured.
        """

    def check(self) -> None:  # noqa: B027  # most may start with whatever they could read
        """Refuse settings with which no core shall start.

        :raises InvalidRequest: saying which, and what instead.
        """

    def authorities(self) -> str:
        """Who vouches for the broker, as PEM; empty: agents know whom to believe.

        :raises InvalidRequest: when it cannot be read.
        """
        return ""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make what all agents share.

        :raises Unavailable: when the broker is not reachable.
        :raises CnsmoError: when it refuses.
        """

    @abc.abstractmethod
    def admit(self, ident: str) -> str:
        """Let an agent in.

        :return: the URL by which it uses the bus, with its account; empty: its own ``[bus] url``.
        :raises Unavailable: when the broker is not reachable.
        """

    @abc.abstractmethod
    def revoke(self, ident: str) -> None:
        """Throw an agent out: close its connections, delete all that it had.

        :raises Unavailable: when the broker is not reachable; the audit finds what is left.
        """

    @abc.abstractmethod
    def audit(self, roster: AskRoster) -> list[BusFinding]:
        """Where the broker differs from what it should be.

        roster: is asked after the broker was read, so that a host which joins meanwhile is known.

        :raises Unavailable: when the broker is not reachable.
        """

    @abc.abstractmethod
    def mend(self, findings: Iterable[BusFinding]) -> None:
        """Put right what was found, except what CNSMO did not make.

        :raises Unavailable: when the broker is not reachable.
        """


def load(conf: cfg.ConfigOpts) -> Broker:
    """The driver that ``[bus] broker`` names.

    :raises DriverUnavailable: when none of that name is installed.
    :raises InvalidRequest: when what it needs is not configured.
    """
    return _driver(conf.bus.broker)(conf)


@functools.cache
def _driver(name: str) -> type[Broker]:
    try:
        manager: DriverManager[Broker] = DriverManager(
            NAMESPACE, name, conflict_resolver=error_on_conflict
        )
    except NoMatches as exc:
        raise DriverUnavailable(
            f"[bus] broker: no driver {ascii(name)} is installed; there are 'none' and 'rabbitmq'"
        ) from exc
    driver: type[Broker] = manager.driver  # type: ignore[assignment]
    return driver
