# SPDX-License-Identifier: Apache-2.0
"""What becomes of requests on their way: headers, routes, who is let in, who is told."""

import dataclasses
import ipaddress
import string

import pytest

from cnsmo.services.loadbalancer.desired import (
    Bind,
    Check,
    Checking,
    Headers,
    Mode,
    Pool,
    Route,
    Timeouts,
)
from tests.eventually import eventually
from tests.functional.loadbalancer import hap_backend
from tests.functional.loadbalancer.hap_scene import QUICK, Scene, desired

PRINTABLE = "".join(it for it in string.printable if it.isprintable()).strip()
OTHER = "10.9.0.200"
"""Another address of the client."""


@pytest.fixture
def other(scene: Scene) -> str:
    scene.client.run(f"ip address replace {OTHER}/24 dev eth0")
    return OTHER


def test_servers_are_told_who_asks_whatever_the_client_says(scene: Scene) -> None:
    scene.serve(1)
    scene.settle(desired(*scene.servers(1)))
    lies = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    heard = scene.ask(headers=lies)["said"]["headers"]
    assert heard["x-forwarded-for"] == scene.site.net.address("client")
    assert heard["x-forwarded-proto"] == "http"
    heard = scene.ask(address=scene.address6)["said"]["headers"]
    assert heard["x-forwarded-for"] == scene.site.net.address("client", 6)
    scene.settle(desired(*scene.servers(1), headers=Headers(forwarded=False)))
    heard = scene.ask(headers=lies)["said"]["headers"]
    assert heard["x-forwarded-for"] == "192.0.2.1"


def test_headers_arrive_as_they_were_written(scene: Scene) -> None:
    """Each printable character, also those that mean something to HAProxy."""
    scene.serve(1)
    values = {"X-All": PRINTABLE, "X-Quotes": "'\"'", "X-Like": "%[src] ${HOME} %{+Q}o %% \\x41 #"}
    headers = Headers(request=tuple(values.items()), response=tuple(values.items()))
    scene.settle(desired(*scene.servers(1), headers=headers))
    answer = scene.ask(headers={"X-All": "of the client's"})
    for name, value in values.items():
        assert answer["said"]["headers"][name.lower()] == value
        assert answer["headers"][name.lower()] == value


def test_routes_lead_to_other_pools_and_the_first_that_matches_decides(scene: Scene) -> None:
    scene.serve(1, 2, 3, 4)
    pools = tuple(
        Pool(name, scene.servers(number), check=QUICK)
        for number, name in enumerate(("www", "api", "blog", "admin"), 1)
    )
    many = tuple(f"n{it}.example" for it in range(100))
    routes = (
        Route("admin", ("api.example",), "/admin"),
        Route("api", ("api.example", "rest.example")),
        Route("blog", (), "/blog"),
        Route("blog", many),
    )
    scene.settle(desired(pools=pools, routes=routes))

    def asked(host: str, path: str) -> str:
        return str(scene.ask(path, headers={"Host": host})["said"]["name"])

    assert asked("shop.example", "/") == "web1"
    assert asked("api.example", "/v1") == "web2"
    assert asked("REST.example:8080", "/v1") == "web2"
    assert asked("api.example", "/admin/x") == "web4"
    assert asked("rest.example", "/blog") == "web2"
    assert asked("shop.example", "/blog/1") == "web3"
    assert asked("shop.example", "/x/blog") == "web1"
    assert asked("n99.example", "/") == "web3"


def test_a_route_may_be_of_all_names_below_one(scene: Scene) -> None:
    scene.serve(1, 2, 3)
    pools = tuple(
        Pool(name, scene.servers(number), check=QUICK)
        for number, name in enumerate(("www", "below", "quoted"), 1)
    )
    routes = (Route("below", ("*.shop.example", "shop.example")), Route("quoted", (), "/it's(a)"))
    scene.settle(desired(pools=pools, routes=routes))

    def asked(host: str, path: str = "/") -> str:
        return str(scene.ask(path, headers={"Host": host})["said"]["name"])

    assert asked("a.shop.example") == asked("A.b.SHOP.example:80") == "web2"
    assert asked("shop.example") == "web2"
    assert asked("myshop.example") == asked("shop.example.org") == "web1"
    assert asked("x.example", "/it's(a)/b") == "web3"
    assert asked("x.example", "/its") == "web1"


