# SPDX-License-Identifier: Apache-2.0
"""In which version to speak to cores of which some may be older: while they are upgraded.

Each call is sent in the lowest version that has it, with what it says. So an older core takes all
that it knows. What an older core refuses is said again without what is new in it; so is all else
for a while, after which the newest is tried again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from cnsmo.model.errors import CnsmoError, InvalidRequest

BASE = "1.0"
RELEARN_SECONDS = 600.0
"""After which an interface that an older core refused is tried again."""
Fields = Mapping[str, Mapping[str, str]]


class Versions:
    """What may be said through one interface.

    ``since``: the version that brought a call, BASE where it is left out. ``fields``: by call, the
    version that brought a key of what it says.
    """

    def __init__(self, newest: str, cap: str, since: Mapping[str, str], fields: Fields) -> None:
        """cap: the newest version that is spoken; empty: as new as the cores take it.

        :raises InvalidRequest: when the cap is no version of this interface.
        """
        if cap and not (re.fullmatch(r"\d+\.\d+", cap) and number(BASE) <= number(cap)):
            raise InvalidRequest(f"[bus] upgrade_levels: {cap!r} is no version as {newest}")
        self._cap = min(number(cap or newest), number(newest))
        self._since, self._fields = since, fields
        self._learned = self._cap
        self._until = 0.0

    def fit(self, method: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The version in which to make a call, and what may be said in it.

        :raises CnsmoError: when the call itself is too new.
        """
        allowed = self._allowed()
        needed = number(self._since.get(method, BASE))
        if needed > allowed:
            raise CnsmoError(
                f"{method} needs cores that speak version {text(needed)}, and not all do, or "
                f"[bus] upgrade_levels holds them at {text(allowed)}: upgrade all cores first"
            )
        newer = {key: number(told) for key, told in self._fields.get(method, {}).items()}
        said = {}
        for name, value in arguments.items():
            if isinstance(value, dict) and newer:
                value = {
                    key: item
                    for key, item in value.items()
                    if key not in newer or (item is not None and newer[key] <= allowed)
                }
                needed = max([needed, *(newer[key] for key in value if key in newer)])
            said[name] = value
        return text(needed), said

    def takes(self, method: str) -> bool:
        """Whether all cores are believed to know a call."""
        return number(self._since.get(method, BASE)) <= self._allowed()

    def refused(self, version: str) -> bool:
        """Note that a core is too old for a version.

        :return: whether there is an older one to speak.
        """
        if number(version) <= number(BASE):
            return False
        major, minor = number(version)
        self._learned = min(self._allowed(), (major, minor - 1))
        self._until = time.monotonic() + RELEARN_SECONDS
        return True

    def _allowed(self) -> tuple[int, int]:
        return self._learned if time.monotonic() < self._until else self._cap


def number(version: str) -> tuple[int, int]:
    """A version as numbers that compare."""
    major, minor = version.split(".")
    return int(major), int(minor)


def text(version: tuple[int, int]) -> str:
    """The other way round."""
    return f"{version[0]}.{version[1]}"
