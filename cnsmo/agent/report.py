# SPDX-License-Identifier: Apache-2.0
"""The report that tells the core of an outcome: state and reason always arrive."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from oslo_log import log
from pydantic_core import to_jsonable_python

from cnsmo.agent.failures import in_words
from cnsmo.agent.reconcile import Outcome
from cnsmo.model.messages import MAX_REASON, AgentReport
from cnsmo.model.observation import LEFT_OUT, bounded

LOG = log.getLogger(__name__)


def report_of(
    service: str, outcome: Outcome, revision: int, made_at: datetime.datetime | None = None
) -> AgentReport:
    """The report of an outcome, as large as the core takes it at most.

    made_at: what time it is by the cores' clock.
    """
    return AgentReport(
        service=service,
        state=outcome.state,
        reason=outcome.reason[:MAX_REASON],
        applied_revision=revision,
        observation=_told(service, outcome.observation),
        made_at=made_at,
    )


def _told(service: str, observation: Mapping[str, Any]) -> dict[str, Any]:
    """What was seen of each unit, as far as it can be told."""
    kept: dict[str, Any] = {}
    for unit, detail in observation.items():
        try:
            kept[unit] = to_jsonable_python(detail)
        except Exception as exc:  # of a driver, which tells what cannot be sent
            LOG.exception("%s %s: the observation", service, unit)
            kept[unit] = {LEFT_OUT: in_words(exc)}
    return bounded(kept) or {}
