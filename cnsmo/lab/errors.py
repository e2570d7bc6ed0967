# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a lab; every message ends with the remedy."""

from __future__ import annotations

from cnsmo.model.errors import CnsmoError


class LabError(CnsmoError):
    """Something in a lab did not do what it should."""

    code = "lab-error"


class LabUnavailable(CnsmoError):
    """This machine, or this account on it, cannot hold a lab; the message says what to do."""

    code = "lab-unavailable"
