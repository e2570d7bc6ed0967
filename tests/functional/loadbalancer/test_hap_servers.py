# SPDX-License-Identifier: Apache-2.0
"""Servers come, go, die and return."""

import dataclasses
import json
import re
import time
from typing import Any

import pytest

from cnsmo.services.kit import boot
from cnsmo.services.loadbalancer.desired import (
    Algorithm,
    Bind,
    Check,
    Checking,
    LoadBalancerDesired,
    Mode,
    Persistence,
    Pool,
    Timeouts,
)
from cnsmo.services.loadbalancer.drivers.haproxy import AGAIN_SECONDS
from tests.eventually import eventually
from tests.functional.loadbalancer.hap_scene import QUICK, Scene, desired

OUT_SECONDS = 1.0
"""How soon a dead server is out, with an interval of 200 ms and three failures."""


def structured(wanted: LoadBalancerDesired) -> LoadBalancerDesired:
    """The same with another structure, for a reload."""
    return dataclasses.replace(wanted, timeouts=Timeouts(client=wanted.timeouts.client + 1))


def download(scene: Scene, seconds: float) -> Any:
    """Begin one; the process prints what became of it."""
    process = scene.begin("ask", path=f"/slow/{seconds}", timeout=20)
    eventually(lambda: sessions(scene) == 1, what="a download")
    return process


def leaving(scene: Scene) -> dict[str, Any]:
    """How far the only one is who leaves."""
    (leaver,) = json.loads((scene.state_dir / "leaving.json").read_text())["leavers"]
    return dict(leaver["leave"])


def sessions(scene: Scene) -> int:
    shown = scene.admin("show stat").splitlines()
    return sum(int(line.split(",")[4]) for line in shown if line.startswith("www,web"))


def outcome(process: Any) -> dict[str, Any]:
    (answer,) = json.loads(process.communicate(timeout=30)[0])
    return dict(answer)


# --- who leaves -----------------------------------------------------------------------------


def test_a_download_on_a_leaving_server_completes_and_nothing_new_reaches_it(
    scene: Scene,
) -> None:
    scene.serve(1, 2)
    scene.settle(desired(*scene.servers(1), drain=20))
    process = download(scene, 5)
    wanted = desired(*scene.servers(2), drain=20)
    scene.apply(wanted)
    eventually(lambda: scene.state(wanted, "web2") == "up")
    assert scene.state(wanted, "web1") == "leaving"
    assert scene.apply(wanted) == []
    assert scene.who() == {"web2": 20}
    scene.fresh()
    assert scene.apply(wanted) == []
    assert scene.state(wanted, "web1") == "leaving"
    assert 0 < leaving(scene)["until"] - boot.now() <= 20
    assert scene.observe(wanted).again == AGAIN_SECONDS
    answer = outcome(process)
    assert (answer["status"], answer["length"]) == (200, 100)
    scene.follow(wanted)
    assert scene.state(wanted, "web1") == "gone"
    assert "web1" not in scene.config


@pytest.mark.parametrize("reload", [False, True], ids=["at run time", "by a reload"])
def test_a_download_that_begins_on_a_server_that_is_held_completes(
    scene: Scene, reload: bool
) -> None:
    """Nobody else becomes well: its time to serve on is over while the download is under way."""
    scene.serve(1, 2)
    scene.sicken(2)
    scene.settle(desired(*scene.servers(1), drain=4))
    wanted = desired(*scene.servers(2), drain=4)
    wanted = structured(wanted) if reload else wanted
    begun = time.monotonic()
    scene.apply(wanted)
    process = download(scene, 5)
    why = scene.observe(wanted).detail["servers"]["www"]["web1"]["why"]
    assert why.startswith("nobody else is well: it serves on, for ")
    eventually(lambda: scene.apply(wanted) == [] and scene.who(1) == {"nobody": 1})
    assert time.monotonic() - begun >= 4
    answer = outcome(process)
    assert (answer["status"], answer["length"]) == (200, 100)
    eventually(lambda: scene.apply(wanted) == [] and scene.state(wanted, "web1") == "gone")


