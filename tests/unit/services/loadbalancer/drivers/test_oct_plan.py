# SPDX-License-Identifier: Apache-2.0
"""What a load balancer comes to in Octavia's words."""

from typing import Any

from cnsmo.services.loadbalancer.compile import compile_balancer
from cnsmo.services.loadbalancer.drivers.oct_plan import Wanted, wanted
from cnsmo.services.loadbalancer.service import LoadBalancerService
from cnsmo.services.loadbalancer.spec import LoadBalancerSpec
from tests.unit.services.loadbalancer import scenes

SERVICE = LoadBalancerService()


def said(adjusted: Any = None, **spec: Any) -> Wanted:
    pool = {"group": "web", "port": 8080}
    given = {"on": "edge", "listen": 80, "pool": pool, "driver": "octavia"}
    made = LoadBalancerSpec.model_validate({**given, **spec})
    view = scenes.view(scenes.deployment())
    return wanted(compile_balancer(view, made, "edge1", {}, adjusted or {}))


def test_members_are_reached_on_the_underlay() -> None:
    found = said().members
    assert found["web1"]["address"] == "10.1.0.21", "in the network of the VIP"
    assert found["web2"]["address"] == "198.51.100.22", "elsewhere"


def test_a_drained_server_gets_nothing_new() -> None:
    found = said({"web1": SERVICE.Adjustment(drain=True)}).members
    assert (found["web1"]["weight"], found["web2"]["weight"]) == (0, 1)


def test_weights_and_backups_are_octavias() -> None:
    pool = {"group": "web", "port": 8080, "weights": {"web1": 5}, "backup": ["web2"]}
    found = said(pool=pool).members
    assert (found["web1"]["weight"], found["web2"]["backup"]) == (5, True)


def test_requests_tell_where_they_came_from() -> None:
    (listener,) = said().listeners.values()
    assert listener["insert_headers"] == {"X-Forwarded-For": "true", "X-Forwarded-Proto": "true"}
    assert (listener["timeout_client_data"], listener["timeout_member_connect"]) == (60_000, 5_000)
    (plain,) = said(mode="tcp").listeners.values()
    assert plain["insert_headers"] == {}


def test_the_proxy_protocol_is_the_pools() -> None:
    assert said(proxy_protocol={"send": "v2"}).pool["protocol"] == "PROXYV2"
    assert said().pool["protocol"] == "HTTP"


def test_checks_are_octavias() -> None:
    check = said(check={"http": "/healthz", "rise": 3, "fall": 4, "status": 200}).monitor
    assert check == {
        "type": "HTTP",
        "delay": 2,
        "timeout": 1,
        "max_retries": 3,
        "max_retries_down": 4,
        "http_method": "GET",
        "url_path": "/healthz",
        "expected_codes": "200",
    }
    assert said(check="none").monitor is None
    assert said(mode="udp").monitor is None


def test_the_vip_is_asked_for() -> None:
    assert said(vip="10.1.0.100/24").vip == "10.1.0.100"
    assert said().vip == ""


def test_carriers_have_nothing_to_do_with_it() -> None:
    rows = scenes.deployment(scenes.balancer(driver="octavia"))
    assert SERVICE.units(scenes.view(rows), "edge1") == []
    assert SERVICE.listens(scenes.view(rows), "edge1") == []
