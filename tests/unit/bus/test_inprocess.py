# SPDX-License-Identifier: Apache-2.0
"""The bus inside one process: complete, and asleep when nothing happens."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg
from oslo_messaging._drivers import amqpdriver

from cnsmo.bus import inprocess, transport
from cnsmo.bus.clients import AgentClient, CoreClient, OperatorClient
from cnsmo.bus.events import Announcer, Watch
from cnsmo.core.membership import Membership
from cnsmo.core.server import CoreServer
from cnsmo.model import messages as msg
from cnsmo.model.errors import Denied, InvalidDocument, SchemaMismatch, Unavailable
from cnsmo.model.host import HostFacts
from cnsmo.state.engine import engine_for
from cnsmo.trust import keys
from tests.eventually import eventually
from tests.joining import join_request, make_authority


@pytest.fixture
def server(conf: cfg.ConfigOpts) -> Iterator[CoreServer]:
    made = CoreServer(conf)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def operator(conf: cfg.ConfigOpts, server: CoreServer) -> OperatorClient:
    made = OperatorClient(conf, timeout=10)
    made.deployment_create("shop")
    return made


def event(message: str) -> msg.EventMessage:
    return msg.EventMessage(
        type="test.event", deployment="shop", message=message, at="2026-11-22T00:00:00Z"
    )


def test_every_call_of_operators_finds_its_way(operator: OperatorClient) -> None:
    assert operator.deployment_show("shop").revision == 0
    token = operator.token_create("shop", msg.TokenRequest(groups=["web"]))
    assert token.token
    assert [found.id for found in operator.token_list("shop")] == [token.id]
    operator.token_revoke("shop", token.id)
    document = "deployment: shop\nvpn: {backbone: {cidr: 10.66.0.0/16, driver: noop}}"
    plan = operator.plan(document)
    assert operator.apply(document, plan.base_revision).revision == 1
    (row,) = operator.service_list("shop")
    assert "@" in row.author
    assert operator.renew("shop", "vpn", "backbone") == 2
    assert operator.member_list("shop", "vpn", "backbone") == {}
    assert operator.host_list("shop") == []
    assert operator.rows("shop").snapshot
    operator.look("shop")
    assert operator.deployment_export("shop").startswith("deployment: shop\n")
    assert operator.plan_delete("shop", "vpn", "backbone").changes[0].action == "remove"
    assert operator.service_delete("shop", "vpn", "backbone") == 3
    operator.deployment_delete("shop")
    assert operator.deployment_list() == []
    with pytest.raises(InvalidDocument, match="the document is empty"):
        operator.plan("")


def test_every_call_of_agents_finds_its_way(
    conf: cfg.ConfigOpts, server: CoreServer, operator: OperatorClient
) -> None:
    make_authority(conf)
    key = keys.new_key()
    token = operator.token_create("shop", msg.TokenRequest()).token
    agent = CoreClient(conf, timeout=10)
    answer = Membership(server.core).join(join_request(token or "", "web1", key=key))
    with pytest.raises(Denied):
        agent.sync(0)
    agent.identify(answer.id, answer.secret)
    operator.apply("deployment: shop\nvpn: {backbone: {cidr: 10.66.0.0/16, driver: noop}}")
    assert agent.sync(0).snapshot
    agent.facts(HostFacts(site="east"))
    assert "CERTIFICATE" in agent.certify(keys.request(key, answer.id)).certificate
    offer = msg.Announcement(service="vpn", instance="backbone", body={"driver": "noop"})
    revision = agent.announce(offer)
    agent.report(msg.AgentReport(service="vpn", state="ready", applied_revision=revision))
    assert agent.heartbeat(msg.Heartbeat(applied={"vpn": revision})).confirmed == {"vpn": revision}
    agent.withdraw("vpn", "backbone")
    (host,) = operator.host_list("shop")
    assert (host.facts.site, host.agents[0].state) == ("east", "ready")
    operator.host_readmit("shop", "web1", 60)
    assert operator.host_list("shop")[0].readmit_until is not None
    assert operator.host_remove("shop", "web1") > revision
    assert operator.host_list("shop") == []


def test_a_core_that_is_away_is_said_to_be_away(conf: cfg.ConfigOpts) -> None:
    with pytest.raises(Unavailable, match=r"no core answered deployment_list in time"):
        OperatorClient(conf, timeout=0.1).deployment_list()


def test_a_core_refuses_a_database_that_needs_a_migration(
    conf: cfg.ConfigOpts, tmp_path: Any
) -> None:
    engine = engine_for(f"sqlite:///{tmp_path}/empty.sqlite")
    with pytest.raises(SchemaMismatch, match="run 'cnsmo-manage db upgrade'"):
        CoreServer(conf, engine).start()


def test_a_core_can_be_stopped_and_started_again(server: CoreServer, conf: cfg.ConfigOpts) -> None:
    server.stop()
    server.start()
    assert OperatorClient(conf, timeout=10).deployment_list() == []


def test_a_watch_sees_every_event_after_its_beginning_and_none_before(
    conf: cfg.ConfigOpts,
) -> None:
    announcer = Announcer(conf)
    announcer.send(event("too early"))
    with Watch(conf) as one, Watch(conf) as other:
        for number in range(5):
            announcer.send(event(str(number)))
        for watch in (one, other):
            got = [watch.next(5) for _ in range(5)]
            assert [found and found.message for found in got] == list("01234")
        assert one.next(0.01) is None


def test_a_watch_can_be_walked_through(conf: cfg.ConfigOpts) -> None:
    with Watch(conf) as watch:
        Announcer(conf).send(event("first"))
        assert next(iter(watch)).message == "first"


def test_an_event_that_cannot_be_sent_costs_nothing(
    conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch
) -> None:
    announcer = Announcer(conf)

    def fail(*_what: Any) -> None:
        raise ConnectionError("the broker is away")

    monkeypatch.setattr(announcer._watchers, "cast", fail)
    announcer.send(event("lost"))


class Hints:
    target = oslo_messaging.Target(version="1.0")

    def __init__(self) -> None:
        self.heads: list[int] = []

    def hint(self, ctxt: dict[str, Any], head: int) -> None:
        self.heads.append(head)


def test_a_hint_reaches_every_process_of_its_host_and_no_other(conf: cfg.ConfigOpts) -> None:
    listeners = {}
    for ident, role in (("h-1", "vpn"), ("h-1", "firewall"), ("h-2", "all")):
        topic = transport.agent_topic(ident)
        hints = Hints()
        server = oslo_messaging.get_rpc_server(
            transport.calls(conf),
            oslo_messaging.Target(topic=topic, exchange=topic, server=role),
            [hints],
            executor="threading",
        )
        server.start()
        listeners[ident, role] = (server, hints)
    client = AgentClient(conf)
    client.hint("h-1", 7)
    client.hint("h-2", 9)
    client.hint("h-nobody", 1)
    heads = {key: hints.heads for key, (_server, hints) in listeners.items()}
    eventually(lambda: all(heads.values()))
    for server, _hints in listeners.values():
        server.stop()
        server.wait()
    assert heads == {("h-1", "vpn"): [7], ("h-1", "firewall"): [7], ("h-2", "all"): [9]}


def test_an_idle_bus_does_not_poll(
    server: CoreServer, conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behaviour, not time: how often listeners look while nothing is published."""
    looks = 0
    drain = inprocess.Transport.drain_events

    def count(self: Any, connection: Any, timeout: float | None = None) -> None:
        nonlocal looks
        looks += 1
        drain(self, connection, timeout)

    monkeypatch.setattr(amqpdriver, "ACK_REQUEUE_EVERY_SECONDS_MAX", 5.0)  # as in production
    OperatorClient(conf, timeout=10).deployment_list()
    monkeypatch.setattr(inprocess.Transport, "drain_events", count)
    time.sleep(1.0)
    listeners = threading.active_count()
    assert looks <= 15 * listeners, "each listener looks more and more rarely"


