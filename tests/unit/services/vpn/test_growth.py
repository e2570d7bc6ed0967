# SPDX-License-Identifier: Apache-2.0
"""What a plan asks the VPN of all hosts grows with the hosts, not with their pairs."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from cnsmo.core import declare
from cnsmo.model.messages import Plan, RowChange
from cnsmo.model.resource import Row, View
from cnsmo.services.kit.paths import direct
from cnsmo.services.vpn import compile as module
from tests.unit.services.vpn.scenes import VPN, host, instance, member, view

SITES = ("east", "west")


def deployment(hosts: int) -> list[Row]:
    """A mesh over two sites, where everybody can call everybody."""
    rows = [instance(driver="wireguard"), instance("inner", cidr="10.67.0.0/16", members=["web"])]
    for number in range(hosts):
        name, site = f"n{number:03}", number % len(SITES)
        private, public = f"10.{site}.1.{number + 1}/16", f"203.0.113.{number + 1}"
        rows.append(host(name, "web", site=SITES[site], private=[private], public=[public]))
        rows.append(member(name, f"10.66.0.{number + 1}", driver="wireguard"))
        rows.append(member(name, f"10.67.0.{number + 1}", vpn="inner"))
    return rows


def calls_of(work: Callable[[], object]) -> int:
    """How many functions are called."""
    count = 0

    def note(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def ask_of_all(scene: View) -> None:
    """What the firewalls of all hosts want to know."""
    for name in scene.hosts:
        (listener,) = VPN.listens(scene, name)
        assert listener.hosts == scene.hosts.keys() - {name}
        assert [len(found.members) for found in VPN.segments(scene, name)] == [len(scene.hosts)] * 2


def plan_all(scene: View) -> None:
    """A plan for all hosts, with what it comes to."""
    change = RowChange(action="add", kind="vpn", name="backbone")
    plan = Plan(deployment="shop", base_revision=1, changes=[change], hosts=list(scene.hosts))
    assert not declare._effects(scene, scene, plan)
    assert not VPN.check(scene)


@pytest.mark.parametrize("work", [ask_of_all, plan_all])
def test_twice_the_hosts_are_twice_the_work(work: Callable[[View], None]) -> None:
    work(view(deployment(4)))  # what is found out once per process
    small, large = (calls_of(lambda n=n: work(view(deployment(n)))) for n in (40, 80))
    assert large < 2.2 * small


def test_who_reaches_whom_is_asked_for_sites_not_for_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        module,
        "direct",
        lambda one, other: (asked.append((one.site, other.site)), direct(one, other))[1],
    )
    ask_of_all(view(deployment(40)))
    assert sorted(asked) == [(one, other) for one in SITES for other in SITES]