def test_who_shall_get_nothing_relieves_nobody(scene: Scene) -> None:
    scene.serve(1, 2, 3)
    scene.sicken(3)
    scene.settle(desired(*scene.servers(1), drain=20))
    wanted = desired(scene.server(2, weight=0), scene.server(3), drain=20)
    scene.apply(wanted)
    eventually(lambda: scene.state(wanted, "web2") == "drain", what="its first good check")
    assert scene.apply(wanted) == []
    assert scene.who() == {"web1": 20}
    scene.sicken(3, sick=False)
    eventually(lambda: scene.apply(wanted) == [] and scene.who(2) == {"web3": 2})


@pytest.mark.parametrize("reload", [False, True], ids=["same worker", "earlier worker"])
def test_after_its_time_a_leaving_server_is_gone_with_what_it_had(
    scene: Scene, reload: bool
) -> None:
    scene.serve(1, 2)
    scene.settle(desired(*scene.servers(1, 2), drain=1.0))
    process = download(scene, 20)
    name = next(f"web{it}" for it in (1, 2) if busy(scene, f"web{it}"))
    other = 2 if name == "web1" else 1
    wanted = desired(*scene.servers(other), drain=1.0)
    wanted = structured(wanted) if reload else wanted
    begun = time.monotonic()
    scene.apply(wanted)
    assert scene.observe(wanted).detail["servers"]["www"][name]["sessions"] == 1
    scene.follow(wanted)
    assert 1.0 <= time.monotonic() - begun < 5
    assert outcome(process)["status"] == 0
    assert scene.state(wanted, name) == "gone"
    assert scene.who() == {f"web{other}": 20}


def busy(scene: Scene, name: str) -> bool:
    shown = scene.admin("show stat").splitlines()
    return any(line.startswith(f"www,{name}_") and line.split(",")[4] == "1" for line in shown)


def test_a_whole_pool_that_leaves_is_drained_too(scene: Scene) -> None:
    scene.serve(1, 2)
    scene.settle(desired(*scene.servers(1), drain=1.0))
    process = download(scene, 20)
    wanted = desired(pools=(Pool("other", scene.servers(2), check=QUICK),), drain=1.0)
    assert scene.apply(wanted)
    scene.follow(wanted)
    assert outcome(process)["status"] == 0
    assert scene.who() == {"web2": 20}


def test_a_server_that_comes_back_while_it_leaves_stays(scene: Scene) -> None:
    scene.serve(1, 2)
    both = desired(*scene.servers(1, 2), drain=20)
    scene.settle(both)
    scene.apply(desired(*scene.servers(2), drain=20))
    scene.settle(both)
    eventually(lambda: scene.state(both, "web1") == "up", what="its first good check")
    assert set(scene.who()) == {"web1", "web2"}


def test_a_host_with_another_address_is_another_server(scene: Scene) -> None:
    scene.serve(1, 2)
    scene.settle(desired(*scene.servers(1), drain=20))
    process = download(scene, 2)
    wanted = desired(dataclasses.replace(scene.server(2), name="web1"), drain=20)
    scene.apply(wanted)
    eventually(lambda: scene.state(wanted, "web1") == "up")
    assert scene.apply(wanted) == []
    assert scene.who() == {"web2": 20}
    assert outcome(process)["length"] == 40


def test_a_drained_server_keeps_what_it_has_and_is_checked_before_it_returns(
    scene: Scene,
) -> None:
    scene.serve(1, 2)
    scene.settle(desired(*scene.servers(1)))
    process = download(scene, 2)
    drained = desired(scene.server(1, drain=True), scene.server(2))
    scene.settle(drained)
    assert scene.state(drained, "web1") == "drain"
    assert scene.who() == {"web2": 20}
    assert outcome(process)["length"] == 40
    scene.sicken(1)
    ready = desired(*scene.servers(1, 2))
    assert scene.apply(ready)
    assert scene.who() == {"web2": 20}
    scene.sicken(1, sick=False)
    eventually(lambda: scene.state(ready, "web1") == "up")
    assert set(scene.who()) == {"web1", "web2"}


def test_one_that_was_drained_when_it_all_began_can_return(scene: Scene) -> None:
    scene.serve(1, 2)
    scene.settle(desired(scene.server(1, drain=True), scene.server(2)))
    assert scene.who() == {"web2": 20}
    both = desired(*scene.servers(1, 2))
    scene.settle(both)
    assert scene.apply(both) == []
    assert set(scene.who()) == {"web1", "web2"}


