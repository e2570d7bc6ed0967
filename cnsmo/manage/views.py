# SPDX-License-Identifier: Apache-2.0
"""What agents compile from, for commands that compile the same."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnsmo.bus.clients import OperatorClient
    from cnsmo.model.resource import View


def present(client: OperatorClient, deployment: str) -> View:
    """The deployment as agents see it now."""
    from cnsmo.model.resource import View

    rows = client.rows(deployment)
    return View(deployment, rows.head, rows.rows, now=datetime.datetime.now(datetime.UTC))
