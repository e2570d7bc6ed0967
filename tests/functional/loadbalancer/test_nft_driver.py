# SPDX-License-Identifier: Apache-2.0
"""What every driver promises, for the nftables driver: nothing twice, nothing left behind."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cnsmo.model.errors import DriverError, DriverUnavailable, ProgramError
from cnsmo.services.firewall.desired import Action
from cnsmo.services.firewall.drivers.nftables import NftablesDriver as Firewall
from cnsmo.services.loadbalancer.desired import Algorithm, Bind, Persistence
from cnsmo.services.loadbalancer.drivers import nfl_keeper
from tests.eventually import eventually
from tests.functional.firewall.listing import plain, uncounted
from tests.functional.firewall.scene import FOREIGN, desired, opened
from tests.functional.loadbalancer.nft_scene import (
    LB6,
    NAMES,
    NONE,
    PORT,
    Scene,
    balancer,
    kill,
    server,
    server6,
)
from tests.functional.vpn.systems import Killed, Recorder, Saboteur, is_reading

pytest_plugins = ["tests.functional.loadbalancer.nft_scene"]

STICKY = balancer("a", "b", server6("c"), persistence=Persistence.SOURCE)


def test_needs_are_met_here_which_is_tried_once(nft_scene: Scene) -> None:
    nft_scene.driver.check()
    assert nft_scene.lb.run("nft list ruleset") == ""
    recorder = nft_scene.driver.system = Recorder(nft_scene.lb.system)
    nft_scene.driver.check()
    assert recorder.commands == []


@pytest.mark.parametrize(("program", "package"), [("nft", "nftables"), ("conntrack", "conntrack")])
def test_what_is_missing_is_named(nft_scene: Scene, monkeypatch, program, package) -> None:
    monkeypatch.setattr(nft_scene.lb.system, "has", lambda name: name != program)
    with pytest.raises(DriverUnavailable, match=f"install the package {package}"):
        nft_scene.driver.check()


def test_a_kernel_that_refuses_is_named(nft_scene: Scene, monkeypatch) -> None:
    def refuse(*_args, **_options):
        raise ProgramError("nft: Operation not supported")

    monkeypatch.setattr(nft_scene.lb.system, "run", refuse)
    with pytest.raises(DriverUnavailable, match="Operation not supported"):
        nft_scene.driver.check()


# --- nothing twice ------------------------------------------------------------------------


def test_what_is_as_desired_is_left_alone(nft_scene: Scene) -> None:
    nft_scene.settle(STICKY)
    nft_scene.calm()
    before = nft_scene.handles()
    for restarted in (False, True):
        recorder = Recorder(nft_scene.lb.system)
        if restarted:
            nft_scene.fresh(recorder)
        else:
            nft_scene.driver.system = recorder
        assert nft_scene.driver.apply(STICKY) == []
        changing = [it for it in recorder.changing if not only_looks(it)]
        assert changing == []
    assert nft_scene.handles() == before
    assert nft_scene.driver.observe(STICKY).drift == ()


def only_looks(args: tuple[str, ...]) -> bool:
    """Commands of this driver's that change nothing."""
    return is_reading(args) or args[:4] == ("nft", "-j", "-t", "list") or args[:1] == ("ip",)


