# SPDX-License-Identifier: Apache-2.0
"""Confirm or revert: a ruleset that cuts the host off goes back, whoever is dead by then."""

import dataclasses
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from cnsmo.model.errors import DriverError
from cnsmo.services.base import System
from cnsmo.services.firewall.desired import Action, FirewallDesired
from cnsmo.services.firewall.drivers import guard
from tests.eventually import eventually
from tests.functional.firewall.scene import ONE, Scene, desired, opened
from tests.functional.vpn.systems import Hanging, Killed, Saboteur

GOOD = desired(opened(22), opened(80, version=4, peers="web_4"), sets={"web_4": ("10.9.0.2",)})


def changed(confirm: int = 1) -> FirewallDesired:
    """Another structure; confirm: seconds."""
    return desired(opened(443), sets=GOOD.sets, confirm=confirm)


def back(scene: Scene) -> None:
    """Wait until the guard has done its work."""
    eventually(lambda: scene.guards() == 0, 10, "the guard's end")


def test_a_confirmed_ruleset_stays(scene: Scene) -> None:
    assert scene.driver.trial() is None
    changes = scene.driver.apply(changed(30))
    assert changes == ["the ruleset is replaced, on trial for 30 s"]
    left = scene.driver.trial()
    assert left
    assert 0 < left <= 30
    assert scene.driver.observe(changed(30)).detail["trial"]["seconds_left"] <= 30
    assert scene.fresh().confirm()  # another process may
    assert scene.driver.trial() is None
    assert scene.guards() == 0  # nobody is left who could take it back
    assert scene.ask("tcp", ONE, 443) == "open"
    assert scene.driver.apply(changed(30)) == []
    scene.driver.confirm()
    assert sorted(path.name for path in scene.state_dir.glob("*.nft")) == ["good.nft"]


def test_without_an_answer_the_last_good_ruleset_is_back(scene: Scene) -> None:
    scene.settle(GOOD)
    before = scene.ruleset()
    scene.driver.apply(changed())
    assert scene.ask("tcp", ONE, 22) == "silent"
    back(scene)
    assert scene.ruleset() == before
    assert scene.ask("tcp", ONE, 22) == "open"
    assert scene.driver.trial() is None


def test_the_guard_does_not_wait_until_flows_are_ended(scene: Scene) -> None:
    scene.settle(GOOD)
    before = scene.ruleset()
    hanging = Hanging(scene.one.system, "conntrack", lambda: back(scene))
    scene.fresh(hanging)
    with pytest.raises(DriverError, match="no answer from the core"):
        scene.driver.apply(changed())
    assert hanging.hung
    assert scene.ruleset() == before
    assert not scene.driver.confirm()


def test_what_was_refused_is_not_tried_again_until_it_is_another(scene: Scene) -> None:
    scene.settle(GOOD)
    before = scene.ruleset()
    scene.driver.apply(changed())
    back(scene)
    reason = "no answer from the core within 1 s; the last good policy is back"
    members = dataclasses.replace(changed(), sets={"web_4": ("10.9.0.7",)})
    for wanted in (changed(), members):
        with pytest.raises(DriverError, match=reason):
            scene.fresh().apply(wanted)
    seen = scene.driver.observe(changed())
    assert seen.problems == (reason,)
    assert seen.drift == ()
    scene.one.run("nft flush ruleset")
    assert scene.driver.observe(changed()).drift
    with pytest.raises(DriverError, match=reason):
        scene.driver.apply(changed())
    assert scene.ruleset() == before
    other = desired(opened(8080), sets=GOOD.sets)
    assert scene.driver.apply(other)
    scene.driver.confirm()
    assert scene.driver.apply(changed())  # somebody changed something: it may be tried again


def test_what_was_refused_is_tried_again_when_the_good_one_was_asked_for_meanwhile(
    scene: Scene,
) -> None:
    scene.settle(GOOD)
    scene.driver.apply(changed())
    back(scene)
    assert scene.driver.apply(GOOD) == []
    assert scene.driver.apply(changed(30)) == ["the ruleset is replaced, on trial for 30 s"]


