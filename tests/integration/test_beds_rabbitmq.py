# SPDX-License-Identifier: Apache-2.0
"""The broker's bed keeps its promises."""

import urllib.request

import kombu
import pytest
from amqp.exceptions import AccessRefused, ConnectionForced, NotAllowed

from tests.beds import RabbitmqBed, Vhost
from tests.beds.ports import is_free
from tests.beds.warden import is_alive


def test_a_message_survives_restart_and_kill(rabbitmq: RabbitmqBed, broker_vhost: Vhost) -> None:
    _publish(broker_vhost, "durable")
    before = set(rabbitmq.pids)
    rabbitmq.restart()
    assert [(q.name, q.type, q.messages) for q in rabbitmq.queues(broker_vhost)] == [
        ("durable", "classic", 1)
    ]
    rabbitmq.kill()
    assert not any(is_alive(pid) for pid in before)
    assert rabbitmq.pids == []
    assert is_free(rabbitmq.port)
    rabbitmq.start()
    with _connect(broker_vhost) as connection, connection.SimpleQueue("durable") as queue:
        assert queue.get(timeout=5).payload == "hello"


def test_queues_counts_consumers_and_knows_types(
    rabbitmq: RabbitmqBed, broker_vhost: Vhost
) -> None:
    with _connect(broker_vhost) as connection:
        arguments = {"x-queue-type": "quorum"}
        kombu.Queue("b", channel=connection, queue_arguments=arguments).declare()
        queue = kombu.Queue("a", channel=connection)
        queue.declare()
        queue.consume(callback=lambda body: None)
        found = [(q.name, q.type, q.messages, q.consumers) for q in rabbitmq.queues(broker_vhost)]
    assert found == [("a", "classic", 0, 1), ("b", "quorum", 0, 0)]


def test_close_all_connections_is_felt_by_the_client(
    rabbitmq: RabbitmqBed, broker_vhost: Vhost
) -> None:
    with _connect(broker_vhost) as connection:
        assert rabbitmq.connections() == 1
        assert rabbitmq.close_all_connections() == 1
        with pytest.raises((ConnectionForced, ConnectionError)):
            connection.drain_events(timeout=5)
    assert rabbitmq.connections() == 0


def test_an_account_is_shut_out_of_other_vhosts(rabbitmq: RabbitmqBed, broker_vhost: Vhost) -> None:
    other = rabbitmq.create_vhost()
    url = broker_vhost.transport_url.replace("rabbit:", "amqp:").rpartition("/")[0]
    with pytest.raises((NotAllowed, AccessRefused)):
        kombu.Connection(f"{url}/{other.name}").connect()
    rabbitmq.delete_vhost(other)
    with pytest.raises((NotAllowed, AccessRefused)):
        _connect(other)


def test_a_user_may_be_confined(rabbitmq: RabbitmqBed, broker_vhost: Vhost) -> None:
    rabbitmq.create_user("agent-1", 'p"w', broker_vhost.name, configure=r"^mine\..*$")
    host = f"127.0.0.1:{rabbitmq.port}"
    with kombu.Connection(f"amqp://agent-1:p%22w@{host}/{broker_vhost.name}") as connection:
        kombu.Queue("mine.1", channel=connection).declare()
        with pytest.raises(AccessRefused):
            kombu.Queue("yours.1", channel=connection).declare()


def test_a_paused_broker_is_silent_and_then_goes_on(
    rabbitmq: RabbitmqBed, broker_vhost: Vhost
) -> None:
    rabbitmq.pause()
    with pytest.raises(OSError):
        _connect(broker_vhost, timeout=1)
    rabbitmq.resume()
    _connect(broker_vhost).release()


def test_a_broker_with_plugins_and_settings_of_its_own() -> None:
    with RabbitmqBed(management=True, plugins=["rabbitmq_top"], config="heartbeat = 7\n") as bed:
        url = f"http://127.0.0.1:{bed.management_port}/"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"RabbitMQ" in answer.read()
        assert bed.evaluate("element(2, application:get_env(rabbit, heartbeat))") == 7
        assert "rabbitmq_top" in bed.evaluate("rabbit_plugins:active()")


def _connect(vhost: Vhost, timeout: float = 5) -> kombu.Connection:
    url = vhost.transport_url.replace("rabbit:", "amqp:")
    connection = kombu.Connection(url, connect_timeout=timeout)
    connection.connect()
    return connection


def _publish(vhost: Vhost, queue: str) -> None:
    url = vhost.transport_url.replace("rabbit:", "amqp:")
    confirm = {"confirm_publish": True}
    with kombu.Connection(url, transport_options=confirm) as connection:
        with connection.SimpleQueue(queue) as target:
            target.put("hello", delivery_mode="persistent")
