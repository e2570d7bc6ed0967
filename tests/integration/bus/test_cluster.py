# SPDX-License-Identifier: Apache-2.0
"""A cluster of three brokers, of which one dies: the one that leads the queue of calls."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from cnsmo.bus import transport
from tests.beds.bed import MissingPackage
from tests.beds.rabbitmq import Vhost
from tests.beds.rabbitmq_cluster import RabbitmqCluster
from tests.integration.fleet import SHOP, Fleet
from tests.joining import Door


@pytest.fixture(scope="module")
def cluster() -> Iterator[RabbitmqCluster]:
    try:
        made = RabbitmqCluster()
    except MissingPackage as error:
        pytest.skip(f"MISSING SERVER: {error}")
    with made:
        yield made


@pytest.fixture
def vhost(cluster: RabbitmqCluster) -> Vhost:
    return cluster.members[0].create_vhost()


@pytest.fixture
def fleet(
    tmp_path: Path,
    cluster: RabbitmqCluster,
    vhost: Vhost,
    migrated_postgresql: str,
    conf: cfg.ConfigOpts,
    door: Door,
) -> Iterator[Fleet]:
    conf.set_override("quorum_queues", True, "bus")
    url = cluster.transport_url(vhost)
    made = Fleet(tmp_path, vhost, migrated_postgresql, conf, door, url=url)
    made.settings["bus"] = {**made.settings["bus"], "quorum_queues": True}
    yield made
    made.close()


def test_calls_and_hints_go_on_when_the_leader_of_their_queue_dies(
    fleet: Fleet, cluster: RabbitmqCluster, vhost: Vhost
) -> None:
    fleet.core().says("core answers")
    fleet.operator.deployment_create("shop")
    fleet.apply()
    agents = [fleet.agent(host, heartbeat=2) for host in ("web1", "web2")]
    fleet.until_ready("web1", "web2")
    types = {queue.name: queue.type for queue in cluster.members[0].queues(vhost)}
    for topic in (transport.AGENTS_TOPIC, transport.OPERATORS_TOPIC):
        assert types[topic] == "quorum"
    assert {types[name] for name in types if name.startswith("reply_")} == {"classic"}
    leader = cluster.leader(vhost, transport.OPERATORS_TOPIC)
    leader.kill()
    plan = fleet.insist(SHOP.replace("driver:", "listen_port: 9, driver:"))
    fleet.until_ready("web1", "web2", revision=plan.revision or 0, timeout=60)
    assert cluster.leader(vhost, transport.OPERATORS_TOPIC) is not leader
    assert all(program.process.alive for program in (*agents, *fleet.cores))
