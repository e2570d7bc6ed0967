# SPDX-License-Identifier: Apache-2.0
"""Lines of the audit: who did what, from where; each is chained to the one before by its digest."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

GENESIS = "0" * 64
"""What stands for the digest of the line before the first."""
BEGIN = "begin"
"""What the first line says where the audit began later than the deployment."""
CHECKPOINT = "checkpoint"
"""What a line says that stands for older ones, which were forgotten."""
BROKEN = "broken"
"""What a line says with which a core goes on after it found that somebody had changed the audit."""
MAX_LINES = 100_000


class Role(enum.StrEnum):
    """As what somebody acts."""

    OPERATOR = "operator"
    HOST = "host"
    CORE = "core"


@dataclasses.dataclass(frozen=True)
class Act:
    """Who acts, from where, by which call.

    ``source``: an operator's machine, as its program says; the address that a join came from; else
    the id that a host proved to be.
    """

    role: Role
    who: str
    source: str
    action: str

    @classmethod
    def of_operator(cls, author: str, action: str) -> Act:
        """What an operator does. author: ``NAME@MACHINE``, as the program says."""
        who, _at, machine = author.rpartition("@")
        return cls(Role.OPERATOR, who or machine, machine if who else "", action)

    @property
    def author(self) -> str:
        """Who is named in the rows that are written."""
        is_operator = self.role is Role.OPERATOR and self.source
        return f"{self.who}@{self.source}" if is_operator else self.who

    def by(self, action: str) -> Act:
        """The same one, by another call."""
        return dataclasses.replace(self, action=action)


@dataclasses.dataclass(frozen=True)
class Change:
    """What was changed: before and after; None where there was or is nothing. Never a secret."""

    kind: str
    name: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    host: str = ""


class AuditLine(BaseModel):
    """One line. ``before`` and ``after``: JSON, empty where there was or is nothing."""

    model_config = ConfigDict(frozen=True)

    chain: str
    number: int
    at: datetime.datetime
    role: str
    who: str
    source: str
    action: str
    kind: str
    name: str
    host: str
    revision: int
    before: str
    after: str
    hash: str = ""

    def chained(self, previous: str) -> AuditLine:
        """This line after the one that has that digest."""
        return self.model_copy(update={"hash": self.digest(previous)})

    def digest(self, previous: str) -> str:
        """SHA-256 over the digest of the line before, a line feed, and this line as JSON.

        JSON with its keys sorted, without blanks, in ASCII; the time in UTC with microseconds.
        """
        at = self.at.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        said = {**self.model_dump(exclude={"hash"}), "at": at}
        return hashlib.sha256(f"{previous}\n{canonical(said)}".encode()).hexdigest()


class AuditQuery(BaseModel):
    """Which lines of a deployment's audit; the newest that match, at most ``limit`` of them.

    ``below``: only lines before that number.
    """

    model_config = ConfigDict(extra="forbid")

    host: str | None = None
    who: str | None = None
    kind: str | None = None
    action: str | None = None
    revision: int | None = None
    since: datetime.datetime | None = None
    below: int | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LINES)] = 100


class AuditPage(BaseModel):
    """Lines, the newest first. ``more``: there are others, below the last of these."""

    lines: list[AuditLine]
    more: bool


def canonical(value: Any) -> str:
    """A value as JSON, always the same: keys sorted, no blanks, ASCII."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
