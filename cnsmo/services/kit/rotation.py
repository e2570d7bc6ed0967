# SPDX-License-Identifier: Apache-2.0
"""When a secret has to be replaced: on the operator's command, and by its age; pure."""

from __future__ import annotations

import abc
import hashlib

from pydantic import BaseModel, ConfigDict

SPREAD = 0.1
"""Hosts replace their secrets at up to this share before or after their time, not all at once."""


class Ageing(BaseModel, abc.ABC):
    """Base of a stored secret.

    ``created``: seconds since the epoch; ``generation``: the operator's command that it answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    created: float
    generation: int

    @abc.abstractmethod
    def mark(self) -> str:
        """The public half, or anything public that no other secret has."""

    def due(self, generation: int, rotate_after: float, now: float) -> bool:
        """Whether the operator or its age (rotate_after in seconds; 0: never) asks for another."""
        if self.generation < generation:
            return True
        place = int(hashlib.sha256(self.mark().encode()).hexdigest()[:8], 16) / 2**32
        life = rotate_after * (1 - SPREAD + 2 * SPREAD * place)
        return bool(rotate_after) and now - self.created > life
