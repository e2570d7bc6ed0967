# SPDX-License-Identifier: Apache-2.0
"""From the token to the broker: an agent joins over HTTPS, and its certificate is its login."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg
from oslo_messaging import TransportURL

from cnsmo.bus.clients import OperatorClient
from tests.beds import TlsRabbitmqBed
from tests.integration.bus.trusted import (
    TrustedFleet,
    certificate,
    make_old,
    remembered,
    validity,
)
from tests.integration.fleet import SHOP
from tests.joining import Door, open_door

DAY = datetime.timedelta(days=1)


@pytest.fixture
def door(conf: cfg.ConfigOpts, ca_directory: Path, door_port: int) -> Door:
    """The hosts' certificates come from the authority that the broker knows."""
    conf.set_override("ca_directory", str(ca_directory), "join")
    return open_door(conf, door_port)


@pytest.fixture
def trusted(
    tmp_path: Path,
    tls_rabbitmq: TlsRabbitmqBed,
    conf: cfg.ConfigOpts,
    door: Door,
    migrated_postgresql: str,
) -> Iterator[TrustedFleet]:
    """A core is configured, and does not run yet."""
    made = TrustedFleet(tmp_path, tls_rabbitmq, migrated_postgresql, conf, door)
    yield made
    made.close()


@pytest.fixture
def shop(trusted: TrustedFleet) -> TrustedFleet:
    """A core runs, and the deployment ``shop`` has a VPN."""
    trusted.core().says("core answers on cnsmo-core and cnsmo-operator")
    trusted.operator.deployment_create("shop")
    trusted.apply()
    return trusted


def test_an_agent_that_has_but_a_token_logs_in_with_its_certificate(shop: TrustedFleet) -> None:
    agent = shop.agent("web1")
    shop.until_ready("web1")
    known = remembered(agent)
    (place,) = TransportURL.parse(shop.conf, known["bus_url"]).hosts
    assert (place.username, place.password) == (f"agent-{known['id']}", "")
    shop.until(lambda: shop.connections(agent), "the broker tells of the connections")
    for connection in shop.connections(agent):
        assert connection["auth_mechanism"] == "EXTERNAL"
        assert connection["peer_cert_subject"] == f"CN=agent-{known['id']}"
        assert connection["vhost"] == shop.agents_vhost
    private = [path for path in agent.state_dir.rglob("*") if path.is_file()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


def test_two_agents_hear_of_each_other(shop: TrustedFleet) -> None:
    agents = [shop.agent(host) for host in ("web1", "web2")]
    # Far below the heartbeat of a minute: hints told them.
    shop.until(lambda: agents[0].peers == {"web2"} and agents[1].peers == {"web1"}, "both know")


def test_a_certificate_is_renewed_in_time_and_used_for_the_next_connection(
    shop: TrustedFleet, ca_directory: Path
) -> None:
    agent = shop.agent("web1")
    shop.until_ready("web1")
    agent.stop()
    make_old(agent, ca_directory, 61 * DAY)
    old = validity(agent)
    agent.start().says("has a new certificate")
    assert validity(agent) > old
    shop.bed.close_all_connections()
    plan = shop.insist(SHOP.replace("driver: noop", "driver: noop, mtu: 1300"))
    shop.until_ready("web1", revision=plan.revision or 0)
    # The broker writes "NOT BEFORE - NOT AFTER" as 2026-11-22T13:30:00Z.
    new = f"{certificate(agent).not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"

    def all_new() -> bool:
        found = shop.connections(agent)
        return bool(found) and all(new in it["peer_cert_validity"] for it in found)

    shop.until(all_new, "the broker sees the new certificate alone")


def test_a_host_that_slept_through_it_comes_back_by_a_fresh_token(
    shop: TrustedFleet, ca_directory: Path
) -> None:
    agent = shop.agent("web1")
    shop.until_ready("web1")
    ident, token = remembered(agent)["id"], shop.directory / "web1-1.token"
    agent.stop()
    make_old(agent, ca_directory, 91 * DAY)
    agent.start().says("the certificate of host 'web1' has ended, as it was off for long")
    token.write_text(shop.token())
    agent.says("joined shop as web1")
    plan = shop.apply(SHOP.replace("driver: noop", "driver: noop, mtu: 1300"))
    shop.until_ready("web1", revision=plan.revision or 0)
    assert remembered(agent)["id"] == ident


def test_while_the_management_api_is_away_only_joins_wait(trusted: TrustedFleet) -> None:
    trusted.bed.evaluate("application:stop(rabbitmq_management)")
    core = trusted.core().says("agents are not admitted yet: the broker's management API does not")
    core.says("core answers on cnsmo-operator")
    trusted.operator.deployment_create("shop")
    trusted.apply()
    agent = trusted.agent("web1").says("cannot join yet: the core at https://127.0.0.1")
    trusted.bed.evaluate("application:start(rabbitmq_management)")
    trusted.until_ready("web1")
    assert agent.process.alive


def test_agents_are_answered_by_a_core_that_starts_without_the_management_api(
    shop: TrustedFleet,
) -> None:
    shop.agent("web1")
    shop.until_ready("web1")
    shop.programs[0].stop()
    shop.bed.evaluate("application:stop(rabbitmq_management)")
    shop.core("second").says("core answers on cnsmo-core")
    shop.operator = OperatorClient(shop.conf, timeout=10)
    plan = shop.apply(SHOP.replace("driver: noop", "driver: noop, mtu: 1300"))
    shop.until_ready("web1", revision=plan.revision or 0)
    shop.bed.evaluate("application:start(rabbitmq_management)")
