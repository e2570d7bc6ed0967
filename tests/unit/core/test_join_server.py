# SPDX-License-Identifier: Apache-2.0
"""The HTTPS port itself: who may talk to it, how, and for how long."""

import contextlib
import datetime
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from oslo_config import cfg

from cnsmo.agent.credentials import JOIN_TIMEOUT
from cnsmo.agent.join import JoinClient
from cnsmo.core.context import Core
from cnsmo.core.join_server import JoinServer
from cnsmo.core.membership import Membership
from cnsmo.model.errors import (
    CnsmoError,
    Conflict,
    Denied,
    InvalidRequest,
    NotFound,
    Unavailable,
    Untrusted,
)
from cnsmo.trust import authority, certificates, keys
from cnsmo.trust.authority import Authority
from tests.eventually import eventually
from tests.joining import join_request
from tests.unit.conftest import Operator

DEADLINE = 1.0
MOST = 4
START = Callable[..., threading.Thread]


@pytest.fixture
def conf(conf: cfg.ConfigOpts) -> cfg.ConfigOpts:
    conf.set_override("listen", "127.0.0.1", "join")
    conf.set_override("port", 0, "join")
    conf.set_override("deadline", DEADLINE, "join")
    conf.set_override("threads", 6, "join")
    # Two for who is slow; a join needs two, the second before the first one's end is noticed.
    conf.set_override("connections_per_source", MOST, "join")
    return conf


@pytest.fixture
def server(core: Core, conf: cfg.ConfigOpts) -> Iterator[JoinServer]:
    made = JoinServer(conf, Membership(core).join)
    made.start()
    yield made
    made.stop()


def ca(conf: cfg.ConfigOpts) -> Authority:
    return authority.load(Path(conf.join.ca_directory))


def door(server: JoinServer, fingerprint: str) -> JoinClient:
    return JoinClient(f"https://127.0.0.1:{server.port}", fingerprint, 10)


@pytest.fixture
def joining(server: JoinServer, conf: cfg.ConfigOpts) -> JoinClient:
    return door(server, ca(conf).fingerprint)


def plain(server: JoinServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 10)