def test_a_change_is_one_transaction_that_was_checked_before(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a", "b", check=NONE))
    recorder = nft_scene.driver.system = Recorder(nft_scene.lb.system)
    nft_scene.driver.apply(balancer("b", "c", check=NONE, drain=0, allow=("10.9.0.0/24",)))
    loads = [args for args in recorder.commands if args[:1] == ("nft",) and "-f" in args]
    assert loads == [("nft", "-c", "-f", "-"), ("nft", "-f", "-")]


def test_changes_are_told(nft_scene: Scene) -> None:
    first = nft_scene.driver.apply(balancer("a", check=NONE))
    assert "the table inet cnsmo-lb-www is made, with 1 servers" in first
    assert "the checker is started" in first
    other = balancer(
        server("a", weight=7, backup=True), "b", allow=("10.0.0.0/8",),
        algorithm=Algorithm.SOURCE, binds=(Bind("", 81),),
    )  # fmt: skip
    assert nft_scene.driver.apply(other) == [
        "where it listens changed",
        "who is allowed changed",
        "who gets the next flow changed",
        "how servers are checked changed",
        "server a (10.9.0.3:8080) has the weight 7, is a backup",
        "server b (10.9.0.4:8080) joins",
    ]


# --- drift --------------------------------------------------------------------------------

TABLE = "inet cnsmo-lb-www"
DRIFTS = {
    "the table is missing": "delete table {0}",
    "the chain pick-4 was changed": "flush chain {0} pick-4",
    "the chain begin was changed": "insert rule {0} begin accept",
    "the chain to-10.9.0.3-8080 was changed": "add rule {0} to-10.9.0.3-8080 counter",
    "the chain prerouting was changed": "add chain {0} prerouting {{ policy drop; }}",
    "the chain mine was added by somebody": "add chain {0} mine",
    "the set mine was added by somebody": "add set {0} mine {{ type ipv4_addr; }}",
    "the chain known is missing": "flush chain {0} find-4\nflush chain {0} find-6\n"
    "delete chain {0} known",
}


@pytest.mark.parametrize("found", DRIFTS)
def test_drift_is_told_and_repaired(nft_scene: Scene, found: str) -> None:
    nft_scene.settle(STICKY)
    nft_scene.calm()
    before = nft_scene.handles().keys()
    nft_scene.lb.system.run("nft", "-f", "-", stdin=DRIFTS[found].format(TABLE) + "\n")
    assert found in nft_scene.driver.observe(STICKY).drift
    (change,) = nft_scene.fresh().apply(STICKY)
    assert change.startswith("the table is loaded again: ")
    assert found in change
    assert nft_scene.handles().keys() == before
    assert nft_scene.driver.observe(STICKY).drift == ()
    assert nft_scene.driver.apply(STICKY) == []
    assert nft_scene.ask()[0] in NAMES


def test_switched_off_forwarding_is_told_and_repaired(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a"))
    nft_scene.lb.run("sysctl -qw net.ipv4.conf.eth0.forwarding=0")
    told = "net/ipv4/conf/eth0/forwarding"
    assert nft_scene.driver.observe(balancer("a")).drift == (f"{told} is 0 instead of 1",)
    assert nft_scene.driver.apply(balancer("a")) == [f"{told} = 1"]
    assert nft_scene.ask() == ["a"]


def test_forwarding_is_switched_on_only_where_it_is_needed(nft_scene: Scene) -> None:
    """Clients come in where it listens, answers where the routes to servers lead."""
    nft_scene.settle(balancer(server("inside"), binds=(Bind("192.168.7.1", 80),)))
    assert forwarding(nft_scene) == {"lan0"}
    nft_scene.settle(balancer(server("inside")))
    assert forwarding(nft_scene) == {"eth0", "lan0"}
    nft_scene.settle(balancer(server("lb"), drain=0), 0)
    assert forwarding(nft_scene) == set()


def forwarding(scene: Scene) -> set[str]:
    """Interfaces whose IPv4 packets are passed on."""
    shown = scene.lb.run("grep -rH 1 /proc/sys/net/ipv4/conf --include=forwarding", ok=(0, 1))
    return {line.split("/")[6] for line in shown.splitlines()}


def test_files_that_are_torn_are_made_again(nft_scene: Scene) -> None:
    nft_scene.settle(STICKY)
    for name in ("wanted.json", "loaded.json", "health.json"):
        (nft_scene.state_dir / name).write_text("{torn")
        changes = nft_scene.fresh().apply(STICKY)
        nft_scene.await_used(3)
        assert nft_scene.driver.apply(STICKY) == [], changes
        assert nft_scene.driver.observe(STICKY).drift == ()


# --- others -------------------------------------------------------------------------------


def test_foreign_tables_are_never_touched(nft_scene: Scene) -> None:
    nft_scene.lb.system.run("nft", "-f", "-", stdin=FOREIGN)
    before = nft_scene.lb.run("nft list ruleset")
    nft_scene.settle(STICKY)
    nft_scene.settle(balancer("a", drain=0))
    assert nft_scene.lb.run("nft list ruleset").replace(nft_scene.table(), "") == before
    nft_scene.driver.remove()
    assert nft_scene.lb.run("nft list ruleset") == before


def test_what_is_sent_on_passes_the_firewall_by(nft_scene: Scene, tmp_path: Path) -> None:
    """What the firewall's policy means for balanced ports; it is said in the driver's text."""
    firewall = Firewall(nft_scene.lb.system, "host", "shop/lb/host", tmp_path / "firewall")
    nft_scene.bed.serve("lb")
    try:
        closed = desired(opened(22), default=Action.REJECT)
        firewall.apply(closed)
        firewall.confirm()
        before = nft_scene.lb.run("nft list table inet cnsmo")
        nft_scene.settle(balancer("a", check=NONE))
        assert nft_scene.ask() == ["a"]  # no rule lets port 80 in, and none is asked
        nft_scene.settle(balancer("lb", check=NONE, drain=0))
        assert nft_scene.ask() == ["ECONNREFUSED"]  # judged as port 8080
        firewall.apply(desired(opened(PORT), default=Action.REJECT))
        firewall.confirm()
        assert nft_scene.ask() == ["lb"]
        nft_scene.driver.remove()
        firewall.apply(closed)
        firewall.confirm()
        now = nft_scene.lb.run("nft list table inet cnsmo")
        assert plain(uncounted(now)) == plain(uncounted(before))
    finally:
        firewall.remove()
        nft_scene.bed.kill("lb")


# --- failure ------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_failing_at_any_step_leaves_what_works(nft_scene: Scene, after: bool) -> None:
    first = balancer("a", "b", check=NONE)
    second = balancer("b", "c", check=NONE, allow=("10.9.0.0/24",), drain=0)
    nft_scene.settle(first)
    for allowed in range(30):
        saboteur = Saboteur(nft_scene.lb.system, allowed, after=after)
        nft_scene.fresh(saboteur)
        try:
            nft_scene.driver.apply(second)
        except DriverError:
            assert set(nft_scene.ask(4)) <= {"a", "b", "c"}
        if not saboteur.struck:
            break
        nft_scene.fresh()
        nft_scene.driver.apply(first)
        assert nft_scene.driver.apply(first) == []
        assert nft_scene.shares(4) == {"a": 2, "b": 2}
    else:
        pytest.fail("never got to the end")
    assert nft_scene.shares(4) == {"b": 2, "c": 2}
    assert nft_scene.fresh().apply(second) == []


def test_killed_at_any_step_the_next_process_finishes(nft_scene: Scene) -> None:
    wanted = balancer("a", "b")
    before = nft_scene.lb.picture()
    for allowed in range(30):
        saboteur = Saboteur(nft_scene.lb.system, allowed, Killed, after=bool(allowed % 2))
        nft_scene.fresh(saboteur)
        try:
            nft_scene.driver.apply(wanted)
        except Killed:
            if allowed % 3 == 0:
                nft_scene.fresh().remove()
                assert nft_scene.lb.picture() == before
        if not saboteur.struck:
            break
    else:
        pytest.fail("never got to the end")
    assert nft_scene.fresh().apply(wanted) == []
    nft_scene.await_used(2)
    assert nft_scene.shares(4) == {"a": 2, "b": 2}
    assert len(nft_scene.checkers()) == 1


def test_what_a_killed_agent_wanted_is_finished_by_the_checker(nft_scene: Scene) -> None:
    """It had written what it wants, and not yet brought it in force."""
    nft_scene.settle(balancer("a", "b"))
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(nft_scene.lb.pid), str(nft_scene.state_dir)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert agent.stdout
    assert agent.stdout.readline().strip() == "wanted"
    assert len(nft_scene.used()) == 2  # it holds the lock still
    os.kill(agent.pid, signal.SIGKILL)
    agent.communicate()
    eventually(lambda: nft_scene.used() == ("10.9.0.5 8080",), 5)
    assert nft_scene.shares(2) == {"c": 2}
    assert nft_scene.fresh().apply(balancer("c")) == []


AGENT = """
import sys, time
from pathlib import Path
import cnsmo.cmd
from cnsmo.agent.system import LocalSystem
from cnsmo.services.loadbalancer.drivers import nftables
from tests.functional.loadbalancer.nft_scene import balancer
def hang(*_args):
    print("wanted", flush=True)
    time.sleep(60)
nftables.load = hang
system = LocalSystem(("nsenter", "-t", sys.argv[1], "-n", "-m", "-p", "-u", "-i", "--"))
nftables.NftablesDriver(system, "www", "shop/lb/www", Path(sys.argv[2])).apply(balancer("c"))
"""


def test_a_ruleset_that_nft_refuses_changes_nothing(nft_scene: Scene, monkeypatch) -> None:
    wanted = balancer("a", check=NONE)
    nft_scene.settle(wanted)
    before = nft_scene.table()
    with monkeypatch.context() as patched:
        patched.setattr("cnsmo.services.loadbalancer.drivers.nfl_table.CLIENT_SECONDS", "never")
        patched.setattr("cnsmo.services.loadbalancer.drivers.nfl_pick.REFUSE", "nowhere")
        with pytest.raises(DriverError):
            nft_scene.driver.apply(balancer(check=NONE))
    assert nft_scene.table() == before
    assert nft_scene.driver.apply(wanted) == []


def test_a_full_disk_changes_nothing(nft_scene: Scene, monkeypatch) -> None:
    wanted = balancer("a", check=NONE)
    nft_scene.settle(wanted)

    def full(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(DriverError, match="No space left"):
            nft_scene.driver.apply(balancer("b", check=NONE))
    assert nft_scene.shares(2) == {"a": 2}
    assert nft_scene.driver.apply(wanted) == []


def test_a_checker_that_cannot_start_is_told(nft_scene: Scene, monkeypatch) -> None:
    monkeypatch.setattr(nfl_keeper, "START_SECONDS", 0.5)
    monkeypatch.setattr(nfl_keeper.nfl_checker, "__file__", "/nowhere/nfl_checker.py")
    with pytest.raises(DriverError, match=r"the checker does not start: .*nowhere"):
        nft_scene.driver.apply(balancer("a"))


# --- the end ------------------------------------------------------------------------------


def test_removing_leaves_nothing(nft_scene: Scene) -> None:
    before = nft_scene.lb.picture()
    nft_scene.driver.remove()
    assert not nft_scene.state_dir.exists()
    nft_scene.settle(balancer(*NAMES, server6("a"), server("inside")))
    talk, talk6 = nft_scene.talk(), nft_scene.talk(address=LB6)
    assert talk.say() in (*NAMES, "inside")
    assert talk6.say() == "a"
    nft_scene.fresh().remove()
    assert nft_scene.lb.picture() == before
    assert nft_scene.lb.run("conntrack -L --dst-nat") == ""
    assert not nft_scene.state_dir.exists()
    assert talk.say() == "ECONNRESET"
    nft_scene.driver.remove()


def test_removing_after_a_reboot_is_fine(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a"))
    nft_scene.lb.run("nft flush ruleset")
    for pid in nft_scene.checkers():
        kill(nft_scene.lb, pid)
    eventually(lambda: nft_scene.checkers() == [])
    nft_scene.fresh().remove()
    assert not nft_scene.state_dir.exists()


def test_a_checker_whose_unit_vanished_ends(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a"))
    (nft_scene.state_dir / "wanted.json").unlink()
    eventually(lambda: nft_scene.checkers() == [], 5)


def test_files_are_the_owners_alone_whatever_the_umask(nft_scene: Scene) -> None:
    old = os.umask(0)
    try:
        nft_scene.settle(balancer("a", "b"))
    finally:
        os.umask(old)
    assert nft_scene.state_dir.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.lstat().st_mode & 0o777 for path in nft_scene.state_dir.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_nothing_was_applied_is_told(nft_scene: Scene) -> None:
    assert nft_scene.driver.observe(balancer("a")).drift == ("nothing was applied",)
    assert not nft_scene.state_dir.exists()


def test_the_observation_is_json(nft_scene: Scene) -> None:
    nft_scene.settle(STICKY)
    detail = nft_scene.driver.observe(STICKY).detail
    assert json.loads(json.dumps(detail)) == detail
    twice = dataclasses.replace(STICKY, pools=(dataclasses.replace(
        STICKY.pools[0], servers=(server("a"), server6("a"))),))  # fmt: skip
    nft_scene.settle(twice, 2)
    servers = nft_scene.driver.observe(twice).detail["servers"]["web"]
    assert {"a 10.9.0.3:8080", "a [fd09::3]:8080"} <= set(servers)
