# SPDX-License-Identifier: Apache-2.0
"""What is told to a running HAProxy so that its servers are as wanted."""

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.errors import DriverError
from cnsmo.services.loadbalancer.desired import (
    Algorithm,
    Check,
    Checking,
    Persistence,
    Pool,
    Server,
)
from cnsmo.services.loadbalancer.drivers.hap_plan import (
    Plan,
    done,
    make_plan,
    removal,
    strays,
)
from cnsmo.services.loadbalancer.drivers.hap_render import Config, render
from cnsmo.services.loadbalancer.drivers.hap_server import HapServer, servers_of
from cnsmo.services.loadbalancer.drivers.hap_stat import Seen
from cnsmo.services.loadbalancer.drivers.hap_state import NOBODY, handed_over
from tests.unit.services.loadbalancer.drivers.hap_words import HOST, PLAIN

WEB1, WEB2 = Server("web1", "10.66.0.1", 80), Server("web2", "10.66.0.2", 80)
NAME1, NAME2 = "web1_10.66.0.1_80", "web2_10.66.0.2_80"
COMMAND = re.compile(r"[A-Za-z0-9 ./:\[\]_-]+")
"""Nothing that ends a command, or begins another one."""


def config_of(*servers: Server, **pool: Any) -> Config:
    made = Pool("www", servers, **pool)
    return render(dataclasses.replace(PLAIN, pools=(made,)), HOST)


def seen(config: Config, **changes: Any) -> list[Seen]:
    """What runs, when it is as wanted but for some changes."""
    return [
        dataclasses.replace(
            Seen(it.pool, it.name, it.ident, it.address, it.port, it.weight, it.stopped, False,
                 False, it.checked, 0),
            **changes,
        )
        for it in config.servers.values()
    ]  # fmt: skip


def orders(plan: Plan) -> list[str]:
    return [command for step in plan.steps for command in step.commands]


def test_what_is_as_wanted_is_left_alone() -> None:
    config = config_of(WEB1, dataclasses.replace(WEB2, drain=True))
    assert make_plan(config, [], seen(config)) == Plan(())


def test_a_new_server_is_down_until_it_was_checked() -> None:
    one, both = config_of(WEB1), config_of(WEB1, WEB2)
    plan = make_plan(both, [], seen(one))
    assert plan.reload == ""
    ident = both.servers["www", NAME2].ident
    assert orders(plan) == [
        f"add server www/{NAME2} 10.66.0.2:80 id {ident} weight 1 pool-purge-delay 5s "
        "pool-max-conn -1 check inter 2000ms rise 2 fall 3",
        f"enable health www/{NAME2}",
        f"set server www/{NAME2} state drain",
        f"set server www/{NAME2} health stopping",
        f"set server www/{NAME2} state ready",
    ]
    assert plan.steps[0].told == "web2 (10.66.0.2:80) in www joined"


def test_one_that_nobody_checks_serves_at_once() -> None:
    both = config_of(WEB1, WEB2, check=Check(Checking.NONE), proxy="v1")
    add, ready = orders(make_plan(both, [], seen(both)[:1]))
    assert add.endswith(" pool-max-conn -1 send-proxy")
    assert ready == f"set server www/{NAME2} state ready"


def test_one_that_is_drained_from_the_start_stays_so() -> None:
    config = config_of(dataclasses.replace(WEB1, drain=True))
    assert not any("state" in it for it in orders(make_plan(config, [], [])))


def test_cookies_are_made_for_who_comes_at_run_time() -> None:
    config = config_of(WEB1, persistence=Persistence.COOKIE, cookie="A")
    assert "enable dynamic-cookie backend www" in orders(make_plan(config, [], []))


@pytest.mark.parametrize(
    ("change", "command"),
    [
        ({"weight": 7}, f"set server www/{NAME1} weight 1"),
        ({"address": "10.66.0.9"}, f"set server www/{NAME1} addr 10.66.0.1 port 80"),
        ({"port": 81}, f"set server www/{NAME1} addr 10.66.0.1 port 80"),
        ({"checking": False}, f"enable health www/{NAME1}"),
        ({"stopped": True}, f"set server www/{NAME1} state ready"),
        ({"drained": True}, f"set server www/{NAME1} state ready"),
    ],
)
def test_what_differs_is_set(change: dict[str, Any], command: str) -> None:
    config = config_of(WEB1)
    plan = make_plan(config, [], seen(config, **change))
    assert len(plan.steps) == 1
    assert orders(plan)[-1] == command
    assert plan.reload == ""


