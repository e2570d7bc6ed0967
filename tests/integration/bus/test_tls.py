# SPDX-License-Identifier: Apache-2.0
"""Both sides prove themselves: the broker to the agent, and the agent to the broker."""

import socket
import ssl
from pathlib import Path

import pytest

from cnsmo.bus import transport
from cnsmo.bus.brokers.rabbitmq_api import ManagementApi
from cnsmo.model.errors import Unavailable
from cnsmo.model.messages import Heartbeat, JoinAnswer
from tests.beds.pki import Authority, Pair
from tests.beds.rabbitmq import AMQP_0_9_1
from tests.beds.rabbitmq_tls import MANAGER
from tests.integration.bus.site import RABBIT, TIMEOUT, Site

BEAT = Heartbeat(applied={})


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path / "other", "another authority")


def greeted(site: Site, pair: Pair | None) -> bool:
    """Whether the broker speaks AMQP with who shows that certificate, or none."""
    context = ssl.create_default_context(cafile=str(site.bed.authority.bundle))
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    with socket.create_connection(("127.0.0.1", site.bed.tls_port), TIMEOUT) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
                client.sendall(AMQP_0_9_1)
                return bool(client.recv(1))
        except (ssl.SSLError, ConnectionError):
            return False


def test_the_broker_talks_only_to_those_whom_the_authority_knows(
    site: Site, other: Authority
) -> None:
    assert greeted(site, site.bed.client)
    assert not greeted(site, None)
    assert not greeted(site, other.issue("anybody"))


def test_an_agent_does_not_talk_to_a_broker_of_another_authority(
    site: Site, victim: JoinAnswer, other: Authority
) -> None:
    transport.close()
    site.conf.set_override("ssl_ca_file", str(other.bundle), RABBIT)
    with pytest.raises(Unavailable):
        site.client(victim).heartbeat(BEAT)
    assert site.users() >= {f"agent-{victim.id}"}


def test_an_agent_does_not_talk_to_a_broker_of_another_name(site: Site, victim: JoinAnswer) -> None:
    elsewhere = victim.model_copy(
        update={"bus_url": victim.bus_url.replace("127.0.0.1", "localhost")}
    )
    assert elsewhere != victim
    with pytest.raises(Unavailable):
        site.client(elsewhere).heartbeat(BEAT)


def test_each_of_several_brokers_proves_its_own_name(site: Site, victim: JoinAnswer) -> None:
    """With the right authority, but a name of that address that its certificate has not."""
    account, _at, place = victim.bus_url.partition("://")[2].partition("@")
    address, _slash, rest = place.partition("/")
    wrong = address.replace("127.0.0.1", "127.1")
    several = f"rabbit://{account}@{wrong},{account}@{wrong}/{rest}"
    with pytest.raises(Unavailable):
        site.client(victim.model_copy(update={"bus_url": several})).heartbeat(BEAT)
    right = f"rabbit://{account}@{address},{account}@{address}/{rest}"
    again = victim.model_copy(update={"bus_url": right})
    assert site.client(again, role="other").heartbeat(BEAT).head > 0


def test_the_core_does_not_talk_to_a_management_api_of_another_authority(
    site: Site, other: Authority
) -> None:
    api = ManagementApi(site.bed.management_url, MANAGER, "x", str(other.bundle))
    with pytest.raises(Unavailable, match="certificate"):
        api.get("overview")
