# SPDX-License-Identifier: Apache-2.0
"""The servers that are wanted, in the structure that runs."""

import dataclasses
from typing import Any

import pytest

from cnsmo.services.loadbalancer.desired import Algorithm, Bind, Check, Pool, Server
from cnsmo.services.loadbalancer.drivers.hap_graft import graft
from cnsmo.services.loadbalancer.drivers.hap_render import Config, render
from cnsmo.services.loadbalancer.drivers.hap_stat import Seen
from tests.unit.services.loadbalancer.drivers.hap_words import HOST, PLAIN

WEB1, WEB2 = Server("web1", "10.66.0.1", 80), Server("web2", "10.66.0.2", 80, weight=7)
WEB3 = Server("web3", "10.66.0.3", 80, drain=True)


def config_of(*pools: Pool, **changes: Any) -> Config:
    return render(dataclasses.replace(PLAIN, pools=pools, **changes), HOST)


def seen(config: Config) -> list[Seen]:
    return [
        Seen(it.pool, it.name, it.ident or place, it.address, it.port, it.weight, it.stopped, False,
             False, it.checked, 0)
        for place, it in enumerate(config.servers.values(), 1)
    ]  # fmt: skip


def grafted(running: Config, wanted: Config) -> Config:
    found = graft(running.text(), running.fingerprint, wanted, seen(running), ())
    assert found
    return found


@pytest.mark.parametrize("algorithm", [Algorithm.ROUNDROBIN, Algorithm.FIRST])
def test_nothing_changes_where_all_pools_are_to_be_others(algorithm: Algorithm) -> None:
    running = config_of(Pool("www", (WEB1, WEB2, WEB3), algorithm), Pool("api", (WEB2,)))
    found = grafted(running, config_of(Pool("other", (WEB1,))))
    assert found.text() == running.text()
    assert found.common == running.common


def test_pools_that_stay_have_the_servers_that_are_wanted() -> None:
    check = Check(interval=9.0)
    running = config_of(Pool("www", (WEB1,)), Pool("api", (WEB1,)))
    wanted = config_of(
        Pool("www", (WEB2, WEB3)), Pool("api", (WEB2,), check=check), binds=(Bind("", 81),)
    )
    found = grafted(running, wanted)
    expected = config_of(Pool("www", (WEB2, WEB3)), Pool("api", (WEB1,)))
    assert found.text() == expected.text()
    assert found.fingerprint == running.fingerprint


def test_who_leaves_is_not_wanted_again() -> None:
    running = config_of(Pool("www", (WEB1, WEB2)))
    leaving = [key for key, it in running.servers.items() if it.host == "web1"]
    other = config_of(Pool("other", ()))
    found = graft(running.text(), running.fingerprint, other, seen(running), leaving)
    assert found
    assert [it.host for it in found.servers.values()] == ["web2"]


def test_a_file_that_is_not_what_runs_is_no_base() -> None:
    running = config_of(Pool("www", (WEB1,)))
    assert graft(running.text(), "f" * 32, running, seen(running), ()) is None
    assert graft("", running.fingerprint, running, seen(running), ()) is None