def test_another_id_needs_a_reload() -> None:
    config = config_of(WEB1)
    assert "another id" in make_plan(config, [], seen(config, ident=5)).reload


def test_an_order_is_kept_by_a_reload() -> None:
    config = config_of(WEB1, WEB2, algorithm=Algorithm.FIRST)
    first, second = seen(config)
    assert "into an order" in make_plan(config, [], [second]).reload
    ordered = [dataclasses.replace(it, ident=ident) for it, ident in ((first, 1), (second, 2))]
    assert make_plan(config, [], ordered).reload == ""
    turned = [dataclasses.replace(it, ident=ident) for it, ident in ((first, 2), (second, 1))]
    assert "out of order" in make_plan(config, [], turned).reload


def test_who_is_not_wanted_leaves_once() -> None:
    both, one = config_of(WEB1, WEB2), config_of(WEB1)
    (stray,) = strays(one, {}, seen(both))
    assert (stray.name, stray.host, stray.stopped, stray.backup) == (NAME2, "web2", True, False)
    assert strays(one, {stray.key: None}, seen(both)) == []
    plan = make_plan(one, [stray], seen(both))
    assert orders(plan) == [f"set server www/{NAME2} state maint"]
    assert plan.steps[0].told == "web2 (10.66.0.2:80) in www leaves"
    there = [dataclasses.replace(it, stopped=it.name == NAME2) for it in seen(both)]
    assert make_plan(one, [stray], there).steps == ()
    assert removal(stray, overdue=True)[0] == f"shutdown sessions server www/{NAME2}"
    assert removal(stray, overdue=False)[-1] == f"del server www/{NAME2}"


def test_what_haproxy_says_to_a_command_that_it_carried_out() -> None:
    for said in ("", "New server registered.", "Server deleted.",
                 "no need to change the addr, port changed from '80' to '9' by 'stats socket"
                 " command'", "IP changed from '10.0.0.1' to '10.0.0.2' by ..."):  # fmt: skip
        assert done(said), said
    for said in ("No such server.", "Unknown command.", "Server still has connections attached"):
        assert not done(said), said


def test_the_next_process_hears_of_who_is_down_and_who_is_new() -> None:
    config = config_of(WEB1, WEB2)
    there = {it.key: it for it in seen(config)}
    servers = list(config.servers.values())
    assert handed_over(servers, there) == NOBODY
    there["www", NAME1] = dataclasses.replace(there["www", NAME1], down=True, since=60)
    del there["www", NAME2]
    one, two = handed_over(servers, there).splitlines()[2:]
    columns = NOBODY.splitlines()[1].removeprefix("# ").split()
    first, second = (dict(zip(columns, it.split(), strict=True)) for it in (one, two))
    assert (first["srv_name"], second["srv_name"]) == (NAME1, NAME2)
    assert (first["srv_time_since_last_change"], first["srv_op_state"]) == ("60", "0")
    assert (second["srv_addr"], second["srv_port"]) == ("10.66.0.2", "80")
    assert second["srv_op_state"] == "3"
    there["www", NAME1] = dataclasses.replace(there["www", NAME1], coming=True)
    assert " 3 0 1 1 60 " in handed_over(servers, there).splitlines()[2]
    drained = [it.model_copy(update={"stopped": True}) for it in servers]
    assert handed_over(drained, {}) == NOBODY


@given(
    st.lists(
        st.builds(
            HapServer,
            pool=st.just("www"),
            name=st.sampled_from([NAME1, NAME2, "web3_fd66::3_80_backup"]),
            host=st.just("web"),
            address=st.ip_addresses().map(lambda it: str(it).partition("%")[0]),
            port=st.integers(1, 65535),
            ident=st.integers(1, 2**31),
            weight=st.integers(0, 256),
            checked=st.booleans(),
            stopped=st.booleans(),
            backup=st.booleans(),
        )
    ),
    st.data(),
)
def test_each_command_is_one(servers: list[HapServer], data: Any) -> None:
    config = config_of(WEB1, WEB2, persistence=Persistence.COOKIE, cookie="A")
    there = data.draw(st.lists(st.sampled_from([*seen(config), *seen(config, weight=9)])))
    for command in orders(make_plan(config, servers, there)):
        assert COMMAND.fullmatch(command)
    for server in servers:
        assert all(COMMAND.fullmatch(it) for it in removal(server, overdue=True))


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "169.254.169.254", "224.0.0.1"])
def test_no_server_is_within_the_balancer_itself(address: str) -> None:
    with pytest.raises(DriverError, match="cannot be rendered"):
        servers_of(Pool("default", (Server("web1", address, 80),)))