@pytest.mark.parametrize("mode", [Mode.HTTP, Mode.TCP])
def test_only_who_is_allowed_comes_in(scene: Scene, other: str, mode: Mode) -> None:
    scene.serve(1)
    allow = (*(f"192.0.2.{it}/32" for it in range(100)), f"{other}/32", "fd09::/64")
    tcp = dataclasses.replace(QUICK, kind=Checking.TCP)
    scene.settle(desired(*scene.servers(1), allow=allow, mode=mode, check=tcp))
    assert scene.ask()["status"] == 0
    assert scene.ask(source=other)["status"] == 200
    assert scene.ask(address=scene.address6)["status"] == 200


def told(version: str, client: str) -> str:
    """What a proxy says before a client's first byte (proxy-protocol.txt, 2.1 and 2.2)."""
    if version == "v1":
        return f"PROXY TCP4 {client} 10.9.0.1 4711 80\r\n"
    addresses = ipaddress.IPv4Address(client).packed + ipaddress.IPv4Address("10.9.0.1").packed
    header = hap_backend.SIGNATURE + b"\x21\x11" + (len(addresses) + 4).to_bytes(2)
    return (header + addresses + (4711).to_bytes(2) + (80).to_bytes(2)).decode("latin-1")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_clients_behind_a_proxy_are_known(scene: Scene, version: str) -> None:
    scene.serve(1)
    known = {"accept_proxy": True, "allow": ("192.0.2.0/24",)}
    scene.settle(desired(*scene.servers(1), **known))
    heard = scene.ask(proxy=told(version, "192.0.2.7"))["said"]["headers"]
    assert heard["x-forwarded-for"] == "192.0.2.7"
    assert scene.ask(proxy=told(version, "198.51.100.7"))["status"] == 0
    assert scene.ask()["status"] == 0


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("mode", [Mode.HTTP, Mode.TCP])
def test_servers_are_told_the_client_by_the_proxy_protocol(
    scene: Scene, version: str, mode: Mode
) -> None:
    scene.serve(1, 2)
    scene.settle(desired(*scene.servers(1), proxy=version, mode=mode))
    scene.settle(desired(*scene.servers(1, 2), proxy=version, mode=mode))
    said = [answer["said"] for answer in scene.asks(4)]
    assert {it["name"] for it in said} == {"web1", "web2"}
    assert {it["proxied"] for it in said} == {scene.site.net.address("client")}
    (answer,) = scene.asks(1, address=scene.address6)
    assert answer["said"]["proxied"] == scene.site.net.address("client", 6)


def test_no_more_clients_than_allowed_at_once(scene: Scene) -> None:
    scene.serve(1)
    scene.settle(desired(*scene.servers(1), max_connections=2))
    held = [scene.begin("ask", path="/slow/2") for _ in range(2)]
    eventually(lambda: "\nCurrConns: 2\n" in scene.admin("show info"))
    assert scene.ask(timeout=0.5)["status"] == 0
    for process in held:
        process.communicate(timeout=20)
    assert scene.ask()["status"] == 200


def test_more_connections_than_the_host_allows_are_told_and_not_fatal(scene: Scene) -> None:
    scene.serve(1)
    wanted = desired(*scene.servers(1), max_connections=10**6)
    scene.settle(wanted)
    assert scene.ask()["status"] == 200
    (problem,) = scene.observe(wanted).problems
    assert problem.startswith("max_connections: 1000000 needs 20")


def test_a_server_that_is_silent_is_given_up_in_time(scene: Scene) -> None:
    scene.serve(1)
    scene.settle(desired(*scene.servers(1), timeouts=Timeouts(server=0.5)))
    assert scene.ask("/wait/3")["status"] == 504
    assert scene.ask("/slow/2")["status"] == 200


