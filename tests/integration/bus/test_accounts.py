# SPDX-License-Identifier: Apache-2.0
"""Agents with accounts of their own: they work, two by two, and are thrown out for good."""

import logging
import threading
from collections.abc import Callable

import amqp
import pytest
from oslo_messaging import TransportURL

from cnsmo.agent.process import AgentProcess
from cnsmo.bus import transport
from cnsmo.bus.broker import load
from cnsmo.core.membership import Membership
from cnsmo.model.audit import Act
from cnsmo.model.errors import CnsmoError, Removed, Unavailable
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import Heartbeat, JoinAnswer
from tests.eventually import eventually
from tests.integration.bus.site import TIMEOUT, Site

ANNA = Act.of_operator("anna", "host remove")

SHOP = "deployment: shop\nvpn:\n  backbone: {{cidr: 10.66.0.0/16, driver: noop{more}}}\n"
BEAT = Heartbeat(applied={})
START = Callable[..., threading.Thread]


def is_ready(site: Site, revision: int) -> Callable[[], bool]:
    """Whether the agents of all hosts are ready at that revision."""

    def look() -> bool:
        agents = [agent for host in site.operator.host_list("shop") for agent in host.agents]
        return all(a.state is State.READY and a.applied_revision >= revision for a in agents)

    return look


def remove(site: Site, host: str) -> None:
    Membership(site.core.core).remove("shop", host, ANNA)


def test_an_agent_with_its_own_account_is_ready_and_hears_hints(site: Site, thread: START) -> None:
    site.operator.apply(SHOP.format(more=""))
    agents: list[AgentProcess] = [site.agent(site.join(host)) for host in ("web1", "web2")]
    for agent in agents:
        thread(agent.run)
    eventually(is_ready(site, 1), 20, "both are ready")
    plan = site.operator.apply(SHOP.format(more=", listen_port: 4242"))
    assert plan.revision
    # Far below the heartbeat of 60 s: a hint told them.
    eventually(is_ready(site, plan.revision), 20, "both have the change")
    for agent in agents:
        agent.stop()


def test_processes_of_one_host_have_answers_of_their_own(site: Site) -> None:
    answer = site.join("web1")
    clients = [site.client(answer, role) for role in ("vpn", "firewall")]
    heads = [client.heartbeat(BEAT).head for client in clients for _again in range(3)]
    assert len(set(heads)) == 1
    assert {f"reply_{answer.id}:vpn:1", f"reply_{answer.id}:firewall:1"} <= site.names("queues")


def test_who_joins_again_has_the_same_account(site: Site) -> None:
    answer = site.join("web1")
    assert site.core.core.broker.admit(answer.id) == answer.bus_url
    assert site.client(answer).heartbeat(BEAT).head > 0


def test_removal_closes_the_living_connection_and_leaves_nothing(
    site: Site, thief: JoinAnswer, victim: JoinAnswer
) -> None:
    site.client(thief).heartbeat(BEAT)
    theirs, other = site.connect(thief), site.connect(victim)
    remove(site, "thief")
    with pytest.raises((amqp.ConnectionForced, OSError)):
        theirs.drain_events(timeout=TIMEOUT)
    with pytest.raises(amqp.AccessRefused):
        site.connect(thief)
    with pytest.raises(TimeoutError):
        other.drain_events(timeout=0.1)
    other.close()
    eventually(lambda: not of(site, thief), TIMEOUT, "nothing of the host is left")


def of(site: Site, answer: JoinAnswer) -> set[str]:
    """What bears a host's id at the broker."""
    names = site.names("queues") | site.names("exchanges") | site.users()
    return {name for name in names if answer.id in name}


def test_a_removal_while_the_broker_is_away_is_made_good(site: Site, thief: JoinAnswer) -> None:
    site.client(thief).heartbeat(BEAT)
    site.bed.stop()
    remove(site, "thief")
    site.bed.start()
    eventually(lambda: mended(site), 20, "the periodic work reaches the broker")
    assert of(site, thief) == set()
    with pytest.raises(amqp.AccessRefused):
        site.connect(thief)


