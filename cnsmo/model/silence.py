# SPDX-License-Identifier: Apache-2.0
"""An agent of which nothing is heard."""

from __future__ import annotations

import dataclasses

from cnsmo.model.lifecycle import GONE, State


@dataclasses.dataclass(frozen=True)
class Silence:
    """An agent that has been silent for so many seconds; ``late``: that was known before.

    ``state``: what its row says; None where it has none.
    """

    host: str
    service: str
    state: State | None
    seconds: float
    late: bool = False

    @property
    def there(self) -> bool:
        """Whether others still count on it."""
        return self.state is not None and self.state not in GONE
