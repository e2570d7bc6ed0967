# SPDX-License-Identifier: Apache-2.0
"""Nobody is locked out: wrong policies on five hosts at once, with real agents and a real broker.

What a policy can cut, and what it cannot:

* SSH is a fail-safe port, and the agent's own way to the core is always open. Where the hosts call
  the core by their underlay, no policy makes them lose it, whatever it says.
* A host may call the core through a network that is none of CNSMO's: here a VXLAN, as an operator
  has for management; a VPN of another maker is the same. The always-open rule knows the address
  that the agent calls, not what carries the packets there. A policy that forgets the carrier cuts
  the host off, and the host has to take it back by itself.
"""

import json
import math
import time
from collections.abc import Callable, Iterator

import pytest

from cnsmo import conf as options
from tests.acceptance.doors import Gap
from tests.acceptance.site import (
    AMQP,
    APP,
    CLOSED,
    CORE,
    DEPLOYMENT,
    HOSTS,
    MANAGEMENT,
    SSH,
    UNDERLAY,
    VXLAN,
    Site,
    each,
)
from tests.beds import RabbitmqBed

CONFIRM = 4
BOUND = CONFIRM + 5
"""Seconds after which a host has to be back."""
REASON = f"host: no answer from the core within {CONFIRM} s; the last good policy is back"
CARRIER = f"{{name: management, from: {CORE}, protocol: udp, ports: {VXLAN}}}"
GOOD = f"""\
    confirm: {CONFIRM}
    inbound:
      - {CARRIER}
      - {{name: app, protocol: tcp, ports: {APP}}}
"""
NO_SSH = f"""\
    confirm: {CONFIRM}
    inbound:
      - {CARRIER}
      - {{name: no-ssh, protocol: tcp, ports: {SSH}, action: drop}}
"""
NO_BROKER = f"""\
    confirm: {CONFIRM}
    inbound:
      - {CARRIER}
    outbound:
      - {{name: no-broker, to: {CORE}, action: drop}}
"""
NOTHING = f"""\
    confirm: {CONFIRM}
    default: {{inbound: drop, outbound: drop}}
    failsafe: []
"""
CUTS = pytest.mark.parametrize("policy", [NO_BROKER, NOTHING], ids=["broker", "everything"])

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def shop(rabbitmq: RabbitmqBed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Five hosts; nothing is declared."""
    options.register()
    options.CONF([], project="cnsmo", default_config_files=[], default_config_dirs=[])
    vhost = rabbitmq.create_vhost()
    with Site(tmp_path_factory.mktemp("lockout"), vhost) as site:
        yield site
    options.CONF.reset()
    options.CONF.clear_override("url", "bus")
    rabbitmq.delete_vhost(vhost)


def settled(site: Site, way: str) -> Site:
    """The good policy is in force on all hosts, which call the core that way."""
    site.call_by(way)
    site.until(lambda: len(site.firewalls()) == len(HOSTS), "all have joined")
    said = site.apply_and_wait(GOOD)
    assert said.code == 0, (said, site.logs())
    core = f"{way} . {AMQP}"
    site.until(lambda: all(core in rules for rules in site.rules().values()), "all call that way")
    site.forget_events()
    return site


@pytest.fixture
def direct(shop: Site) -> Site:
    """The hosts call the core by their underlay."""
    return settled(shop, UNDERLAY)


@pytest.fixture
def managed(shop: Site) -> Site:
    """The hosts call the core through the operator's own management network."""
    return settled(shop, MANAGEMENT)


def test_ssh_is_never_shut_by_a_policy_that_shuts_it(direct: Site) -> None:
    begun = time.monotonic()
    said = direct.apply_and_wait(NO_SSH)
    assert said.code == 0, said
    now = time.monotonic()
    assert direct.answers(SSH, begun, now) == {"open"}
    assert direct.answers(CLOSED, begun, now) == {"silent"}
    assert all(direct.gap(host, begun) for host in HOSTS), "it is in force"


def test_ssh_that_is_kept_for_the_operator_is_open_to_nobody_else(direct: Site) -> None:
    begun = time.monotonic()
    said = direct.apply_and_wait(f"{NO_SSH}    failsafe: {{ports: {SSH}, from: {CORE}}}\n")
    assert said.code == 0, said
    assert direct.answers(SSH, begun, time.monotonic()) == {"open"}
    neighbours = dict(zip(HOSTS, (*HOSTS[1:], HOSTS[0]), strict=True))
    assert set(each(lambda host: direct.ask(neighbours[host], host, SSH))) == {"silent"}


def test_who_declares_no_failsafe_port_gets_ssh_shut_and_opens_it_again(direct: Site) -> None:
    """It is what was asked for, and the hosts can be managed: nothing has to be taken back."""
    said = direct.apply_and_wait(f"{NO_SSH}    failsafe: []\n")
    assert said.code == 0, said
    shut = time.monotonic()
    assert direct.apply_and_wait(GOOD).code == 0
    assert direct.answers(SSH, shut, shut) == {"silent"}
    now = time.monotonic()
    assert direct.answers(SSH, now, now) == {"open"}


@CUTS
def test_no_policy_cuts_a_hosts_own_way_to_the_core(direct: Site, policy: str) -> None:
    """It stays in force, and the next one arrives."""
    begun = time.monotonic()
    said = direct.apply_and_wait(policy)
    assert said.code == 0, said
    shown = json.loads(direct.manage("firewall", "show", "-f", "json").out)
    assert {(host["state"], host["trial"]) for host in shown} == {("ready", False)}
    shut = time.monotonic()
    assert direct.answers(APP, shut, shut) == {"silent"}
    assert direct.apply_and_wait(GOOD).code == 0
    now = time.monotonic()
    assert direct.answers(APP, now, now) == {"open"}
    assert direct.answers(CLOSED, begun, now) == {"silent"}


def test_quarantine_shuts_all_but_the_fail_safe_ports_and_the_way_to_the_core(
    direct: Site,
) -> None:
    shut, other = HOSTS[:2]
    in_force(direct, shut, direct.operator.host_quarantine(DEPLOYMENT, shut))
    now = time.monotonic()
    knocked = {port: direct.doors.answers(direct.door(shut, port), now, now) for port in (SSH, APP)}
    assert knocked == {SSH: {"open"}, APP: {"silent"}}
    assert direct.ask(shut, other, SSH) == "silent"
    assert direct.ask(other, shut, SSH) == "open"
    assert direct.calls(shut, CORE, direct.join_port) == "open"
    assert direct.calls(shut, CORE, SSH) == "silent"
    # That it hears of its release shows that its way to the broker was open.
    in_force(direct, shut, direct.operator.host_quarantine(DEPLOYMENT, shut, release=True))
    now = time.monotonic()
    assert direct.answers(APP, now, now) == {"open"}
    assert direct.ask(shut, other, SSH) == "open"


def in_force(site: Site, host: str, revision: int) -> None:
    """Wait until a host has that revision in force, and has proven its way to the core."""

    def look() -> bool:
        if site.firewalls()[host].applied_revision < revision:
            return False
        shown = json.loads(site.manage("firewall", "show", "-f", "json").out)
        return (host, "ready", False) in {(it["host"], it["state"], it["trial"]) for it in shown}

    site.until(look, f"{host} has {revision}")


@CUTS
def test_cut_off_hosts_take_it_back_and_the_operator_is_told(managed: Site, policy: str) -> None:
    before, begun = managed.rules(), time.monotonic()
    said = managed.apply_and_wait(policy)
    assert said.code == 9, said
    for host in HOSTS:
        assert f"{host} firewall: error: {REASON}\n" in said.err
    back = returned(managed, begun)
    assert all(gap.ended - begun <= BOUND for gap in back), back
    check(managed, before, begun, back)
    if policy == NO_BROKER:
        assert managed.answers(SSH, begun, time.monotonic()) == {"open"}


@CUTS
def test_they_do_so_when_their_agents_are_killed_meanwhile(managed: Site, policy: str) -> None:
    before, begun = managed.rules(), time.monotonic()
    managed.apply(policy)
    killed = each(lambda host: at_once_when_shut(managed, host, begun, managed.kill_agent))
    back = returned(managed, begun)
    assert all(gap.ended - begun <= BOUND for gap in back), back
    assert all(gap.begun < at < gap.ended for gap, at in zip(back, killed, strict=True))
    assert managed.rules() == before
    each(managed.start_agent)
    check(managed, before, begun, back)


@CUTS
def test_they_do_so_when_they_are_rebooted_meanwhile(managed: Site, policy: str) -> None:
    """What was on trial then has neither failed nor passed: each agent tries it once more."""
    before, begun = managed.rules(), time.monotonic()
    managed.apply(policy)
    each(lambda host: at_once_when_shut(managed, host, begun, managed.reboot))
    assert managed.rules() == before, "at once, without any agent"
    back = returned(managed, begun)
    assert all(gap.ended - begun <= BOUND for gap in back), back
    again = time.monotonic()
    each(managed.start_agent)
    managed.until(lambda: all(managed.gap(host, again) for host in HOSTS), "the second trial")
    back = returned(managed, again)
    assert all(gap.seconds <= BOUND for gap in back), back
    check(managed, before, begun, back)


def at_once_when_shut(site: Site, host: str, since: float, do: Callable[[str], None]) -> float:
    """Do something to a host as soon as the new policy is in force there; returns when it was."""
    site.until(lambda: site.gap(host, since), f"the policy is in force on {host}")
    at = time.monotonic()
    do(host)
    return at


def returned(site: Site, since: float) -> list[Gap]:
    """Wait until all hosts are back; for how long each had the wrong policy."""

    def gaps() -> list[Gap]:
        found = [site.gap(host, since) for host in HOSTS]
        return [gap for gap in found if gap and gap.ended < math.inf]

    site.until(lambda: len(gaps()) == len(HOSTS), "all hosts are back")
    return gaps()


def check(site: Site, before: dict[str, str], begun: float, back: list[Gap]) -> None:
    """All hosts are as before, for good; the operator sees which had to go back, and why."""
    failed = dict.fromkeys(HOSTS, ("error", REASON))
    site.until(
        lambda: {host: (it.state, it.reason) for host, it in site.firewalls().items()} == failed,
        "all hosts are in error",
    )
    shown = site.manage("firewall", "show").out  # for which all agents look anew
    for host in HOSTS:
        assert f"{host}: {REASON}\n" in shown
    listed = json.loads(site.manage("host", "list", "-f", "json").out)
    assert {host["name"]: host["state"]["firewall"] for host in listed} == dict.fromkeys(
        HOSTS, "error"
    )
    site.until(lambda: site.events("agent.error") == dict.fromkeys(HOSTS, REASON), "all events")
    now = time.monotonic()
    assert site.rules() == before
    assert site.answers(APP, max(gap.ended for gap in back), now) == {"open"}, "not tried again"
    assert site.answers(CLOSED, begun, now) == {"silent"}
