# SPDX-License-Identifier: Apache-2.0
"""Who is late, who is down, and whether it is rather the core that hears nobody: pure, no clock.

What follows from "down" is felt: others take the host out of pools and call it last. So it is said
only of few at a time, only by a core that has listened for long enough, and never because of what
an agent reported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from cnsmo.model.silence import Silence


@dataclasses.dataclass(frozen=True)
class Rules:
    """The options of health. Times are seconds, ``share`` is of a deployment's hosts; nobody is
    late after he is down."""

    late_after: float = 30.0
    down_after: float = 60.0
    grace: float = 60.0
    share: float = 1 / 3
    hosts: int = 3
    flaps: int = 3
    window: float = 1800.0


@dataclasses.dataclass(frozen=True)
class Doubt:
    """How far the core may trust its own ears.

    ``listening``: seconds since when it has been able to hear and to look. ``suspected``: seconds
    since it last suspected itself; None: it does not.
    """

    listening: float
    suspected: float | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is new. ``silent`` of ``hosts`` are silent, and ``suspicious`` finds that too many."""

    late: tuple[Silence, ...] = ()
    heard: tuple[Silence, ...] = ()
    down: tuple[Silence, ...] = ()
    silent: int = 0
    hosts: int = 0
    suspicious: bool = False
    confident: bool = False
    """Whether the core ceases to suspect itself."""


def judge(agents: Sequence[Silence], hosts: int, doubt: Doubt, rules: Rules) -> Verdict:
    """What to make of silence.

    agents: all that are silent for as long as late ones are, and all that were late at the last
    look. hosts: how many the deployment has, with those that are down.
    """
    heard = tuple(agent for agent in agents if agent.late and agent.seconds < rules.late_after)
    if doubt.listening < rules.grace:
        return Verdict(heard=heard, hosts=hosts)
    silences = [agent for agent in agents if agent.seconds >= rules.late_after]
    missed = {agent.host for agent in silences if agent.there}
    present = hosts - len({agent.host for agent in silences} - missed)
    suspicious = is_suspicious(len(missed), present, rules)
    resting = doubt.suspected is not None and doubt.suspected < rules.grace
    judging = not suspicious and not resting
    return Verdict(
        late=tuple(agent for agent in silences if agent.there and not agent.late),
        heard=heard,
        down=tuple(
            agent
            for agent in silences
            if judging and agent.there and agent.seconds >= rules.down_after
        ),
        silent=len(missed),
        hosts=present,
        suspicious=suspicious,
        confident=judging and doubt.suspected is not None,
    )


def is_suspicious(silent: int, present: int, rules: Rules) -> bool:
    """Whether so many of the hosts that should be there are silent that the core suspects itself.

    One of two, or two of five, may well be down: it takes ``rules.hosts``, or everybody.
    """
    if rules.share >= 1.0 or silent <= rules.share * present:
        return False
    return silent >= rules.hosts or silent == present >= 2


def hold(downs: int, rules: Rules) -> float:
    """For how many seconds an agent that was down has to be heard until it is taken back.

    downs: how often it was down within ``rules.window``, this time counted.
    """
    extra = downs - rules.flaps
    if extra <= 0:
        return 0.0
    return float(min(rules.down_after * 2 ** min(extra - 1, 30), rules.window))
