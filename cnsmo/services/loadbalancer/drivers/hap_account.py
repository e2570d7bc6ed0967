# SPDX-License-Identifier: Apache-2.0
"""As whom HAProxy's workers run."""

from __future__ import annotations

from cnsmo.model.errors import DriverUnavailable
from cnsmo.services.base import System

USER = GROUP = "haproxy"


def account(system: System) -> tuple[str, str]:
    """User and group; both "" in a user namespace that has no other user than the one we are.

    :raises DriverUnavailable: when there is no such user.
    """
    found = []
    for option, map_ in (("-u", "uid_map"), ("-g", "gid_map")):
        done = system.run("id", option, USER, ok=(0, 1))
        if done.code != 0:
            raise DriverUnavailable(f"there is no user {USER}: install the package haproxy")
        spans = system.run("cat", f"/proc/self/{map_}").stdout
        found.append(_mapped(int(done.stdout), spans))
    return (USER, GROUP) if all(found) else ("", "")


def _mapped(number: int, spans: str) -> bool:
    """Whether a number means somebody here; see user_namespaces(7)."""
    for line in spans.splitlines():
        first, _outside, count = map(int, line.split())
        if first <= number < first + count:
            return True
    return False
