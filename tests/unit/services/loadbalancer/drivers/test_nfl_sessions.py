# SPDX-License-Identifier: Apache-2.0
"""Flows are counted as often as is cheap, and no more."""

from collections.abc import Iterable, Iterator

from cnsmo.services.loadbalancer.desired import Bind
from cnsmo.services.loadbalancer.drivers.nfl_sessions import FEW, SHARE, Sessions
from tests.unit.services.loadbalancer.drivers.nfl_scenes import server, wanted

HERE = (
    "tcp 6 9 ESTABLISHED src=1.1.1.1 dst=10.0.0.1 sport=5 dport=80 "
    "src=10.66.0.1 dst=10.0.0.1 sport=80 dport=5"
)
OVER = HERE.replace("ESTABLISHED", "TIME_WAIT")


class Conntrack:
    """A listing that takes as long as is said."""

    def __init__(self, seconds: float, over: int = FEW) -> None:
        """over: flows of which only the memory is left."""
        self.seconds, self.over, self.now, self.times = seconds, over, 100.0, 0
        self.sessions = Sessions(self.listed, lambda: self.now)

    def listed(self, _protocol: str, ports: Iterable[int]) -> Iterator[str]:
        self.now += self.seconds
        self.times += 1
        assert len(list(ports)) == 1
        return iter([HERE, *[OVER] * self.over])

    def look(self, seconds: float, pause: float, port: int = 80) -> int:
        """Look so often, for so long; how often flows were listed."""
        before, until = self.times, self.now + seconds
        while self.now < until:
            assert len(self.sessions.alive(wanted(server(1), binds=(Bind("", port),)))) == 1
            self.now += pause
        return self.times - before


def test_few_are_always_counted_anew_and_what_is_over_does_not_count() -> None:
    """However slow the machine is."""
    assert Conntrack(seconds=0.5, over=5).look(10.0, pause=0.5) == 10


def test_a_large_table_takes_a_small_share_of_the_time() -> None:
    table = Conntrack(seconds=2.0)
    times = table.look(1000.0, pause=0.5)
    assert times > 1
    assert times * table.seconds <= 1000.0 * SHARE + table.seconds


def test_where_it_listens_elsewhere_it_is_counted_anew() -> None:
    table = Conntrack(seconds=2.0)
    assert table.look(10.0, pause=1.0) == 1
    assert table.look(10.0, pause=1.0, port=81) == 1