def mended(site: Site) -> bool:
    """Whether one look of the periodic work came through."""
    try:
        site.core.core.bouncer.audit(fix=True)
    except Unavailable:
        return False
    return True


def test_a_removed_host_may_hear_of_it_before_it_is_thrown_out(site: Site) -> None:
    site.conf.set_override("farewell", 600.0, "bus")
    site.core.stop()
    site.core.start(health=False)
    answer = site.join("web1")
    agent = site.agent(answer)
    remove(site, "web1")
    with pytest.raises(Removed, match="was removed"):
        agent.run()
    assert site.core.core.bouncer.audit(fix=True) == []


def test_the_certificate_is_the_login_where_the_operator_wants_it_so(site: Site) -> None:
    site.core.stop()
    site.conf.set_override("agents_login", "certificate", "bus")
    site.core.start(health=False)
    answer = site.join("web1")
    pair = site.bed.authority.issue(f"agent-{answer.id}")
    files = f"&ssl_cert_file={pair.certificate}&ssl_key_file={pair.key}"
    (place,) = TransportURL.parse(site.conf, answer.bus_url).hosts
    assert not place.password
    with_certificate = answer.model_copy(update={"bus_url": answer.bus_url + files})
    assert site.client(with_certificate).heartbeat(BEAT).head > 0
    assert site.core.core.bouncer.audit(fix=False) == []
    transport.close()
    with pytest.raises(amqp.AccessRefused):
        site.login(f"agent-{answer.id}", "", site.vhost)


def test_another_hosts_certificate_does_not_open_the_account(site: Site) -> None:
    site.core.stop()
    site.conf.set_override("agents_login", "certificate", "bus")
    site.core.start(health=False)
    thief, victim = site.join("thief"), site.join("victim")
    pair = site.bed.authority.issue(f"agent-{thief.id}")
    files = f"&ssl_cert_file={pair.certificate}&ssl_key_file={pair.key}"
    posing = victim.model_copy(update={"bus_url": victim.bus_url + files})
    with pytest.raises(Unavailable):
        site.client(posing).heartbeat(BEAT)


def test_no_log_line_and_no_message_has_a_secret(
    site: Site, thief: JoinAnswer, victim: JoinAnswer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = site.join("web1")
    site.client(answer).heartbeat(BEAT)
    site.conf.set_override("management_password", "wrong-and-secret", "bus")
    with pytest.raises(CnsmoError, match="management_password") as refused:
        load(site.conf).prepare()
    site.api.put("users", f"agent-{victim.id}", body={"password": "x", "tags": ""})
    with pytest.raises(Unavailable) as shut:
        site.client(victim).heartbeat(BEAT)
    (place,) = TransportURL.parse(site.conf, answer.bus_url).hosts
    (theirs,) = TransportURL.parse(site.conf, victim.bus_url).hosts
    said = f"{caplog.text}{refused.value}{shut.value}"
    assert "web1" in said
    for secret in (place.password, theirs.password, "wrong-and-secret", site.bed.password):
        assert secret not in said


def test_who_was_replaced_is_thrown_out_and_hears_nothing_of_who_came(site: Site) -> None:
    old = site.join("web1")
    connection = site.connect(old)
    site.operator.host_readmit("shop", "web1", 60)
    new = site.join("web1")
    eventually(lambda: site.users() & {f"agent-{old.id}"} == set(), TIMEOUT, "the account is gone")
    assert site.client(new).heartbeat(BEAT).head > 0
    with pytest.raises((amqp.AMQPError, OSError)):
        connection.channel().queue_declare(f"cnsmo-agent.{old.id}.spy")
    with pytest.raises((amqp.AMQPError, OSError)):
        site.connect(old)
    assert not {name for name in site.names("exchanges") if old.id in name}
    assert site.core.core.bouncer.audit(fix=False) == []
