# SPDX-License-Identifier: Apache-2.0
"""A core asks Heat for documents: what it reads and answers, with Heat's own engine and routes."""

import contextlib
import http.server
import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import engine
import pytest
from heat.api.openstack import v1
from heat.engine import scheduler, service_software_config, stack, template
from heat.rpc import client as rpc
from heat.tests import utils
from oslo_config import cfg

sys.path.insert(0, str(engine.TOP))

from cnsmo.boot import heat
from cnsmo.model.errors import Denied, NotFound, Unavailable

FOLLOWER = """
heat_template_version: 2021-04-16
resources:
  follower:
    type: OS::Heat::DeployedServer
    properties: {software_config_transport: POLL_SERVER_HEAT}
"""
DOCUMENT = {"deployment": "shop", "vpn": {"backbone": {"cidr": "10.66.0.0/16"}}}


class Cloud:
    """Keystone's tokens, and Heat's API over its engine: on a port, one request at a time."""

    def __init__(self) -> None:
        self.stacks: dict[str, stack.Stack] = {}
        self.refuses = 0
        self.logged_in: list[dict[str, Any]] = []
        self._routes = v1.API(cfg.CONF).map
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self, {})

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                outer.answer(self, json.loads(self.rfile.read(length)))

            def log_message(self, *_args: Any) -> None:
                """Nothing."""

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.server_close()

    def answer(self, asked: http.server.BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        headers, told = {}, None
        if asked.path == "/v3/auth/tokens":
            self.logged_in.append(body["auth"])
            headers = {"X-Subject-Token": f"token-{len(self.logged_in)}"}
            told = {"token": {"catalog": self._catalog(body["auth"]["scope"]["project"]["id"])}}
            status = 201
        elif asked.headers["X-Auth-Token"] != f"token-{len(self.logged_in)}" or self.refuses:
            self.refuses = max(0, self.refuses - 1)
            status = 401
        else:
            status, told = self._heat(asked.command, asked.path.removeprefix("/v1"), body)
        text = json.dumps(told).encode()
        asked.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text))}.items():
            asked.send_header(name, value)
        asked.end_headers()
        asked.wfile.write(text)

    def _catalog(self, project: str) -> list[dict[str, Any]]:
        def at(region: str, interface: str, url: str) -> dict[str, str]:
            return {"region": region, "interface": interface, "url": url}

        here = f"{self.url}/v1/{project}"
        others = [at("East", "public", "http://192.0.2.1/"), at("", "internal", "http://192.0.2.2")]
        return [
            {"type": "identity", "endpoints": [at("West", "public", "http://192.0.2.3")]},
            {"type": "orchestration", "endpoints": [*others, at("West", "public", here)]},
        ]

    def _heat(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        found = self._routes.match(path, {"REQUEST_METHOD": method})
        assert found, f"Heat has no {method} {path}"
        one = self.stacks.get(found["stack_id"])
        if one is None:
            return 404, None
        assert (one.name, one.stack_user_project_id) == (found["stack_name"], found["tenant_id"])
        resource = one[found["resource_name"]]
        if found["action"] == "metadata":
            return 200, {"metadata": resource.metadata_get(refresh=True)}
        assert found["action"] == "signal"
        resource.signal(body)
        return 200, None

    def during(self, work: Callable[[], Any]) -> Any:
        """What work comes to; meanwhile whatever it asks is answered, in this thread."""
        outcome: list[Any] = []

        def do() -> None:
            try:
                outcome.append(work())
            except Exception as exc:  # noqa: BLE001  # raised again below
                outcome.append(exc)

        worker = threading.Thread(target=do)
        worker.start()
        self._server.timeout = 0.05
        while worker.is_alive():
            self._server.handle_request()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]


