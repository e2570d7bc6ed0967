# SPDX-License-Identifier: Apache-2.0
"""Runs a program as the release before was: ``before.py core|agent ARGUMENTS``.

Its endpoints and clients speak the interface between agents and cores in version 1.1, and know
nothing of what came later; its database is the one that it was made for, or a later one to which
that release may be left.
"""

import sys
from typing import Any

import cnsmo.cmd  # isort: skip  # noqa: F401  chooses the threading backend

import oslo_messaging

from cnsmo.bus.clients import CoreClient
from cnsmo.core import endpoints, server
from cnsmo.model import messages as msg
from cnsmo.model.errors import InvalidRequest

VERSION = "1.1"


class AgentEndpoints(endpoints.AgentEndpoints):
    """Refuses what it does not know, as strict readers do."""

    target = oslo_messaging.Target(version=VERSION)

    def __init__(self, core: Any) -> None:
        super().__init__(core)
        self._membership = _Strict(self._membership)


class _Strict:
    """What agents ask, as the release before understood it."""

    def __init__(self, ours: Any) -> None:
        self._ours = ours

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ours, name)

    def heartbeat(self, who: Any, beat: msg.Heartbeat) -> msg.HeartbeatAnswer:
        """Without the time, in both directions."""
        _refuse(beat)
        answer = self._ours.heartbeat(who, beat)
        return msg.HeartbeatAnswer(**answer.model_dump(exclude={"now"}))

    def report(self, who: Any, report: msg.AgentReport) -> None:
        """Without the time."""
        _refuse(report)
        self._ours.report(who, report)


def _refuse(payload: msg.Heartbeat | msg.AgentReport) -> None:
    if "made_at" in payload.model_fields_set:
        raise InvalidRequest("made_at: extra inputs are not permitted")


def main() -> int:
    """Entry point."""
    what = sys.argv.pop(1)
    if what == "core":
        server.AgentEndpoints = AgentEndpoints
        from cnsmo.cmd import core

        return core.main()
    # It names its version in every call, and has no key that came later.
    CoreClient.VERSION = VERSION
    CoreClient.SINCE = dict.fromkeys(dir(CoreClient), VERSION)
    from cnsmo.cmd import agent

    return agent.main()


if __name__ == "__main__":
    sys.exit(main())
