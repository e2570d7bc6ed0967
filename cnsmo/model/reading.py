# SPDX-License-Identifier: Apache-2.0
"""Reading what another release may have written.

Who writes is strict: an unknown key is a mistake. Who reads rows and answers is not: a newer core
may say more than an older agent understands, and the agent must live on.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)


def read(model: type[M], body: Any) -> M:
    """Parse a stored or received body; keys that this release does not know are passed over."""
    return model.model_validate(body, extra="ignore")