def shaken(server: JoinServer, version: ssl.TLSVersion | None = None) -> ssl.SSLSocket:
    """A connection that believes anybody; version: the newest that it speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version is not None:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
    return context.wrap_socket(plain(server), server_hostname=certificates.CORE_NAME)


def heard(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while chunk := connection.recv(65536):
            found += chunk
    return found


def test_a_host_joins(core: Core, operator: Operator, joining: JoinClient) -> None:
    answer = joining.join(join_request(operator.token(source="127.0.0.1/32"), "web1"))
    assert core.identities.authenticate(answer.id, answer.secret).host == "web1"


def test_what_the_core_refuses_is_raised_as_the_same_error(
    operator: Operator, joining: JoinClient
) -> None:
    with pytest.raises(Denied, match="the join token is not valid"):
        joining.join(join_request("t-0.x", "web1"))
    operator.join("web1")
    with pytest.raises(Conflict, match="host readmit web1"):
        joining.join(join_request(operator.token(), "web1"))


def test_without_an_authority_there_is_no_server(conf: cfg.ConfigOpts) -> None:
    with pytest.raises(NotFound, match="cnsmo-manage ca init"):
        JoinServer(conf, lambda request, source: pytest.fail("nobody joins"))


def test_a_port_that_is_taken_is_named(core: Core, server: JoinServer) -> None:
    core.conf.set_override("port", server.port, "join")
    with pytest.raises(InvalidRequest, match=r"\[join\] listen, port: .*in use"):
        JoinServer(core.conf, Membership(core).join).start()


# whom to believe


def test_the_token_goes_to_nobody_but_the_core_that_was_pinned(
    operator: Operator, server: JoinServer
) -> None:
    other = Authority.new(datetime.datetime.now(datetime.UTC))
    token = operator.token(uses=1)
    with pytest.raises(Untrusted, match="Nothing secret was sent"):
        door(server, other.fingerprint).join(join_request(token, "web1"))
    assert operator.token_list(deployment="shop")[0]["uses_left"] == 1


@pytest.mark.parametrize("shown", ["other", "host"])
def test_who_only_shows_the_right_authority_gets_no_token(
    conf: cfg.ConfigOpts, core: Core, tmp_path: Path, thread: START, shown: str
) -> None:
    """An impostor shows a certificate of its own, or one that a host was given."""
    right, now = ca(conf), datetime.datetime.now(datetime.UTC)
    if shown == "other":
        chain = Authority.new(now).core_chain(now)
        pem = chain.key + chain.certificates
    else:
        key, life = keys.new_key(), datetime.timedelta(days=1)
        made = right.sign_host(key.public_key(), "h-1", "shop", "web1", now, life)
        pem = keys.key_pem(key) + certificates.pem(made)
    with impostor(tmp_path, pem, right.bundle(now), thread) as (port, heard_by_it):
        client = JoinClient(f"https://127.0.0.1:{port}", right.fingerprint, 10)
        with pytest.raises(Untrusted, match="somebody may be in between"):
            client.join(join_request("t-0.secret", "web1"))
    assert b"GET /v1/ca" in b"".join(heard_by_it)
    assert b"secret" not in b"".join(heard_by_it)


@pytest.mark.parametrize("code", ["removed", "denied"])
def test_an_impostors_error_is_not_believed(
    conf: cfg.ConfigOpts, core: Core, tmp_path: Path, thread: START, code: str
) -> None:
    """Else it could make hosts take everything down."""
    now = datetime.datetime.now(datetime.UTC)
    chain = Authority.new(now).core_chain(now)
    lie = json.dumps({"error": {"code": code, "message": "go away", "details": {}}})
    with impostor(tmp_path, chain.key + chain.certificates, lie, thread) as (port, _heard):
        client = JoinClient(f"https://127.0.0.1:{port}", ca(conf).fingerprint, 10)
        with pytest.raises(Untrusted):
            client.join(join_request("t-0.secret", "web1"))


@contextlib.contextmanager
def impostor(
    directory: Path, pem: str, body: str, thread: START
) -> Iterator[tuple[int, list[bytes]]]:
    """Answers everybody with one body, and notes what it hears."""
    (directory / "impostor.pem").write_text(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "impostor.pem")
    listener = socket.create_server(("127.0.0.1", 0))
    said: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _address = listener.accept()
                with contextlib.suppress(ssl.SSLError, ConnectionError), accepted:
                    with context.wrap_socket(accepted, server_side=True) as tls:
                        said.append(tls.recv(65536))
                        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                        tls.sendall((head + body).encode())

    thread(serve)
    try:
        yield listener.getsockname()[1], said
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize("url", ["", "http://core:1", "core:8743", "https://", "https://c/join"])
def test_a_url_that_leads_nowhere_is_named(url: str) -> None:
    with pytest.raises(InvalidRequest, match="join_url"):
        JoinClient(url, "0" * 64, 1)


def test_a_fingerprint_that_is_none_is_named() -> None:
    with pytest.raises(InvalidRequest, match="ca_fingerprint"):
        JoinClient("https://core:8743", "", 1)


def test_a_core_that_is_away_is_said_to_be_away(joining: JoinClient, server: JoinServer) -> None:
    server.stop()
    with pytest.raises(Unavailable, match=r"no core answers at https://127.0.0.1:\d+ "):
        joining.join(join_request("t-0.x", "web1"))


def test_hosts_find_the_core_by_the_old_and_by_the_new_authority(
    conf: cfg.ConfigOpts, operator: Operator, server: JoinServer
) -> None:
    old, now = ca(conf), datetime.datetime.now(datetime.UTC)
    new = old.successor(now, datetime.timedelta(days=1))
    new.save(Path(conf.join.ca_directory))
    for number, pinned in enumerate((old, new)):
        answer = door(server, pinned.fingerprint).join(
            join_request(operator.token(), f"web{number}")
        )
        made = x509.load_pem_x509_certificate(answer.certified.certificate.encode())
        made.verify_directly_issued_by(new.certificate)
    new.successor(now, datetime.timedelta(0)).save(Path(conf.join.ca_directory))
    with pytest.raises(Untrusted):
        door(server, old.fingerprint).join(join_request(operator.token(), "web3"))


# how to talk


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(server: JoinServer, version: ssl.TLSVersion, taken: bool) -> None:
    if taken:
        with shaken(server, version) as connection:
            connection.sendall(b"GET /v1/ca HTTP/1.0\r\n\r\n")
            assert heard(connection).startswith(b"HTTP/1.1 200")
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            shaken(server, version)


def test_plain_http_is_closed(server: JoinServer, joining: JoinClient) -> None:
    with plain(server) as connection:
        connection.sendall(b"GET /v1/ca HTTP/1.0\r\n\r\n")
        assert b"200" not in heard(connection)


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(server: JoinServer) -> None:
    with shaken(server) as connection:
        connection.sendall(b"POST /v1/join HTTP/1.1\r\nHost: c\r\nContent-Length: 9999999\r\n\r\n")
        assert heard(connection).startswith(b"HTTP/1.1 413")


def test_headers_without_end_are_refused(server: JoinServer) -> None:
    with shaken(server) as connection:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.sendall(b"GET /v1/ca HTTP/1.1\r\nX: " + b"x" * 100_000)
        assert b"200 OK" not in heard(connection)


def test_the_answer_says_nothing_of_the_software(server: JoinServer) -> None:
    with shaken(server) as connection:
        connection.sendall(b"GET /v1/ca HTTP/1.0\r\n\r\n")
        head = heard(connection).partition(b"\r\n\r\n")[0].lower()
    assert b"server: cnsmo" in head
    assert b"cheroot" not in head
    assert b"python" not in head


# how long, and how many


def silent(server: JoinServer) -> socket.socket:
    """Connects, and says nothing."""
    return plain(server)


def slow_shake(server: JoinServer) -> socket.socket:
    """Begins a handshake."""
    connection = plain(server)
    connection.sendall(b"\x16\x03\x01\x02\x00")
    return connection


def slow_head(server: JoinServer) -> socket.socket:
    connection = shaken(server)
    connection.sendall(b"POST /v1/join HTT")
    return connection


def slow_body(server: JoinServer) -> socket.socket:
    connection = shaken(server)
    connection.sendall(b"POST /v1/join HTTP/1.1\r\nHost: c\r\nContent-Length: 500\r\n\r\n{")
    return connection


SLOW = [silent, slow_shake, slow_head, slow_body]


@pytest.mark.parametrize("slow", SLOW)
def test_slow_clients_hold_nobody_up_and_are_closed(
    operator: Operator, server: JoinServer, joining: JoinClient, slow: Callable[..., socket.socket]
) -> None:
    with slow(server) as one, slow(server) as two:
        joining.join(join_request(operator.token(), "web1"))
        for connection in (one, two):
            assert b" 200 " not in heard(connection)


def test_a_client_that_is_always_busy_is_closed_at_its_deadline(
    server: JoinServer, thread: START
) -> None:
    ended = threading.Event()
    with slow_body(server) as connection:

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    connection.sendall(b" ")
            ended.set()

        thread(drip)
        assert ended.wait(10 * DEADLINE)


def test_one_source_cannot_take_all_connections(server: JoinServer) -> None:
    held = [slow_body(server) for _ in range(MOST)]
    with plain(server) as one_more:
        assert heard(one_more) == b""
    for connection in held:
        connection.close()

    def room() -> bool:
        with contextlib.suppress(ConnectionError, ssl.SSLError), shaken(server) as connection:
            connection.sendall(b"GET /v1/ca HTTP/1.0\r\n\r\n")
            return b" 200 " in heard(connection)
        return False

    eventually(room, what="there is room again")


def test_as_many_slow_clients_as_there_is_room_for_delay_a_host_by_moments(
    operator: Operator, conf: cfg.ConfigOpts, core: Core
) -> None:
    """From four addresses, far longer than an agent would wait."""
    conf.set_override("connections_per_source", 8, "join")
    conf.set_override("threads", 16, "join")
    conf.set_override("deadline", 600.0, "join")
    server = JoinServer(conf, Membership(core).join)
    server.start()
    try:
        held = [
            socket.create_connection(("127.0.0.1", server.port), 10, (f"127.0.0.{number}", 0))
            for number in (10, 11, 12, 13)
            for _time in range(7)
        ]
        for connection in held:
            connection.sendall(b"\x16")
        joining = JoinClient(f"https://127.0.0.1:{server.port}", ca(conf).fingerprint, JOIN_TIMEOUT)
        joining.join(join_request(operator.token(), "web1"))
        for connection in held:
            connection.close()
    finally:
        server.stop()


def test_more_connections_than_threads_are_closed_and_forgotten(
    operator: Operator, conf: cfg.ConfigOpts, core: Core
) -> None:
    conf.set_override("connections_per_source", 100, "join")
    server = JoinServer(conf, Membership(core).join)
    server.start()
    try:
        held = [silent(server) for _ in range(30)]
        for connection in held:
            assert heard(connection) == b""
            connection.close()
        joining = door(server, ca(conf).fingerprint)
        joining.join(join_request(operator.token(), "web1"))
        eventually(lambda: not server._server.ssl_adapter._count._open, what="all are forgotten")
    finally:
        server.stop()


def test_it_ends_while_clients_dawdle(core: Core, conf: cfg.ConfigOpts) -> None:
    server = JoinServer(conf, Membership(core).join)
    server.start()
    with slow_body(server), silent(server):
        server.stop()
    with pytest.raises(CnsmoError):
        door(server, ca(conf).fingerprint).join(join_request("t-0.x", "web1"))
