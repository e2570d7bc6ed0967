# SPDX-License-Identifier: Apache-2.0
"""From what was loaded to what is wanted, whoever is killed half-way."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.errors import ProgramError
from cnsmo.services.loadbalancer.desired import Mode, Persistence
from cnsmo.services.loadbalancer.drivers.nfl_change import (
    SPARE_SECONDS,
    UNKNOWN,
    Loaded,
    parse,
    plan,
)
from cnsmo.services.loadbalancer.drivers.nfl_flows import Flows, end_commands, read
from cnsmo.services.loadbalancer.drivers.nfl_health import Verdict
from cnsmo.services.loadbalancer.drivers.nfl_settle import end_flows, settle
from tests.unit.services.loadbalancer.drivers.nfl_scenes import NOW, server, wanted

WELL = {f"10.66.0.{number} 80": True for number in range(10)}
VERDICTS = {key: Verdict(True, "connected", NOW, True) for key in WELL}
LATER = NOW + SPARE_SECONDS


def loaded(what, health=WELL, before=Loaded(), now=NOW):  # noqa: B008
    return plan(what, before, health, now).after


def touched(text: str) -> set[str]:
    """The chains that a transaction changes, without the digests in their names."""
    found = re.findall(r"^(?:flush|delete|add) chain inet cnsmo-lb-www ([\w.-]+)", text, re.M)
    return {re.sub(r"(pick-[46]|known)-[0-9a-f]{8}", r"\1-X", name) for name in found}


def test_the_first_load_is_whole():
    text = plan(wanted(server(1)), Loaded(), WELL, NOW).text
    assert text.startswith("add table inet cnsmo-lb-www\ndelete table inet cnsmo-lb-www\n")


@given(st.sets(st.integers(1, 5)), st.sets(st.integers(1, 5)), st.booleans())
def test_what_is_loaded_needs_no_change(numbers, well, sticky):
    persistence = Persistence.SOURCE if sticky else Persistence.NONE
    what = wanted(*(server(number) for number in sorted(numbers)), persistence=persistence)
    health = {f"10.66.0.{number} 80": number in well for number in range(10)}
    there = loaded(what, health)
    change = plan(what, there, health, NOW)
    assert (change.text, change.after) == ("", there)


def test_one_server_more_is_its_chain_and_those_that_know_all():
    before = loaded(wanted(server(1), server(2)))
    change = plan(wanted(server(1), server(2), server(3)), before, WELL, NOW)
    assert touched(change.text) == {
        "to-10.66.0.3-80", "pick-4", "pick-4-X", "answers", "strays-back",
    }  # fmt: skip


def test_who_fell_changes_only_the_choice():
    what = wanted(server(1), server(2), server(3))
    change = plan(what, loaded(what), {**WELL, "10.66.0.2 80": False}, NOW)
    assert touched(change.text) == {"pick-4", "pick-4-X"}


def test_a_chain_that_nothing_leads_to_any_more_stays_for_a_moment():
    what = wanted(server(1), server(2))
    first = loaded(what)
    (old,) = (name for name in first.chains if name.startswith("pick-4-"))
    change = plan(what, first, {**WELL, "10.66.0.2 80": False}, NOW)
    assert old not in change.text
    assert change.after.spare == {old: NOW}
    assert plan(what, change.after, {"10.66.0.1 80": True, "10.66.0.2 80": False}, NOW).text == ""
    tidied = plan(what, change.after, {**WELL, "10.66.0.2 80": False}, LATER)
    assert tidied.text.splitlines()[-1] == f"delete chain inet cnsmo-lb-www {old}"
    assert tidied.after.spare == {}
    again = plan(what, change.after, WELL, NOW)
    assert f"chain inet cnsmo-lb-www {old}" not in again.text  # it is there still
    assert again.after.chains == first.chains


@given(st.sets(st.integers(1, 5)), st.sets(st.integers(1, 5)), st.sets(st.integers(1, 5)))
def test_killed_half_way_the_next_one_comes_to_the_same_end(one, other, third):
    first, second, last = (
        wanted(*(server(number) for number in sorted(each))) for each in (one, other, third)
    )
    interrupted = plan(second, loaded(first), WELL, NOW).before
    for what in (second, last):
        change = plan(what, interrupted, WELL, NOW)
        direct = loaded(what)
        wanted_chains = {
            name: digest
            for name, digest in change.after.chains.items()
            if name not in change.after.spare
        }
        assert wanted_chains == direct.chains
        known = {*loaded(first).chains, *loaded(second).chains}
        assert known <= {*interrupted.chains}
        for name, digest in interrupted.chains.items():
            if digest == UNKNOWN:
                assert f"flush chain inet cnsmo-lb-www {name}\n" in change.text


def test_what_was_written_is_read_again():
    what = wanted(server(1), server(2))
    there = loaded(wanted(server(1), drain=0.0, earlier=what), before=loaded(what))
    assert there.ending
    assert there.spare
    assert parse(there.dump()) == there


@pytest.mark.parametrize("text", [None, "", "{", "[]", "3", '{"what": 1}', '{"servers": 5}'])
def test_a_torn_file_means_that_nothing_is_loaded(text):
    assert parse(text) == Loaded()


# --- who leaves ---------------------------------------------------------------------------

ONE, TWO = "10.66.0.1 80", "10.66.0.2 80"


def test_who_is_held_is_stopped_once_another_is_well_and_then_has_the_drain():
    what = wanted(server(2), earlier=wanted(server(1)), drain=30.0)
    first = plan(what, loaded(wanted(server(1))), {ONE: True}, NOW).after
    assert (first.usable, first.stopped(ONE)) == ((ONE,), False)
    handed_over = plan(what, first, {ONE: True, TWO: True}, NOW + 20).after
    assert (handed_over.usable, handed_over.stopped(ONE)) == ((TWO,), True)
    assert handed_over.leaving[ONE].until == NOW + 50
    fallen = plan(what, handed_over, {ONE: True, TWO: False}, NOW + 25).after
    assert fallen.usable == ()
    over = plan(what, fallen, {TWO: True}, NOW + 50).after
    assert over.gone(NOW + 50) == {ONE}
    assert [it.key for it in over.ending] == [ONE]


def test_who_is_held_and_falls_serves_no_more_until_he_is_well():
    before = loaded(wanted(server(1), server(2)))
    what = wanted(server(3), earlier=wanted(server(1), server(2)))
    first = plan(what, before, {ONE: True, TWO: True}, NOW).after
    fallen = plan(what, first, {ONE: False, TWO: True}, NOW).after
    assert (first.usable, fallen.usable) == ((ONE, TWO), (TWO,))
    assert fallen.ending == (Flows(4, "tcp", "10.66.0.1", 80, opening=True),)
    assert plan(what, fallen, {ONE: True, TWO: True}, NOW).after.usable == (ONE, TWO)


def test_what_did_not_come_into_force_is_decided_anew():
    before = loaded(wanted(server(1), server(2)))
    what = wanted(server(2), earlier=wanted(server(1), server(2)), drain=30.0)
    interrupted = plan(what, before, WELL, NOW).before
    assert plan(what, interrupted, WELL, NOW + 100).after.leaving[ONE].until == NOW + 130


# --- flows --------------------------------------------------------------------------------


def test_flows_of_who_left_are_ended():
    both = wanted(server(1), server(2))
    after = loaded(wanted(server(1), earlier=both, drain=0.0), before=loaded(both))
    assert after.ending == (Flows(4, "tcp", "10.66.0.2", 80),)
    assert end_commands(after.ending, after.ports) == [
        ("conntrack", "-D", "-f", "ipv4", "-p", "tcp", "--dst-nat", "--reply-src", "10.66.0.2",
         "--reply-port-src", "80", "--orig-port-dst", "8080"),
    ]  # fmt: skip


def test_of_who_fell_what_waits_in_vain_is_ended():
    for mode, opening in ((Mode.TCP, True), (Mode.UDP, False)):
        what = wanted(server(1), server(2), mode=mode)
        after = loaded(what, {**WELL, "10.66.0.2 80": False}, loaded(what))
        assert after.ending == (Flows(4, str(mode), "10.66.0.2", 80, opening),)
        drained = wanted(server(1), server(2, drain=True), mode=mode)
        assert loaded(drained, WELL, loaded(what)).ending == ()


def test_what_could_not_be_ended_is_tried_again_unless_he_is_back():
    both = wanted(server(1), server(2))
    one = wanted(server(1), earlier=both, drain=0.0)
    pending = loaded(one, before=loaded(both))
    assert plan(one, pending, WELL, NOW).after.ending == pending.ending
    assert plan(both, pending, WELL, NOW).after.ending == ()


LISTED = [
    "tcp      6 431999 ESTABLISHED src=10.0.0.9 dst=10.0.0.1 sport=5 dport=8080 "
    "src=10.66.0.2 dst=10.0.0.1 sport=80 dport=5 [ASSURED] mark=0 use=1",
    "tcp      6 119 TIME_WAIT src=10.0.0.9 dst=10.0.0.1 sport=6 dport=8080 "
    "src=10.66.0.2 dst=10.0.0.1 sport=80 dport=6 [ASSURED] mark=0 use=1",
    "udp      17 29 src=fd00::9 dst=fd00::1 sport=7 dport=53 [UNREPLIED] "
    "src=fd66::2 dst=fd00::1 sport=53 dport=7 mark=0 use=1",
    "icmp     1 29 src=10.0.0.9 dst=10.0.0.1 type=8 code=0 id=2 src=10.0.0.1 dst=10.0.0.9",
    "garbage",
]


def test_flows_are_read():
    assert [(it.server, it.address, it.port, it.over) for it in read(LISTED)] == [
        ("10.66.0.2 80", "10.0.0.1", 8080, False),
        ("10.66.0.2 80", "10.0.0.1", 8080, True),
        ("fd66::2 53", "fd00::1", 53, False),
    ]


class Programs:
    """Pretends to run them."""

    def __init__(self, refuse=()):
        self.ran: list[tuple[str, ...]] = []
        self.texts: list[str] = []
        self.refuse = list(refuse)

    def __call__(self, *args, stdin=None, ok=(0,)):
        self.ran.append(args)
        if stdin is not None:
            self.texts.append(stdin)
            if self.refuse and self.refuse.pop(0):
                raise ProgramError("no such table")
        return "\n".join(LISTED)


def test_of_many_only_those_with_flows_are_ended_one_by_one():
    ending = tuple(Flows(4, "tcp", f"10.66.0.{number}", 80) for number in range(100))
    run, remembered = Programs(), []
    end_flows(Loaded(ports=(8080,), ending=ending), run, remembered.append)
    assert [args[1] for args in run.ran] == ["-L", "-D"]
    assert "10.66.0.2" in run.ran[1]
    assert remembered == [Loaded(ports=(8080,))]


def test_where_the_table_is_not_what_it_was_thought_to_be_it_is_loaded_anew():
    what = wanted(server(1), server(2))
    there = loaded(wanted(server(1)))
    run, remembered = Programs(refuse=[True, False]), []
    after = settle(what, there, VERDICTS, NOW, run, remembered.append)
    assert "delete table" not in run.texts[0]
    assert "delete table" in run.texts[1]
    assert after == loaded(what) == dataclasses.replace(remembered[-1])
    with pytest.raises(ProgramError):
        settle(what, there, VERDICTS, NOW, Programs([True, True]), remembered.append)
    with pytest.raises(ProgramError):
        settle(what, Loaded(), VERDICTS, NOW, Programs([True, False]), remembered.append)
