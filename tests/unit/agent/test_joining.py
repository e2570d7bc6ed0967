# SPDX-License-Identifier: Apache-2.0
"""Whatever befalls the way to the core, an agent joins in the end; only a refusal ends it."""

import contextlib
import datetime
import json
import re
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from cnsmo.agent.identity import EVERY_SERVICE, StateDir
from cnsmo.agent.process import AgentProcess
from cnsmo.agent.settings import Settings
from cnsmo.agent.system import LocalSystem
from cnsmo.bus.clients import OperatorClient
from cnsmo.core.server import CoreServer
from cnsmo.model.errors import CnsmoError, Conflict, Denied, InvalidRequest
from cnsmo.model.host import HostFacts
from cnsmo.model.messages import TokenRequest
from cnsmo.trust import authority
from cnsmo.trust.authority import Authority
from tests.eventually import eventually
from tests.joining import Door

START = Callable[..., object]
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: what is closed so is reset."""
FAULTS = {
    "HTTP 429": "HTTP 429",
    "HTTP 500": "HTTP 500",
    "HTTP 502": "HTTP 502",
    "HTTP 503": "HTTP 503",
    "HTTP 504": "HTTP 504",
    "a reset connection": "no core answers",
    "an answer that is cut off": "no core answers",
    "another certificate": "somebody may be in between",
    "another authority": "is not the core with the fingerprint",
}
"""What befalls a join, and what the agent then says."""


class Front:
    """Stands before the core's door, and lets through only what no fault befalls."""

    def __init__(self, conf: cfg.ConfigOpts, directory: Path) -> None:
        self.fault = ""
        self.refusal: CnsmoError | None = None
        self._behind = ("127.0.0.1", conf.join.port)
        self._directory = directory
        self._authority = authority.load(Path(conf.join.ca_directory))
        self._stranger = Authority.new(_now())
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        """Until it is closed; one connection after the other."""
        with contextlib.suppress(OSError):
            while True:
                accepted, _address = self._listener.accept()
                with accepted, contextlib.suppress(OSError):
                    self._take(accepted)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _take(self, accepted: socket.socket) -> None:
        if not self.fault and self.refusal is None:
            self._let_through(accepted)
            return
        if self.fault == "a reset connection":
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return
        liar = self._stranger if self.fault.startswith("another") else self._authority
        chain = liar.core_chain(_now())
        path = self._directory / "front.pem"
        path.write_text(chain.key + chain.certificates)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        with context.wrap_socket(accepted, server_side=True) as tls:
            tls.sendall(self._answer(_request(tls).startswith(b"GET /v1/ca")))

    def _answer(self, authorities: bool) -> bytes:
        shown = self._stranger if self.fault == "another authority" else self._authority
        body, status, length = shown.bundle(_now()), "200 OK", 0
        if self.refusal is not None and not authorities:
            told = {"code": self.refusal.code, "message": self.refusal.message, "details": {}}
            body, status = json.dumps({"error": told}), "403 Forbidden"
        elif self.fault.startswith("HTTP") and not authorities:
            body, status = "", f"{self.fault.removeprefix('HTTP ')} Fault"
        elif self.fault == "an answer that is cut off":
            length = 10
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) + length}\r\n\r\n"
        return (head + body).encode()

    def _let_through(self, accepted: socket.socket) -> None:
        with socket.create_connection(self._behind, 10) as core:
            ends = {accepted: core, core: accepted}
            accepted.settimeout(0.05)
            core.settimeout(0.05)
            while True:
                for end, other in ends.items():
                    with contextlib.suppress(TimeoutError):
                        if not (chunk := end.recv(65536)):
                            return
                        other.sendall(chunk)


def _request(tls: ssl.SSLSocket) -> bytes:
    """A whole request: what is closed with something unread is reset."""
    head, body = b"", b""
    while b"\r\n\r\n" not in head and (chunk := tls.recv(65536)):
        head += chunk
    head, _end, body = head.partition(b"\r\n\r\n")
    told = re.search(rb"(?i)content-length: (\d+)", head)
    while told and len(body) < int(told[1]) and (chunk := tls.recv(65536)):
        body += chunk
    return head


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Scene:
    """A core, a front, and one agent that wants in."""

    def __init__(self, conf: cfg.ConfigOpts, front: Front, door: Door, path: Path) -> None:
        self.front = front
        self.end: BaseException | None = None
        self.operator = OperatorClient(conf, timeout=10)
        self.operator.deployment_create("shop")
        token = self.operator.token_create("shop", TokenRequest()).token or ""
        settings = Settings(
            state_dir=StateDir(path / "web1", EVERY_SERVICE),
            host="web1",
            services=("vpn",),
            system=LocalSystem(),
            facts=HostFacts,
            token=lambda: token,
            rpc_timeout=2,
            retry_max=0.2,
            join_url=front.url,
            ca_fingerprint=door.ca_fingerprint,
        )
        self.agent = AgentProcess(conf, settings)

    def run(self) -> None:
        try:
            self.agent.run()
        except CnsmoError as exc:
            self.end = exc

    @property
    def joined(self) -> list[str]:
        return [host.name for host in self.operator.host_list("shop")]


@pytest.fixture
def scene(conf: cfg.ConfigOpts, door: Door, tmp_path: Path, thread: START) -> Iterator[Scene]:
    core, front = CoreServer(conf), Front(conf, tmp_path)
    core.start()
    made = Scene(conf, front, door, tmp_path)
    thread(front.serve)
    yield made
    made.agent.stop()
    front.close()
    core.stop()


@pytest.mark.parametrize("fault", FAULTS)
def test_an_agent_tries_on_and_says_why_until_it_has_joined(
    scene: Scene, thread: START, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    scene.front.fault = fault
    thread(scene.run)
    eventually(lambda: caplog.text.count("cannot join yet: ") >= 2)
    lines = [line for line in caplog.messages if "cannot join yet: " in line]
    assert all(FAULTS[fault] in line and "Next try in " in line for line in lines), lines
    assert scene.joined == []
    scene.front.fault = ""
    eventually(lambda: scene.joined == ["web1"])
    assert scene.end is None


@pytest.mark.parametrize("kind", [Denied, Conflict, InvalidRequest])
def test_a_refusal_ends_the_agent_with_what_the_core_said(
    scene: Scene, thread: START, kind: type[CnsmoError]
) -> None:
    scene.front.refusal = kind("the core says no")
    thread(scene.run)
    eventually(lambda: scene.end is not None)
    assert type(scene.end) is kind
    assert str(scene.end) == "the core says no"
