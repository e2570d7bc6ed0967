# SPDX-License-Identifier: Apache-2.0
"""The report that tells the core of an outcome: state and reason always arrive."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from oslo_log import log
from pydantic_core import to_jsonable_python

from cnsmo.agent.failures import in_words
from cnsmo.agent.reconcile import Outcome
from cnsmo.model.messages import LEFT_OUT, MAX_OBSERVATION, MAX_REASON, AgentReport

LOG = log.getLogger(__name__)
ROOM = 10_000
"""Characters of an observation for what is said of what was left out, escapes included."""


def report_of(service: str, outcome: Outcome, revision: int) -> AgentReport:
    """The report of an outcome, as large as the core takes it at most."""
    return AgentReport(
        service=service,
        state=outcome.state,
        reason=outcome.reason[:MAX_REASON],
        applied_revision=revision,
        observation=_bounded(service, outcome.observation),
    )


def _bounded(service: str, observation: Mapping[str, Any]) -> dict[str, Any]:
    """What was seen of each unit; the largest are left out where all is too large, and named."""
    kept: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for unit, detail in observation.items():
        try:
            kept[unit] = to_jsonable_python(detail)
            sizes[unit] = len(json.dumps({unit: kept[unit]}))
        except Exception as exc:  # of a driver, which tells what cannot be sent
            LOG.exception("%s %s: the observation", service, unit)
            kept.pop(unit, None)
            left_out[unit] = in_words(exc)
    while sum(sizes.values()) > MAX_OBSERVATION - ROOM:
        unit = max(sizes, key=lambda name: sizes[name])
        left_out[unit] = f"{sizes.pop(unit):,} characters are more than a report holds"
        del kept[unit]
    if left_out:
        said = "; ".join(f"{unit}: {why}" for unit, why in left_out.items())
        kept[LEFT_OUT] = said[:MAX_REASON]
    return kept