def test_the_last_good_ruleset_needs_no_trial(scene: Scene) -> None:
    scene.settle(GOOD)
    before = scene.ruleset()
    scene.driver.apply(changed(30))
    assert scene.driver.apply(GOOD) == ["the last good ruleset is back, with today's members"]
    assert scene.driver.trial() is None
    assert scene.guards() == 0
    assert scene.ruleset() == before
    assert scene.fresh().apply(GOOD) == []


def test_members_follow_while_something_is_on_trial(scene: Scene) -> None:
    scene.settle(GOOD)
    scene.driver.apply(changed(30))
    members = dataclasses.replace(changed(30), sets={"web_4": ("10.9.0.7",)})
    assert scene.driver.apply(members) == ["set web_4: 1 added, 1 removed"]
    assert scene.driver.trial()
    scene.driver.confirm()
    scene.one.run(f"nft -f {scene.state_dir / 'good.nft'}")
    assert scene.fresh().apply(members) == []


def test_a_trial_that_is_replaced_hands_over_to_the_next_guard(scene: Scene) -> None:
    scene.settle(GOOD)
    before = scene.ruleset()
    scene.driver.apply(changed(30))
    scene.driver.apply(desired(opened(8080), sets=GOOD.sets, confirm=1))
    assert scene.guards() == 1
    back(scene)
    assert scene.ruleset() == before
    assert scene.driver.apply(changed(30))


def test_before_anything_was_good_the_open_doors_are_the_fallback(scene: Scene) -> None:
    scene.driver.apply(changed())
    back(scene)
    assert scene.ask("tcp", ONE, 443) == "silent"
    assert scene.two.ping("fd09::1", count=1, wait=1).received == 0
    assert scene.ask("tcp", "10.9.0.2", 443, scene.one) == "open"
    assert "policy drop" in scene.rules()


def test_where_nothing_is_enforced_the_fallback_is_open(scene: Scene) -> None:
    scene.driver.apply(desired(enforced=False, confirm=1))
    back(scene)
    assert scene.ask("tcp", ONE, 443) == "open"
    assert "policy drop" not in scene.rules()


def test_the_guard_goes_back_when_the_agent_is_killed(scene: Scene, tmp_path: Path) -> None:
    scene.settle(GOOD)
    before = scene.ruleset()
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(scene.one.pid), str(scene.state_dir)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert agent.stdout
    assert agent.stdout.readline().strip() == "on trial"
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    assert scene.guards() == 1
    assert scene.ask("tcp", ONE, 22) == "silent"
    back(scene)
    assert scene.ruleset() == before


def test_the_guard_ends_with_an_agent_that_has_nothing_on_trial(
    scene: Scene, tmp_path: Path
) -> None:
    scene.settle(GOOD)
    assert processes(scene) == 1, "it stands by"
    scene.fresh()
    eventually(lambda: processes(scene) == 0)


def test_a_guard_that_died_while_it_stood_by_is_replaced(scene: Scene) -> None:
    scene.settle(GOOD)
    before = scene.ruleset()
    scene.one.run("pkill -KILL -f guard.py")
    eventually(lambda: processes(scene) == 0)
    scene.driver.apply(changed())
    assert scene.guards() == processes(scene) == 1
    back(scene)
    assert scene.ruleset() == before


def test_one_guard_watches_over_one_trial_after_the_other(scene: Scene) -> None:
    for port in (80, 443, 8080):
        scene.driver.apply(desired(opened(port)))
        assert scene.guards() == processes(scene) == 1
        assert scene.driver.confirm()
        assert (scene.guards(), processes(scene)) == (0, 1)


def test_what_nobody_waits_for_may_come_later_and_after_other_changes(scene: Scene) -> None:
    scene.settle(GOOD)
    talk = scene.talk(80)
    for port in (443, 8080, 5671):  # nothing of the one before is swept
        scene.driver.enforce(desired(opened(port)))
        assert scene.ask("tcp", ONE, port) == "open"
    scene.fresh().follow_up(desired(opened(5671)))  # the agent was killed meanwhile
    assert talk.stdin
    assert talk.stdout
    talk.stdin.write("x\n")
    talk.stdin.flush()
    assert talk.stdout.readline().strip() == "silent"
    scene.driver.apply(desired(opened(5671)))
    assert scene.driver.confirm()
    assert scene.ruleset() == scene.in_force()
    assert scene.ask("tcp", ONE, 5671) == "open"


