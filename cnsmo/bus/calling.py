# SPDX-License-Identifier: Apache-2.0
"""How a topic of the core is called, and what of the answer is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import oslo_messaging
from kombu.exceptions import OperationalError
from oslo_config import cfg
from oslo_log import log
from oslo_messaging.exceptions import MessageUndeliverable
from pydantic import BaseModel, ValidationError

from cnsmo.bus import transport
from cnsmo.bus.envelope import opened
from cnsmo.bus.versions import Fields, Versions
from cnsmo.model.errors import CnsmoError, Unavailable, UnknownCall
from cnsmo.model.reading import read

LOG = log.getLogger(__name__)
M = TypeVar("M", bound=BaseModel)
REACH_SECONDS = 5.0
"""How long to wait for a broker that was never there since this process began."""


class Caller:
    """Calls a topic of the core and opens the answers."""

    TOPIC: ClassVar[str]
    VERSION: ClassVar[str]
    SINCE: ClassVar[Mapping[str, str]] = {}
    """The version that brought a call, where it was none of the first."""
    FIELDS: ClassVar[Fields] = {}
    """By call: the version that brought a key of what it says."""

    def __init__(self, conf: cfg.ConfigOpts, context: dict[str, Any], timeout: float) -> None:
        self._conf = conf
        self._timeout = timeout
        cap = conf.bus.upgrade_levels.get(self.TOPIC, "")
        self._versions = Versions(self.VERSION, cap, self.SINCE, self.FIELDS)
        self._patience = min(timeout, REACH_SECONDS)
        self.context = context
        self._use("", transport.EXCHANGE)

    def _use(self, url: str, exchange: str) -> None:
        """Call through this exchange of that broker; url: empty for ``[bus] url``."""
        self._url, self._exchange = url, exchange
        self._rpc = oslo_messaging.get_rpc_client(
            transport.calls(self._conf, url),
            oslo_messaging.Target(topic=self.TOPIC, exchange=exchange),
            timeout=self._timeout,
            retry=transport.RETRIES,
            transport_options=oslo_messaging.TransportOptions(at_least_once=True),
        )

    def _said(self) -> dict[str, Any]:
        """What is said with each call."""
        return self.context

    def _call(self, method: str, **arguments: Any) -> Any:
        transport.reach(self._conf, self._patience, self._url, self._exchange)
        try:
            return self._answer(method, arguments)
        except oslo_messaging.RemoteError as exc:
            raise CnsmoError(
                f"the core could not take the call {method} ({exc.exc_type}): is it of the same "
                "release as this program?"
            ) from exc
        except MessageUndeliverable as exc:
            raise Unavailable(f"no core is there to take {method}: start cnsmo-core") from exc
        except (oslo_messaging.MessagingException, OperationalError) as exc:
            raise Unavailable(
                f"no core answered {method} in time: is cnsmo-core running, and is the broker "
                "reachable ([bus] url)?"
            ) from exc

    def _answer(self, method: str, arguments: Mapping[str, Any]) -> Any:
        while True:
            version, said = self._versions.fit(method, arguments)
            try:
                return opened(self._rpc.prepare(version=version).call(self._said(), method, **said))
            except UnknownCall:
                if not self._versions.refused(version):
                    raise
                LOG.info("%s: a core does not take version %s: an older one it is", method, version)


def as_model(model: type[M], value: Any) -> M:
    """What a core answered, as that model.

    :raises CnsmoError: when it is none.
    """
    try:
        return read(model, value)
    except ValidationError as exc:
        raise CnsmoError(
            f"the core's answer is no {model.__name__}: is it of the same release as this program?"
        ) from exc


def all_as(model: type[M], values: list[Any]) -> list[M]:
    """The same of each of a list."""
    return [as_model(model, value) for value in values]