# --- who dies -------------------------------------------------------------------------------


def test_a_killed_server_is_out_within_a_second_and_costs_no_request(scene: Scene) -> None:
    scene.serve(1, 2, 3)
    wanted = desired(*scene.servers(1, 2, 3))
    scene.settle(wanted)
    waiting = [scene.begin("ask", path="/wait/1") for _ in range(3)]
    eventually(lambda: sessions(scene) == 3, what="requests on all of them")
    with scene.load() as counted:
        scene.kill(1)
        begun = time.monotonic()
        eventually(lambda: scene.state(wanted, "web1") == "down")
        assert time.monotonic() - begun <= OUT_SECONDS
        assert {outcome(it)["said"]["name"] for it in waiting} <= {"web2", "web3"}
        scene.serve(1)
        eventually(lambda: scene.state(wanted, "web1") == "up")
    assert counted[0].lost == {}
    why = scene.observe(wanted).detail["servers"]["www"]["web1"]["why"]
    assert "passed" in why


def test_what_may_have_been_done_is_not_done_twice(scene: Scene) -> None:
    scene.serve(1, 2)
    scene.settle(desired(*scene.servers(1)))
    process = scene.begin("ask", path="/wait/3", method="POST", body="x")
    eventually(lambda: sessions(scene) == 1)
    scene.settle(desired(*scene.servers(1, 2)))
    scene.kill(1)
    assert outcome(process)["status"] == 502


def test_a_pool_without_anybody_answers_503_and_recovers_by_itself(scene: Scene) -> None:
    wanted = desired(*scene.servers(1, 2))
    scene.serve(1, 2)
    scene.settle(wanted)
    for number in (1, 2):
        scene.kill(number)
    eventually(lambda: scene.observe(wanted).problems == ("no server of the pool www is up",))
    assert scene.ask()["status"] == 503
    scene.serve(2)
    eventually(lambda: scene.ask()["status"] == 200)
    empty = desired()
    scene.settle(empty)
    assert scene.ask()["status"] == 503
    assert scene.observe(empty).problems == ("the pool www has no server",)
    scene.apply(wanted)
    eventually(lambda: scene.ask()["status"] == 200)


@pytest.mark.parametrize("reload", [False, True], ids=["at run time", "by a reload"])
def test_a_new_server_serves_after_its_first_good_check(scene: Scene, reload: bool) -> None:
    scene.serve(1, 2)
    scene.settle(desired(*scene.servers(1)))
    scene.sicken(2)
    wanted = desired(*scene.servers(1, 2))
    wanted = structured(wanted) if reload else wanted
    workers = scene.workers
    with scene.load() as counted:
        scene.apply(wanted)
        assert (scene.workers != workers) is reload
        eventually(lambda: "503" in scene.observe(wanted).detail["servers"]["www"]["web2"]["why"])
        assert scene.state(wanted, "web2") == "down"
    assert counted[0].lost == {}
    assert set(counted[0].by) == {"web1"}
    scene.sicken(2, sick=False)
    eventually(lambda: scene.state(wanted, "web2") == "up")
    assert set(scene.who()) == {"web1", "web2"}


def test_of_one_who_comes_one_good_check_is_enough_and_of_one_who_fell_it_is_not(
    scene: Scene,
) -> None:
    slow = dataclasses.replace(QUICK, rise=100)
    scene.serve(1, 2)
    scene.settle(desired(*scene.servers(1), check=slow))
    wanted = desired(*scene.servers(1, 2), check=slow)
    workers = scene.workers
    scene.apply(wanted)
    scene.follow(wanted)
    assert scene.state(wanted, "web2") == "up"
    assert scene.workers == workers
    scene.sicken(2)
    eventually(lambda: scene.state(wanted, "web2") == "down")
    scene.sicken(2, sick=False)
    eventually(lambda: passed(scene, "web2") > 2, what="good checks in a row")
    assert scene.apply(wanted) == []
    assert scene.state(wanted, "web2") == "down"