def processes(scene: Scene) -> int:
    """How many guards run, whether they watch over a trial or stand by."""
    return sum("guard.py" in line for line in scene.one.processes())


AGENT = """
import sys, time
from pathlib import Path
import cnsmo.cmd
from cnsmo.agent.system import LocalSystem
from cnsmo.services.firewall.drivers.nftables import NftablesDriver
from tests.functional.firewall.test_nft_trial import changed
system = LocalSystem(("nsenter", "-t", sys.argv[1], "-n", "-m", "-p", "-u", "-i", "--"))
NftablesDriver(system, "host", "shop/one/host", Path(sys.argv[2])).apply(changed(2))
print("on trial", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("rebooted", [False, True])
def test_a_trial_whose_guard_is_dead_begins_again(scene: Scene, rebooted: bool) -> None:
    scene.settle(GOOD)
    good = scene.ruleset()
    scene.driver.apply(changed(30))
    scene.one.run("pkill -KILL -f guard.py")
    eventually(lambda: scene.guards() == 0)
    if rebooted:
        scene.one.run("nft flush ruleset")
        scene.one.run(f"nft -f {scene.state_dir / 'good.nft'}")
        assert scene.ruleset() == good
    scene.fresh()
    assert scene.driver.trial() is None
    scene.driver.confirm()  # nobody watched: nothing is proven
    assert scene.driver.apply(changed(1))[0] == "a trial without its guard was given up"
    assert scene.driver.trial()
    back(scene)
    assert scene.ruleset() == good


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_step_the_host_is_never_left_on_an_unguarded_trial(
    scene: Scene, after: bool
) -> None:
    scene.settle(GOOD)
    good = scene.ruleset()
    for allowed in range(40):
        saboteur = Saboteur(scene.one.system, allowed, Killed, after=after)
        scene.fresh(saboteur)
        try:
            scene.driver.apply(changed(30))
        except Killed:
            assert scene.guards() or scene.in_force() == good
        if not saboteur.struck:
            break
        scene.fresh().apply(GOOD)
        assert scene.ruleset() == good
        back(scene)
    else:
        pytest.fail("never got to the end")
    scene.fresh().confirm()
    assert scene.driver.apply(changed(30)) == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_guard_killed_at_any_step_leaves_the_rules_that_were_or_the_good_ones(
    scene: Scene, after: bool
) -> None:
    scene.settle(GOOD)
    good, text = scene.ruleset(), (scene.state_dir / "good.nft").read_text()
    for allowed in range(40):
        scene.driver.apply(changed(30))
        tried = scene.ruleset()
        scene.one.run("pkill -KILL -f guard.py")
        eventually(lambda: scene.guards() == 0)
        saboteur = Saboteur(scene.one.system, allowed, Killed, after=after)
        try:
            guard.put_back(partial(_output, saboteur), text)
        except Killed:
            assert scene.in_force() in (good, tried)
        if not saboteur.struck:
            break
        scene.fresh().apply(GOOD)
        assert scene.ruleset() == good  # nothing is left of what was staged
    else:
        pytest.fail("never got to the end")
    assert scene.ruleset() == good != tried


def _output(system: System, *args: str, stdin: str | None = None) -> str:
    return system.run("nft", *args, stdin=stdin).stdout


def test_a_torn_trial_is_given_up(scene: Scene) -> None:
    scene.settle(GOOD)
    scene.driver.apply(changed(30))
    scene.one.run("pkill -KILL -f guard.py")
    eventually(lambda: scene.guards() == 0)
    for name in ("trial.json", "guard.log"):
        (scene.state_dir / name).write_text("{torn")
    assert scene.fresh().apply(GOOD) is not None
    assert scene.driver.observe(GOOD).drift == ()


def test_confirming_nothing_is_fine(scene: Scene) -> None:
    assert not scene.driver.confirm()
    assert not scene.state_dir.exists()
    scene.settle(desired(default=Action.ACCEPT))
    scene.driver.confirm()
