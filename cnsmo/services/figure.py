# SPDX-License-Identifier: Apache-2.0
"""A number of what a driver observed, for those who watch many hosts (Prometheus)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Figure:
    """One number of one unit. What bears one name has one meaning and the same labels.

    ``name``: without the service's, in small letters and underscores, its unit last
    (``idle_seconds``; https://prometheus.io/docs/practices/naming). ``counter``: it only grows
    until what is counted begins anew; the name is without ``_total`` then.
    """

    name: str
    meaning: str
    value: float
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    counter: bool = False
