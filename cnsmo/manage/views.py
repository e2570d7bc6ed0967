# SPDX-License-Identifier: Apache-2.0
"""What agents compile from, for commands that compile the same."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from cnsmo.model.resource import View

if TYPE_CHECKING:
    from cnsmo.bus.clients import OperatorClient


def present(client: OperatorClient, deployment: str) -> View:
    """The deployment as agents see it now."""
    rows = client.rows(deployment)
    return View(deployment, rows.head, rows.rows, now=datetime.datetime.now(datetime.UTC))