@pytest.mark.parametrize("how", ["by a reload", "from the drain"])
def test_of_one_who_comes_one_good_check_is_enough(scene: Scene, how: str) -> None:
    slow = dataclasses.replace(QUICK, rise=100)
    scene.serve(1, 2)
    wanted = desired(*scene.servers(1, 2), check=slow)
    if how == "by a reload":
        scene.settle(structured(desired(*scene.servers(1), check=slow)))
    else:
        scene.settle(desired(scene.server(1), scene.server(2, drain=True), check=slow))
    scene.apply(wanted)
    scene.follow(wanted)
    eventually(lambda: scene.state(wanted, "web2") == "up", 5, what="long before the hundredth")


def passed(scene: Scene, name: str) -> int:
    """Good checks in a row."""
    _version, head, *lines = scene.admin("show servers state").splitlines()
    rows = [dict(zip(head.removeprefix("# ").split(), it.split(), strict=True)) for it in lines]
    return next(int(it["srv_check_health"]) for it in rows if it["srv_name"].startswith(f"{name}_"))


def test_who_is_down_stays_down_over_a_reload(scene: Scene) -> None:
    scene.serve(1, 2)
    wanted = desired(*scene.servers(1, 2))
    scene.settle(wanted)
    scene.sicken(1)
    eventually(lambda: scene.state(wanted, "web1") == "down")
    with scene.load() as counted:
        assert scene.apply(structured(wanted))
    assert set(counted[0].by) == {"web2"}


# --- who is picked --------------------------------------------------------------------------


def test_weights_are_kept_to_and_changed_without_a_reload(scene: Scene) -> None:
    scene.serve(1, 2)
    scene.settle(desired(*scene.servers(1, 2)))
    workers = scene.workers
    wanted = desired(scene.server(1, weight=30), scene.server(2, weight=10))
    assert scene.apply(wanted)
    assert scene.who(40) == {"web1": 30, "web2": 10}
    none = desired(scene.server(1, weight=0), scene.server(2))
    assert scene.apply(none)
    assert scene.who(10) == {"web2": 10}
    assert scene.state(none, "web1") == "drain"
    assert scene.workers == workers


def test_a_backup_serves_while_nobody_else_is_well(scene: Scene) -> None:
    scene.serve(1, 2)
    wanted = desired(scene.server(1), scene.server(2, backup=True))
    scene.settle(wanted)
    assert scene.who(6) == {"web1": 6}
    scene.kill(1)
    assert scene.who(6) == {"web2": 6}
    scene.serve(1)
    eventually(lambda: scene.state(wanted, "web1") == "up")
    assert scene.who(6) == {"web1": 6}


@pytest.mark.parametrize("algorithm", [*Algorithm])
def test_servers_come_and_go_with_each_algorithm(scene: Scene, algorithm: Algorithm) -> None:
    scene.serve(1, 2, 3)
    one = desired(*scene.servers(1), algorithm=algorithm)
    many = desired(*scene.servers(1, 2, 3), algorithm=algorithm)
    scene.settle(one)
    workers = scene.workers
    scene.settle(many)
    eventually(lambda: all(scene.state(many, f"web{it}") == "up" for it in (1, 2, 3)))
    scene.settle(desired(*scene.servers(2, 3), algorithm=algorithm))
    assert "nobody" not in scene.who()
    assert "web1" not in scene.who()
    if algorithm is Algorithm.FIRST:  # it has an order, which only the file can give
        assert scene.workers != workers
        assert scene.who() == {"web2": 20}
    else:
        assert scene.workers == workers


@pytest.mark.parametrize("algorithm", [Algorithm.SOURCE, Algorithm.URI])
def test_what_is_hashed_stays_where_it_was_after_a_restart(
    scene: Scene, algorithm: Algorithm
) -> None:
    scene.serve(1, 2, 3)
    scene.settle(desired(*scene.servers(2), algorithm=algorithm))
    wanted = desired(*scene.servers(1, 2, 3), algorithm=algorithm)
    scene.settle(wanted)
    before = [scene.who(3, path=f"/{it}") for it in range(8)]
    assert all(len(found) == 1 for found in before)
    scene.driver._instance.stop()
    assert scene.settle(wanted) == ["haproxy: started"]
    assert [scene.who(3, path=f"/{it}") for it in range(8)] == before