def test_a_call_is_answered_by_an_event_and_not_by_the_next_poll(
    operator: OperatorClient, thread: Callable[..., threading.Thread]
) -> None:
    taken = []
    for _ in range(50):
        started = time.monotonic()
        operator.deployment_show("shop")
        taken.append(time.monotonic() - started)
    assert sorted(taken)[10] < 0.05, "a poll of 50 ms on either side would be seen here"


def test_many_callers_at_once_are_all_answered(
    operator: OperatorClient, conf: cfg.ConfigOpts
) -> None:
    answers: list[int] = []
    callers = [
        threading.Thread(
            target=lambda: answers.extend(
                OperatorClient(conf, timeout=20).deployment_show("shop").revision for _ in range(5)
            )
        )
        for _ in range(8)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert answers == [0] * 40


def test_two_cores_share_the_work(
    server: CoreServer, conf: cfg.ConfigOpts, operator: OperatorClient, monkeypatch: Any
) -> None:
    second = CoreServer(conf)
    second.start(health=False)
    for number in range(20):
        operator.deployment_create(f"d{number}")
    assert len(operator.deployment_list()) == 21
    server.stop()
    assert operator.deployment_show("d7").name == "d7"
    server.start()
    second.stop()
    assert operator.deployment_show("d8").name == "d8"
