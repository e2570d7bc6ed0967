# SPDX-License-Identifier: Apache-2.0
"""What the kernel made of a ruleset is remembered when it is looked at first, if it is ours."""

import hypothesis
import pytest

from cnsmo.services.firewall.drivers.nft_kernel import load_text, read_table
from cnsmo.services.firewall.drivers.nft_memory import shape_of, shape_of_text
from cnsmo.services.firewall.drivers.nft_render import Renderer, Ways
from tests.eventually import eventually
from tests.functional.firewall.scene import ONE, Scene, desired, opened
from tests.functional.firewall.test_oracle import Scene as Played
from tests.functional.firewall.test_oracle import deployments
from tests.functional.vpn.systems import Recorder

WANTED = desired(opened(22), opened(80))
STRANGERS = {
    "a rule more": "insert rule inet cnsmo input tcp dport 9 accept",
    "a rule more at the end": "add rule inet cnsmo input tcp dport 9 accept",
    "a set more": "add set inet cnsmo theirs { type ipv4_addr; }",
    "a chain more": "add chain inet cnsmo theirs",
    "rules gone": "flush chain inet cnsmo input",
}


@pytest.mark.timeout(300)
def test_whatever_is_rendered_is_recognised(scene: Scene) -> None:
    @hypothesis.settings(max_examples=100)
    @hypothesis.given(deployments())
    def look(played: Played) -> None:
        if played.desired is not None:
            text = Renderer("oracle").render(played.desired, Ways(nameservers={})).text
            load_text(scene.one.system, text)
            table = read_table(scene.one.system)
            assert table
            assert shape_of(table) == shape_of_text(text)

    look()


@pytest.mark.parametrize("done", STRANGERS)
def test_who_comes_between_loading_and_looking_is_not_taken_for_us(scene: Scene, done: str) -> None:
    scene.driver.apply(WANTED)
    scene.one.system.run("nft", "-f", "-", stdin=STRANGERS[done] + "\n")
    assert scene.driver.observe(WANTED).drift
    assert scene.driver.apply(WANTED) == ["the ruleset is loaded again"]
    assert scene.driver.observe(WANTED).drift == ()
    assert scene.ask("tcp", ONE, 9) == "silent"


def test_a_table_that_is_gone_before_it_was_looked_at_is_missed(scene: Scene) -> None:
    scene.driver.apply(WANTED)
    scene.one.run("nft flush ruleset")
    assert scene.driver.observe(WANTED).drift == ("the table is missing",)
    assert scene.driver.apply(WANTED) == ["the ruleset is loaded again"]
    assert scene.driver.observe(WANTED).drift == ()


def test_a_trial_that_went_back_before_it_was_looked_at_is_not_what_is_there(scene: Scene) -> None:
    good, other = (desired(opened(22, rule="r")), desired(opened(80, rule="r"), confirm=1))
    scene.settle(good)
    scene.driver.apply(other)
    eventually(lambda: scene.guards() == 0, 10, "the guard's end")
    seen = scene.driver.observe(other)
    assert seen.problems == ("no answer from the core within 1 s; the last good policy is back",)
    assert seen.drift == ()
    assert scene.driver.apply(good) == []
    assert scene.driver.observe(good).drift == ()


def test_nobody_looks_while_rules_are_not_in_force_yet(scene: Scene) -> None:
    recorder = Recorder(scene.one.system)
    scene.settle(WANTED)
    scene.fresh(recorder).apply(desired(opened(443)))
    assert ("nft", "-j", "list", "table", "inet", "cnsmo") not in recorder.commands
