# SPDX-License-Identifier: Apache-2.0
"""What drivers tell of a firewall on one host."""

from __future__ import annotations

from cnsmo.services.seen import Count, Number, Seen


class RuleSeen(Seen):
    """A rule in the kernel, and what it counted."""

    part: str = ""
    instance: str = ""
    direction: str = ""
    realm: str = ""
    rule: str = ""
    packets: Count = 0
    bytes: Count = 0


class SetSeen(Seen):
    """How many are in a set, and the first of them."""

    count: Count = 0
    elements: list[str] = []


class TrialSeen(Seen):
    """A ruleset that takes itself back unless it is confirmed."""

    seconds_left: Number = 0
    since: Number | None = None


class FirewallSeen(Seen):
    """refused: why another ruleset is in force."""

    rules: list[RuleSeen] = []
    sets: dict[str, SetSeen] = {}
    trial: TrialSeen | None = None
    refused: str | None = None
