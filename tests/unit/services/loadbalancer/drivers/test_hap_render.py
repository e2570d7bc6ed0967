# SPDX-License-Identifier: Apache-2.0
"""What HAProxy is told, and that nobody can make it hear anything else."""

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnsmo.model.errors import DriverError
from cnsmo.services.loadbalancer.desired import (
    Algorithm,
    Bind,
    Check,
    Checking,
    Headers,
    LoadBalancerDesired,
    Mode,
    Persistence,
    Pool,
    Route,
    Server,
    Tls,
)
from cnsmo.services.loadbalancer.drivers.hap_host import Host
from cnsmo.services.loadbalancer.drivers.hap_render import render
from tests.unit.services.loadbalancer.drivers.hap_words import (
    FULL,
    HOST,
    PLAIN,
    WEB1,
    WEB2,
    leaves,
    replaced,
    shape,
    words,
)

HOSTILE = st.one_of(
    st.text(min_size=1),
    st.text(alphabet="az09.:/-_ \n\r\t\0'\"\\#$%{}[];,", min_size=1, max_size=12),
    st.sampled_from(
        ["a\nglobal", "/a b", "a;b", "'", '"', "${HOME}", "#", "%[env(HOME)]", "%%", "1 or 2",
         "::1%eth0", "10.0.0.1/8", "*", "-f", "--", "{", "}", "a\\", "\x7f", "é", "٣"]
    ),
    st.integers(),
    st.floats(),
    st.none(),
    st.binary(),
    st.lists(st.text()),
)  # fmt: skip


def text_of(desired: LoadBalancerDesired, host: Host = HOST) -> str:
    return render(desired, host).text()


def section(text: str, name: str) -> list[str]:
    """A section's lines."""
    found = re.search(rf"^{re.escape(name)}\n((?:  .*\n)*)", text, re.MULTILINE)
    assert found, text
    return [line.strip() for line in found[1].splitlines()]


def changed(desired: LoadBalancerDesired, **pool: Any) -> list[str]:
    """The backend of the first pool, changed."""
    first, *others = desired.pools
    pools = (dataclasses.replace(first, **pool), *others)
    return section(text_of(dataclasses.replace(desired, pools=pools)), f"backend {first.name}")


WHOLE = shape(text_of(FULL))


# --- no value can add anything --------------------------------------------------------------


@settings(max_examples=500)
@given(path=st.sampled_from(leaves(FULL)), value=HOSTILE)
def test_no_value_can_add_a_line_a_keyword_or_a_word(path: tuple[Any, ...], value: Any) -> None:
    try:
        found = text_of(replaced(FULL, path, value))
    except DriverError:
        return
    shapes = [WHOLE]
    for nothing in ("", 0):  # which is the way to leave something out
        try:
            shapes.append(shape(text_of(replaced(FULL, path, nothing))))
        except DriverError:
            continue
    assert shape(found) in shapes


@given(name=st.text(), value=st.text(st.characters(codec="ascii")))
def test_a_header_is_rendered_as_one_word_or_not_at_all(name: str, value: str) -> None:
    headers = Headers(request=((name, value),))
    try:
        found = text_of(dataclasses.replace(PLAIN, headers=headers))
    except DriverError:
        return
    (line,) = [it for it in section(found, "frontend front-0") if f"set-header {name} " in it]
    *_, last = words(line)
    assert last.replace("%%", "%") == value
    assert re.sub("%%", "", last).count("%") == 0


@given(st.text(), st.text())
def test_what_the_host_adds_is_checked_as_well(label: str, user: str) -> None:
    host = dataclasses.replace(HOST, label=label, user=user)
    try:
        found = render(PLAIN, host).text()
    except DriverError:
        return
    assert len(found.splitlines()) == len(text_of(PLAIN).splitlines()) - (0 if user else 2)


@pytest.mark.parametrize("secret", ["", "short", "x" * 64, "ab" * 32 + "\n"])
def test_a_damaged_secret_is_not_used_and_not_shown(secret: str) -> None:
    with pytest.raises(DriverError) as caught:
        text_of(FULL, dataclasses.replace(HOST, secret=secret))
    assert "secret is damaged" in str(caught.value)
    assert not secret or secret not in str(caught.value)