@pytest.mark.parametrize("statuses", [((200, 299),), ((503, 503),), ((204, 204), (500, 599))])
def test_checks_know_which_answers_are_good(
    scene: Scene, statuses: tuple[tuple[int, int], ...]
) -> None:
    scene.serve(1)
    check = dataclasses.replace(QUICK, statuses=statuses, method="HEAD", host="www.example")
    wanted = desired(*scene.servers(1), check=check)
    scene.settle(wanted)
    well = statuses[0][0] == 200
    eventually(lambda: scene.state(wanted, "web1") == ("up" if well else "down"))
    scene.sicken(1)
    eventually(lambda: scene.state(wanted, "web1") == ("down" if well else "up"))


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_checks_ask_what_was_written(scene: Scene, method: str) -> None:
    scene.serve(1)
    path = "/healthz/it's?deep=1&of=all"
    check = dataclasses.replace(QUICK, method=method, path=path, host="www.example")
    wanted = desired(*scene.servers(1), check=check)
    scene.settle(wanted)
    eventually(lambda: scene.state(wanted, "web1") == "up")
    heard = scene.ask("/checked")["said"]
    assert (heard["method"], heard["path"]) == (method, path)
    assert heard["headers"]["host"] == "www.example"


HALF, WHOLE = "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SILENCES = {
    "request": (Mode.HTTP, HALF, 408),
    "client": (Mode.HTTP, HALF, 408),
    "keep_alive": (Mode.HTTP, WHOLE, 200),
    "tunnel": (Mode.TCP, HALF, 0),
}


@pytest.mark.parametrize("key", SILENCES)
def test_a_client_that_is_silent_is_given_up_in_time(scene: Scene, key: str) -> None:
    mode, sent, status = SILENCES[key]
    scene.serve(1)
    tcp = dataclasses.replace(QUICK, kind=Checking.TCP)
    timeouts = Timeouts(**{key: 0.5})
    scene.settle(desired(*scene.servers(1), mode=mode, check=tcp, timeouts=timeouts))
    heard = scene.hear(sent)
    assert heard["status"] == status
    assert 0.5 <= heard["seconds"] < 5  # by default it is ten seconds at least


def test_a_server_that_takes_no_connection_is_given_up_in_time(scene: Scene) -> None:
    timeouts, unchecked = Timeouts(connect=0.3), Check(Checking.NONE)
    scene.settle(desired(*scene.servers(9), check=unchecked, timeouts=timeouts))
    chain = "{ type filter hook input priority 0; tcp dport 8009 drop; }"
    scene.pool.system.run("nft", "-f", "-", stdin=f"table inet deaf {{\nchain in {chain}\n}}\n")
    try:
        assert scene.ask(timeout=5)["status"] == 503  # four attempts; by default 20 seconds
    finally:
        scene.pool.system.run("nft", "delete", "table", "inet", "deaf")


def test_what_is_asked_for_is_shown(scene: Scene) -> None:
    scene.serve(1, 2)
    wanted = desired(
        scene.server(1, weight=3),
        scene.server(2),
        binds=(Bind("", 80), Bind(scene.address, 81)),
        check=Check(Checking.TCP, interval=0.2),
    )
    scene.settle(wanted)
    scene.asks(8)
    scene.asks(4, port=81)
    detail = scene.observe(wanted).detail
    assert detail["frontends"]["*:80"]["total"] == 8
    assert detail["frontends"][f"{scene.address}:81"]["total"] == 4
    servers = detail["servers"]["www"]
    assert {name: it["total"] for name, it in servers.items()} == {"web1": 9, "web2": 3}
    assert {name: it["weight"] for name, it in servers.items()} == {"web1": 3, "web2": 1}
    assert servers["web1"]["state"] == "up"
    assert servers["web1"]["why"] == "Layer4 check passed"
    assert servers["web1"]["errors"] == 0
    assert detail["vip"] is False
