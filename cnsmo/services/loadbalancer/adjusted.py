# SPDX-License-Identifier: Apache-2.0
"""What an operator said of one host of a load balancer, beside the document."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from cnsmo.services.loadbalancer.desired import HEAVIEST


class Adjustment(BaseModel):
    """Of one host in all pools of an instance; it stays until an operator takes it back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drain: StrictBool = Field(False, description="No new connections; those that are there stay.")
    weight: StrictInt | None = Field(
        None, ge=0, le=HEAVIEST, description="In place of the document's; null: the document's."
    )
