# SPDX-License-Identifier: Apache-2.0
"""Who falls too often, and what becomes of it."""

import dataclasses

import pytest

from cnsmo.services.loadbalancer.desired import LoadBalancerDesired, Server
from cnsmo.services.loadbalancer.drivers.falls import FALLS, WITHIN_SECONDS, Falls
from cnsmo.services.loadbalancer.drivers.hap_render import render
from tests.unit.services.loadbalancer.drivers.hap_words import HOST, PLAIN

WEBS = tuple(Server(f"web{it}", f"10.66.0.{it}", 8080) for it in (1, 2, 3))


class Watched:
    """A load balancer whose servers fall as often as a test says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.falls = Falls(lambda: self.now)
        self.numbers = dict.fromkeys(("web1", "web2", "web3"), 7)

    def look(self, desired: LoadBalancerDesired, **fallen: int) -> list[tuple[str, bool]]:
        """Who is a backup after a look in which servers had fallen so many times more."""
        for name, more in fallen.items():
            self.numbers[name] += more
        servers = render(self.falls.calmed(desired), HOST).servers
        self.falls.count(
            {
                it.path: ((it.pool, it.address, it.port), self.numbers[it.host])
                for it in servers.values()
            }
        )
        self.decided = self.falls.decide(desired)
        return [(it.name, it.backup) for it in self.falls.calmed(desired).pools[0].servers]


def pool(*servers: Server) -> LoadBalancerDesired:
    return dataclasses.replace(PLAIN, pools=(dataclasses.replace(PLAIN.pools[0], servers=servers),))


@pytest.fixture
def watched() -> Watched:
    made = Watched()
    made.look(pool(*WEBS))
    return made


def lowered(found: list[tuple[str, bool]]) -> list[str]:
    return [name for name, backup in found if backup]


def test_what_was_before_the_first_look_is_nobodys_fault(watched: Watched) -> None:
    assert lowered(watched.look(pool(*WEBS))) == []
    assert not watched.falls.due


def test_who_falls_too_often_is_a_backup_until_it_holds_still(watched: Watched) -> None:
    assert lowered(watched.look(pool(*WEBS), web1=FALLS - 1)) == []
    watched.now += WITHIN_SECONDS - 1
    assert lowered(watched.look(pool(*WEBS), web1=1)) == ["web1"]
    assert watched.decided
    assert watched.falls.told(pool(*WEBS)) == [
        "web1 in the pool www fell 3 times or more within 300 s: it serves only while no other is "
        "well"
    ]
    watched.now += 2
    assert watched.falls.due
    assert lowered(watched.look(pool(*WEBS))) == []
    assert watched.falls.told(pool(*WEBS)) == []


def test_what_else_is_new_is_not_taken_for_a_fall(watched: Watched) -> None:
    assert lowered(watched.look(pool(*WEBS[:2]), web1=FALLS)) == ["web1"]
    assert not watched.decided


def test_a_backup_that_goes_on_falling_stays_one(watched: Watched) -> None:
    watched.look(pool(*WEBS), web1=FALLS)
    watched.look(pool(*WEBS))  # under its other name
    watched.now += WITHIN_SECONDS - 1
    watched.look(pool(*WEBS), web1=FALLS)
    watched.now += WITHIN_SECONDS - 1
    assert lowered(watched.look(pool(*WEBS))) == ["web1"]


def test_a_worker_that_counts_anew_takes_nothing_back(watched: Watched) -> None:
    watched.look(pool(*WEBS), web1=FALLS - 1)
    watched.numbers["web1"] = 0
    watched.look(pool(*WEBS))
    assert lowered(watched.look(pool(*WEBS), web1=1)) == ["web1"]


def test_what_an_order_made_it_count_is_no_fall(watched: Watched) -> None:
    watched.look(pool(*WEBS), web1=FALLS - 1)
    path = next(it.path for it in render(pool(*WEBS), HOST).servers.values() if it.host == "web1")
    for _ in range(FALLS):
        watched.falls.excuse([path])
        assert lowered(watched.look(pool(*WEBS), web1=2)) == []
    assert lowered(watched.look(pool(*WEBS), web1=1)) == ["web1"], "and those before still count"


@pytest.mark.parametrize("other", [{"drain": True}, {"weight": 0}, {"backup": True}])
def test_the_last_that_serves_all_the_time_goes_on(watched: Watched, other: dict) -> None:
    rest = [dataclasses.replace(it, **other) for it in WEBS[1:]]
    watched.look(pool(WEBS[0], *rest), web1=FALLS)
    found = watched.look(pool(WEBS[0], *rest))
    assert ("web1", False) in found
    assert lowered(watched.look(pool(WEBS[0]))) == []


def test_where_all_fall_all_go_on(watched: Watched) -> None:
    assert lowered(watched.look(pool(*WEBS), web1=9, web2=9, web3=9)) == []


def test_who_left_is_forgotten(watched: Watched) -> None:
    watched.look(pool(*WEBS), web1=FALLS)
    watched.look(pool(*WEBS[1:]))
    assert lowered(watched.look(pool(*WEBS))) == []
