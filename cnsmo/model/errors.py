# SPDX-License-Identifier: Apache-2.0
"""The errors of CNSMO: each one speaks to the person who caused it.

A message says what is wrong, where, and what would be right. ``code`` is stable and travels over
the bus, so that a client raises the same class that the core raised.
"""

from __future__ import annotations

from typing import Any, ClassVar


class CnsmoError(Exception):
    """Base of all errors that CNSMO raises on purpose."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message


class InvalidDocument(CnsmoError):
    """The deployment document is wrong; ``details["problems"]`` lists one entry per mistake."""

    code = "invalid-document"
    exit_code = 3


class InvalidRequest(CnsmoError):
    """An argument of a call is wrong."""

    code = "invalid-request"
    exit_code = 2


class UnknownCall(InvalidRequest):
    """The other side has no such call, or not in that version: it is of another release."""

    code = "unknown-call"


class NotFound(CnsmoError):
    """What was named does not exist."""

    code = "not-found"
    exit_code = 4


class Conflict(CnsmoError):
    """The state changed meanwhile, or the name is taken."""

    code = "conflict"
    exit_code = 5


class Denied(CnsmoError):
    """The caller may not do this. The text never says which of its credentials was wrong."""

    code = "denied"
    exit_code = 6

    def __init__(
        self, message: str = "not allowed: unknown or wrong credentials", **details: Any
    ) -> None:
        super().__init__(message, **details)


class Lapsed(Denied):
    """The caller proved to be a host whose certificate has ended: it has to join anew."""

    code = "lapsed"


class Untrusted(CnsmoError):
    """Who answers is not the core that was pinned; nothing secret was said to it."""

    code = "untrusted"
    exit_code = 6


class Removed(CnsmoError):
    """The caller proved to be a host that was removed: it has to take everything down."""

    code = "removed"
    exit_code = 10


class NotAdmitted(CnsmoError):
    """A service does not take the host in (no address left, ...); the message says why."""

    code = "not-admitted"


class Unavailable(CnsmoError):
    """The core, the broker or the database does not answer; trying again later may help."""

    code = "unavailable"
    exit_code = 7


class SchemaMismatch(CnsmoError):
    """The database's schema is not the one that this release needs."""

    code = "schema-mismatch"
    exit_code = 8


class DriverUnavailable(CnsmoError):
    """What a driver needs is not on this host; the message names the missing package."""

    code = "driver-unavailable"


class DriverError(CnsmoError):
    """A driver could not converge; the previous state still works."""

    code = "driver-error"


class ProgramError(CnsmoError):
    """An external program failed or took too long."""

    code = "program-error"


class ReplicaDamaged(CnsmoError):
    """The replica on disk is torn, foreign or from another version; it is set aside."""

    code = "replica-damaged"


def _subclasses(base: type[CnsmoError]) -> dict[str, type[CnsmoError]]:
    found = {base.code: base}
    for sub in base.__subclasses__():
        found |= _subclasses(sub)
    return found


def from_code(code: str, message: str, details: dict[str, Any]) -> CnsmoError:
    """Rebuild the error that the other side of the bus raised."""
    return _subclasses(CnsmoError).get(code, CnsmoError)(message, **details)