# --- what is rendered -----------------------------------------------------------------------


def test_it_listens_everywhere_in_both_versions_of_ip() -> None:
    lines = section(text_of(PLAIN), "frontend front-0")
    assert lines[:2] == ["bind 0.0.0.0:80", "bind [::]:80 v6only"]
    without = dataclasses.replace(HOST, ipv6=False)
    assert "[::]" not in text_of(PLAIN, without)


def test_an_address_may_come_later_than_haproxy() -> None:
    lines = section(text_of(FULL), "frontend front-1")
    assert lines[0].startswith("bind [fd00::5]:8443 transparent accept-proxy ssl crt-list ")
    assert "ssl-min-ver TLSv1.2" in lines[0]
    assert lines[0].endswith("ca-file ../certificates/ca.pem verify required")


def test_servers_have_names_and_ids_of_their_own_whoever_else_is_there() -> None:
    (first, second) = section(text_of(PLAIN), "backend www")[-2:]
    assert first.startswith("server web1_10.66.0.1_8080 10.66.0.1:8080 id ")
    assert first.endswith(" weight 1")
    assert second.startswith("server web2_fd66::2_8080_backup [fd66::2]:8080 id ")
    assert second.endswith(" weight 3 backup disabled")
    (alone,) = changed(PLAIN, servers=(WEB1,))[-1:]
    assert alone == first


@pytest.mark.parametrize(
    ("algorithm", "lines"),
    [
        (Algorithm.ROUNDROBIN, ["balance roundrobin"]),
        (Algorithm.LEASTCONN, ["balance leastconn"]),
        (Algorithm.SOURCE, ["balance source", "hash-type consistent"]),
        (Algorithm.RANDOM, ["balance random"]),
        (Algorithm.FIRST, ["balance first"]),
        (Algorithm.URI, ["balance uri", "hash-type consistent"]),
    ],
)
def test_algorithms(algorithm: Algorithm, lines: list[str]) -> None:
    found = changed(PLAIN, algorithm=algorithm)
    assert found[: len(lines)] == lines
    assert (" id " in found[-1]) is (algorithm is not Algorithm.FIRST)


def test_checks() -> None:
    check = Check(Checking.HTTP, 1.5, 0.25, 3, 4, "HEAD", "/a?b=%20", "www.example",
                  ((200, 299), (404, 404)))  # fmt: skip
    assert changed(PLAIN, check=check)[2:6] == [
        "timeout check 250ms",
        "option httpchk",
        "http-check send meth HEAD uri '/a?b=%20' ver HTTP/1.1 hdr Host www.example",
        "http-check expect status 200-299,404-404",
    ]
    assert "default-server check inter 1500ms rise 3 fall 4" in changed(PLAIN, check=check)
    assert not any("check" in it for it in changed(PLAIN, check=Check(Checking.NONE)))


def test_persistence() -> None:
    lines = changed(PLAIN, persistence=Persistence.COOKIE, cookie="SRV")
    assert "cookie SRV insert indirect nocache httponly attr SameSite=Lax dynamic" in lines
    assert f"dynamic-cookie-key {HOST.secret}" in lines
    assert any(" httponly secure " in it for it in section(text_of(FULL), "backend www"))
    found = text_of(FULL)
    assert "stick on src" in section(found, "backend api")
    assert section(found, "peers own") == [
        "bind unix@peers.sock user haproxy mode 600", "server cnsmo",
    ]  # fmt: skip


def test_without_another_user_it_runs_as_who_starts_it() -> None:
    alone = dataclasses.replace(HOST, user="", group="")
    found = text_of(FULL, alone)
    assert not re.search(r"^  (user|group) ", found, re.MULTILINE)
    assert section(found, "peers own")[0] == "bind unix@peers.sock mode 600"