class InProcess(rpc.EngineClient):
    """Heat's client of its engine, and the part of it that is asked here, without a bus between."""

    def __init__(self) -> None:
        self._engine = service_software_config.SoftwareConfigService()

    def call(self, ctxt: Any, msg: Any, version: Any = None, timeout: Any = None) -> Any:
        method, values = msg
        return getattr(self._engine, method)(ctxt, **values)

    @contextlib.contextmanager
    def ignore_error_by_name(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            if type(exc).__name__ != name:
                raise


@pytest.fixture(scope="session", autouse=True)
def _started() -> None:
    engine.start()


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    made = Cloud()
    keystone = "heat.engine.clients.os.keystone.fake_keystoneclient.FakeKeystoneClient"
    monkeypatch.setattr(
        f"{keystone}.server_keystone_endpoint_url",
        lambda *_a, **_k: f"{made.url}/v3",
        raising=False,
    )
    cfg.CONF.set_override("region_name_for_services", "West")
    with mock.patch("heat.engine.resource.Resource.rpc_client", return_value=InProcess()):
        yield made
    made.close()


def steps(work: Callable[..., Any], **how: Any) -> Iterator[None]:
    """Bring a stack forward, step by step, to the end."""
    runner = scheduler.TaskRunner(work, **how)
    runner.start()
    while not runner.step():
        yield


@pytest.fixture
def follower(cloud: Cloud) -> dict[str, Any]:
    """What the core's user-data has; the resource is there."""
    parsed = template.Template(engine.template_format.parse(FOLLOWER))
    made = stack.Stack(utils.dummy_context(), f"core-{uuid.uuid4().hex}", parsed)
    made.store()
    for _step in steps(made.stack_task, action=made.CREATE):
        pass
    assert made.state == ("CREATE", "COMPLETE"), made.status_reason
    cloud.stacks[made.id] = made
    resource = made["follower"]
    return {"id": resource.resource_id, **resource.FnGetAtt("os_collect_config", "heat")}


def deployment(cloud: Cloud, follower: dict[str, Any], document: Any, **more: Any) -> stack.Stack:
    given = {"core": follower["id"], "document": document, **more}
    made = engine.load("lib/deployment.yaml", given, f"shop-{uuid.uuid4().hex}")
    made.store()
    cloud.stacks[made.id] = made
    return made


def read(cloud: Cloud, follower: dict[str, Any]) -> list[heat.Declared]:
    asking = heat.Heat(heat.Seat.of(follower))
    return list(heat.declared(cloud.during(asking.metadata)))


def until_declared(cloud: Cloud, follower: dict[str, Any], task: Iterator[None]) -> heat.Declared:
    """The document, once Heat has it for whom asks."""
    for _step in task:
        found = read(cloud, follower)
        if found:
            return found[-1]
    raise AssertionError("it has ended before anybody was asked")


def test_a_document_is_applied_and_its_change_too(cloud: Cloud, follower: dict[str, Any]) -> None:
    made = deployment(cloud, follower, DOCUMENT, within=90)
    creating = steps(made.stack_task, action=made.CREATE)
    first = until_declared(cloud, follower, creating)
    assert json.loads(first.text) == DOCUMENT
    assert (first.within, first.name) == (90, made.name)
    cloud.during(lambda: heat.Heat(first.reply).signal({"deploy_status_code": 0}))
    list(creating)
    assert made.state == ("CREATE", "COMPLETE"), made.status_reason
    assert [one.ident for one in read(cloud, follower)] == [first.ident]
    changed = {**DOCUMENT, "firewall": {}}
    wanted = engine.load("lib/deployment.yaml", {"core": follower["id"], "document": changed})
    updating = steps(made.update_task, newstack=wanted)
    for _step in updating:
        (second,) = read(cloud, follower)
        if second.ident != first.ident:
            break
    assert json.loads(second.text) == changed
    cloud.during(lambda: heat.Heat(second.reply).signal({"deploy_status_code": 0}))
    list(updating)
    assert made.state == ("UPDATE", "COMPLETE"), made.status_reason
    last = stack.Stack.load(utils.dummy_context(), stack_id=made.id)
    last.delete()
    assert last.state == ("DELETE", "COMPLETE"), last.status_reason
    assert read(cloud, follower) == [], "nobody was waited for"


def test_a_document_that_is_refused_fails_the_stack_with_the_reason(
    cloud: Cloud, follower: dict[str, Any]
) -> None:
    made = deployment(cloud, follower, {"deployment": "shop", "vpn": {"backbone": {}}})
    creating = steps(made.stack_task, action=made.CREATE)
    one = until_declared(cloud, follower, creating)
    reason = "<stdin>:1:1: vpn.backbone.cidr: Field required"
    cloud.during(lambda: heat.Heat(one.reply).signal({heat.REFUSED: reason}))
    list(creating)
    assert made.state == ("CREATE", "FAILED")
    assert f"Deployment to server failed: refused : {reason}" in made.status_reason


def test_a_token_whose_time_is_over_is_asked_for_again(
    cloud: Cloud, follower: dict[str, Any]
) -> None:
    asking = heat.Heat(heat.Seat.of(follower))
    cloud.during(asking.metadata)
    cloud.during(asking.metadata)
    assert len(cloud.logged_in) == 1
    cloud.refuses = 1
    cloud.during(asking.metadata)
    assert len(cloud.logged_in) == 2
    cloud.refuses = 2
    with pytest.raises(Denied, match=r"refuses who asks \(401\)"):
        cloud.during(asking.metadata)


def test_what_does_not_answer_is_told_without_a_secret(
    cloud: Cloud, follower: dict[str, Any]
) -> None:
    seat = heat.Seat.of(follower)
    assert follower["password"] not in repr(seat)
    with pytest.raises(NotFound):
        cloud.during(heat.Heat(heat.Seat.of({**follower, "stack_id": "core/gone"})).metadata)
    with pytest.raises(Unavailable, match="no public URL of Heat of the region North"):
        cloud.during(heat.Heat(heat.Seat.of({**follower, "region_name": "North"})).metadata)
    cloud.close()
    with pytest.raises(Unavailable, match="does not answer: Connection refused"):
        heat.Heat(seat).metadata()