# --- who is found again ---------------------------------------------------------------------


def test_a_cookie_leads_back_to_the_same_server(scene: Scene) -> None:
    scene.serve(1, 2, 3)
    kept = {"persistence": Persistence.COOKIE, "cookie": "SRV"}
    scene.settle(desired(*scene.servers(1), **kept))
    scene.settle(desired(*scene.servers(1, 2, 3), **kept))
    workers = scene.workers
    cookies = {}
    for answer in scene.asks(6):
        cookies[answer["said"]["name"]] = answer["headers"]["set-cookie"].split(";")[0]
    assert set(cookies) == {"web1", "web2", "web3"}
    assert "10.9.0" not in str(cookies)
    for name, cookie in cookies.items():
        assert scene.who(5, headers={"Cookie": cookie}) == {name: 5}
    scene.settle(desired(*scene.servers(1, 2), **kept))
    assert set(scene.who(6, headers={"Cookie": cookies["web3"]})) == {"web1", "web2"}
    assert scene.workers == workers
    scene.settle(structured(desired(*scene.servers(1, 2), **kept)))
    assert scene.who(5, headers={"Cookie": cookies["web1"]}) == {"web1": 5}


def handing_over(scene: Scene) -> bool:
    """For five seconds after the very first start there is nothing worth to be handed over."""
    flags = re.search(r"id=own .*flags=(0x[0-9a-f]+)", scene.admin("show peers"))
    return bool(flags) and int(flags[1], 16) & 3 == 3


def test_a_source_finds_the_same_server_over_reloads_as_long_as_it_is_there(
    scene: Scene,
) -> None:
    scene.serve(1, 2, 3)
    wanted = desired(*scene.servers(1, 2, 3), persistence=Persistence.SOURCE)
    scene.settle(wanted)
    eventually(lambda: handing_over(scene), what="a worker that looked for an earlier one's table")
    (name,) = scene.who()
    other = structured(wanted)
    scene.apply(other)
    eventually(lambda: "used:1" in scene.admin("show table www"), what="what was remembered")
    assert scene.who() == {name: 20}
    rest = desired(*(it for it in other.pools[0].servers if it.name != name),
                   persistence=Persistence.SOURCE, timeouts=other.timeouts)  # fmt: skip
    scene.settle(rest)
    (second,) = scene.who()
    assert second != name


# --- other kinds ----------------------------------------------------------------------------


def test_connections_are_balanced_too(scene: Scene) -> None:
    scene.serve(1, 2)
    tcp = dataclasses.replace(QUICK, kind=Checking.TCP)
    wanted = desired(*scene.servers(1, 2), mode=Mode.TCP, check=tcp)
    scene.settle(wanted)
    assert scene.who() == {"web1": 10, "web2": 10}
    scene.kill(1)
    assert scene.who() == {"web2": 20}
    eventually(lambda: scene.state(wanted, "web1") == "down")


def test_without_a_check_nobody_knows(scene: Scene) -> None:
    scene.serve(1, 2)
    wanted = desired(*scene.servers(1), check=Check(Checking.NONE))
    scene.settle(wanted)
    wanted = desired(*scene.servers(1, 2), check=Check(Checking.NONE))
    assert scene.settle(wanted)
    assert scene.who() == {"web1": 10, "web2": 10}
    assert scene.state(wanted, "web1") == "unchecked"
    scene.kill(1)
    assert scene.who() == {"web2": 20}


def test_it_listens_in_both_versions_of_ip_and_at_more_than_one_place(scene: Scene) -> None:
    scene.serve(1)
    servers = (dataclasses.replace(scene.server(1), address=scene.site.net.address("pool", 6)),)
    binds = (Bind("", 80), Bind(scene.address, 8080), Bind("10.9.0.99", 81))
    wanted = desired(*servers, binds=binds)
    scene.settle(wanted)
    assert scene.ask()["status"] == 200
    assert scene.ask(address=scene.address6)["status"] == 200
    assert scene.ask(port=8080)["status"] == 200
    found = scene.observe(wanted).detail["frontends"]
    assert {place: it["total"] for place, it in found.items()} == {
        "*:80": 2, f"{scene.address}:8080": 1, "10.9.0.99:81": 0,
    }  # fmt: skip