def test_long_lists_are_split_into_lines_that_haproxy_takes() -> None:
    allow = tuple(f"10.{it // 256}.{it % 256}.0/24" for it in range(1000))
    routes = (Route("www", tuple(f"n{it}.example" for it in range(200))),)
    found = text_of(dataclasses.replace(PLAIN, allow=allow, routes=routes))
    assert max(len(words(line)) for line in found.splitlines()) <= 64
    assert sum(line.count(".0/24") for line in found.splitlines()) == 1000


def test_the_fingerprint_tells_structures_apart_and_not_servers() -> None:
    first = render(PLAIN, HOST)
    pools = (dataclasses.replace(PLAIN.pools[0], servers=(WEB1,)),)
    assert render(dataclasses.replace(PLAIN, pools=pools), HOST).fingerprint == first.fingerprint
    check = dataclasses.replace(PLAIN.pools[0], check=Check(interval=3))
    for other in (
        dataclasses.replace(PLAIN, pools=(check,)),
        dataclasses.replace(PLAIN, max_connections=5),
        dataclasses.replace(PLAIN, binds=(Bind("", 81),)),
    ):
        assert render(other, HOST).fingerprint != first.fingerprint
    assert f'description "cnsmo shop/edge1/www {first.fingerprint}"' in first.text()


def test_those_who_leave_are_in_the_file_and_get_nothing() -> None:
    config = render(PLAIN, HOST)
    one = config.servers["www", "web1_10.66.0.1_8080"]
    gone = one.model_copy(update={"name": "web9_10.66.0.9_8080", "stopped": True})
    found = section(config.text([gone]), "backend www")
    assert found[-1].startswith("server web9_10.66.0.9_8080 ")
    assert found[-1].endswith(" disabled")


def test_a_thousand_servers_have_a_thousand_ids() -> None:
    servers = tuple(Server(f"web{it}", f"10.66.{it // 250}.{it % 250}", 80) for it in range(1000))
    pools = (Pool("www", servers),)
    config = render(dataclasses.replace(PLAIN, pools=pools), HOST)
    assert len({it.ident for it in config.servers.values()}) == 1000


# --- what cannot be ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mode": Mode.UDP}, "mode"),
        ({"binds": ()}, "listen somewhere"),
        ({"pools": ()}, "needs pools"),
        ({"pools": (Pool("www", ()), Pool("www", ()))}, "a name of its own"),
        ({"pools": (Pool("www", (WEB1, WEB1)),)}, "twice"),
        ({"routes": (Route("nowhere"),)}, "no pool"),
        ({"mode": Mode.TCP, "routes": (Route("www"),)}, "need mode: http"),
        ({"mode": Mode.TCP, "headers": Headers(request=(("A", "b"),))}, "need mode: http"),
        ({"mode": Mode.TCP, "pools": (Pool("www", (), Algorithm.URI),)}, "cannot look at paths"),
        (
            {"mode": Mode.TCP,
             "pools": (Pool("www", (), persistence=Persistence.COOKIE, cookie="A"),)},
            "cannot set a cookie",
        ),
        (
            {"mode": Mode.TCP, "tls": Tls(("/a.pem",), redirects=(Bind("", 80),))},
            "needs mode: http",
        ),
        ({"tls": Tls(("/a.pem",), minimum="1.0")}, "minimum version"),
        ({"pools": (Pool("www", (), proxy="v3"),)}, "PROXY protocol"),
        ({"pools": (Pool("www", (), check=Check(Checking.HTTP, statuses=())),)}, "statuses"),
        ({"pools": (Pool("www", (dataclasses.replace(WEB2, weight=257),)),)}, "weight"),
    ],
)  # fmt: skip
def test_what_haproxy_cannot_do_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(DriverError, match=said):
        text_of(dataclasses.replace(PLAIN, **wrong))


def test_each_thread_has_a_processor_of_its_own_where_there_are_several_and_not_many() -> None:
    lines = text_of(PLAIN, dataclasses.replace(HOST, processors=(2, 3, 5))).splitlines()
    assert "  nbthread 3" in lines
    assert "  cpu-map auto:1/1-3 2 3 5" in lines
    for processors in ((), (0,), tuple(range(17))):
        text = text_of(PLAIN, dataclasses.replace(HOST, processors=processors))
        assert "nbthread" not in text
        assert "cpu-map" not in text
