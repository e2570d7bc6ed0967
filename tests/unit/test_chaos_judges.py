# SPDX-License-Identifier: Apache-2.0
"""The judges of tests/chaos: each is content with a run in which all is well, and with no other."""

import dataclasses
from typing import Any

import pytest

from tests.chaos import excuses, judges, report
from tests.chaos.history import (
    Answer,
    Apply,
    Arrival,
    Breach,
    Calm,
    Copy,
    Flow,
    Happened,
    History,
    Outcome,
)
from tests.chaos.schedule import Fault, Kind

PING = Flow("udp", "web1", "web2", "10.66.0.2", 7000, True)
SHUT = Flow("udp", "web1", "web2", "10.66.0.2", 7001, False)
CALL = Flow("http", "client1", "edge1", "10.66.0.3", 80, True, ("web1", "web2"))
FLOWS = (PING, SHUT, CALL)
OWNERS = {"web1": ("10.66.0.1",), "web2": ("10.66.0.2",)}


def answers(flow: Flow, *silent: tuple[float, float], ok: bool = True) -> tuple[Answer, ...]:
    """One each second of a hundred; none in these times."""
    hit = excuses.inside(silent)
    return tuple(Answer(flow, float(at), ok and not hit(at)) for at in range(1, 100))


def fault(kind: Kind, target: str, begin: float = 40.0, end: float = 50.0) -> Happened:
    return Happened(Fault(kind, target, begin, end), begin, end)


def copy(holder: str, revision: int, at: float, **other: Any) -> Copy:
    made = Copy(holder, "id", revision, f"state {revision}", frozenset({1}), OWNERS, at)
    return dataclasses.replace(made, **other)


def history(**other: Any) -> History:
    """A run in which all is well, but for what is said."""
    made = History(
        sites={"web1": "east", "web2": "west", "edge1": "east", "client1": "west"},
        watched=(0.0, 100.0),
        faults=(),
        flows=FLOWS,
        answers=(*answers(PING), *answers(CALL), *answers(SHUT, ok=False)),
        arrivals=(),
        applies=(
            Apply(1, True, Outcome.ACCEPTED, 5, 10.0),
            Apply(2, False, Outcome.REFUSED, 0, 20.0),
            Apply(3, True, Outcome.UNKNOWN, 0, 30.0),
            Apply(4, True, Outcome.ACCEPTED, 6, 40.0),
        ),
        copies=(copy("web1", 5, 10.0), copy("web2", 5, 11.0), copy("web1", 6, 12.0)),
        calm=Calm(frozenset({4}), {}, {"web1": frozenset({4}), "web2": frozenset({4})}, 100.0),
        left=(),
    )
    return dataclasses.replace(made, **other)


def calm(**other: Any) -> History:
    return history(calm=dataclasses.replace(history().calm, **other))


def test_nobody_complains_of_a_run_in_which_all_is_well() -> None:
    assert judges.judge(history()) == []


@pytest.mark.parametrize(
    "broken",
    [
        calm(told=frozenset({1})),
        calm(told=frozenset()),
        calm(told=frozenset({2})),
        calm(told=frozenset({3, 4})),
        calm(behind={"web1: vpn": "degraded at 6"}),
        calm(open={"web1": frozenset({4}), "web2": frozenset({1})}),
        calm(open={"web1": frozenset({4}), "web2": frozenset({1, 4})}),
    ],
)
def test_what_was_accepted_last_has_to_be_in_force_everywhere(broken: History) -> None:
    assert judges.in_force(broken)
    assert judges.judge(broken)


def test_a_document_of_which_nobody_knows_may_be_in_force() -> None:
    everywhere = {"web1": frozenset({3}), "web2": frozenset({3})}
    assert judges.judge(calm(told=frozenset({3}), open=everywhere)) == []


@pytest.mark.parametrize(
    "broken",
    [
        history(applies=(*history().applies, Apply(5, False, Outcome.ACCEPTED, 5, 50.0))),
        history(applies=(*history().applies, Apply(5, True, Outcome.REFUSED, 0, 50.0))),
        history(copies=(copy("web1", 5, 10.0, markers=frozenset({2})),)),
        calm(open={"web1": frozenset({4, 2}), "web2": frozenset({4})}),
    ],
)
def test_what_was_refused_has_to_be_nowhere(broken: History) -> None:
    assert judges.refused(broken)


@pytest.mark.parametrize(
    "other",
    [
        {"web2": ("10.66.0.1",)},
        {"web1": ("10.66.0.9", "10.66.0.2")},
    ],
)
def test_an_address_has_one_owner_for_ever(other: dict[str, tuple[str, ...]]) -> None:
    copies = (copy("web1", 5, 10.0), copy("web2", 6, 20.0, owners=other))
    (breach,) = judges.owners(history(copies=copies))
    assert breach.at == 20.0
    at_once = copy("web1", 5, 10.0, owners={"a": ("10.66.0.1",), "b": ("10.66.0.1",)})
    assert judges.owners(history(copies=(at_once,)))


def silent(flow: Flow, begin: float, end: float, *faults: Happened) -> History:
    others = tuple(it for it in history().answers if it.flow != flow)
    return history(answers=(*others, *answers(flow, (begin, end))), faults=faults)


def test_a_flow_that_stands_still_without_a_fault_on_its_path_stopped() -> None:
    (breach,) = judges.flowing(silent(PING, 30, 45))
    assert (breach.at, breach.who) == (29.0, ("web1", "web2"))
    assert judges.flowing(silent(PING, 30, 36)) == []
    assert judges.flowing(silent(PING, 85, 100)), "until the end"
    assert judges.flowing(silent(PING, 0, 15)), "from the beginning"
    assert judges.flowing(history(answers=answers(CALL))), "a prober that says nothing"


@pytest.mark.parametrize(
    "away", [fault(Kind.REBOOT, "web2"), fault(Kind.CUT_VM, "web1"), fault(Kind.CUT_SITE, "east")]
)
def test_a_fault_of_its_path_excuses_a_flow_until_it_has_recovered(away: Happened) -> None:
    assert judges.flowing(silent(PING, 41, 65, away)) == []
    assert judges.flowing(silent(PING, 25, 60, away)), "before the fault"


@pytest.mark.parametrize(
    "away",
    [
        fault(Kind.KILL_AGENT, "web1", 35, 60),
        fault(Kind.STOP_AGENT, "web2", 35, 60),
        fault(Kind.STOP_CORE, "core1", 35, 60),
        fault(Kind.CUT_CORE, "core", 35, 60),
        fault(Kind.STOP_BROKER, "broker", 35, 60),
        fault(Kind.STOP_DATABASE, "database", 35, 60),
        fault(Kind.FULL_DISK, "web1", 35, 60),
        fault(Kind.CLOCK, "web1", 35, 60),
        fault(Kind.REBOOT, "client1", 35, 60),
        fault(Kind.CUT_SITE, "south", 35, 60),
        fault(Kind.KILL_HAPROXY, "web1", 35, 60),
    ],
)
def test_nothing_else_is_an_excuse(away: Happened) -> None:
    assert judges.flowing(silent(PING, 41, 60, away))


def test_a_balancer_has_to_do_with_one_server_that_is_well() -> None:
    one, other = fault(Kind.REBOOT, "web1"), fault(Kind.CUT_VM, "web2")
    assert judges.flowing(silent(CALL, 41, 60, one))
    assert judges.flowing(silent(CALL, 41, 60, one, other)) == []
    assert judges.flowing(silent(CALL, 41, 60, fault(Kind.KILL_HAPROXY, "edge1"))) == []
    parted = fault(Kind.CUT_SITE, "west")  # and with it the client
    assert judges.flowing(silent(CALL, 41, 60, parted)) == []


def test_what_is_forbidden_must_not_pass_even_one_way() -> None:
    assert judges.shut(history(answers=(Answer(SHUT, 20.0, True),)))
    assert judges.shut(history(arrivals=(Arrival("web2", 7001, "10.66.0.1", 20.0),)))


@pytest.mark.parametrize(
    "copies",
    [
        (copy("web1", 6, 10.0), copy("web1", 5, 20.0)),
        (copy("web1", 6, 10.0), copy("web2", 6, 20.0, digest="another")),
    ],
)
def test_revisions_never_go_back_and_each_is_one_state(copies: tuple[Copy, ...]) -> None:
    (breach,) = judges.forward(history(copies=copies))
    assert breach.at == 20.0


def test_revisions_of_another_identity_have_no_order() -> None:
    copies = (copy("web1", 6, 10.0), copy("web1", 5, 20.0, history="joined anew"))
    assert judges.forward(history(copies=copies)) == []


def test_two_documents_do_not_get_one_revision() -> None:
    twice = (Apply(1, True, Outcome.ACCEPTED, 5, 1.0), Apply(4, True, Outcome.ACCEPTED, 5, 2.0))
    assert judges.forward(history(applies=twice))


def test_what_is_left_is_told() -> None:
    (breach,) = judges.judge(history(left=("web1: table inet cnsmo",)))
    assert breach.who == ("web1",)


def test_a_run_in_which_nothing_happened_is_none() -> None:
    away = dataclasses.replace(fault(Kind.REBOOT, "web1"), failed="LabError: it does not start")
    assert judges.judge(history(faults=(away,)))
    assert judges.judge(history(answers=answers(PING)))
    assert judges.judge(history(applies=()))


def test_times_outside_of_spans() -> None:
    assert excuses.outside(0, 10, [(2, 3), (5, 20)]) == [(0, 2), (3, 5)]
    assert excuses.outside(0, 10, [(0, 10)]) == []
    assert excuses.outside(4, 10, [(0, 2), (11, 12)]) == [(4, 10)]
    assert excuses.merged([(5, 6), (1, 3), (2, 4)]) == [(1, 4), (5, 6)]
    assert excuses.together([[(0, 5), (8, 9)], [(4, 8.5)]]) == [(4, 5), (8, 8.5)]


def test_the_report_tells_of_faults_and_of_lost_probes() -> None:
    run = silent(PING, 30, 45, fault(Kind.FULL_DISK, "web1", 20, 40))
    told = report.report(7, 4, run)
    assert "| disk full | 1 |" in told
    assert "| udp, allowed | 1 | 99 | 16 | 100 % | 16 | 17.0 s at 29 |" in told
    assert "2 accepted, 1 refused, 1 unknown" in told
    away = report.report(7, 4, silent(PING, 41, 65, fault(Kind.REBOOT, "web2")))
    assert "| udp, allowed | 1 | 99 | 25 | 45 % | 0 | 1.0 s at 0 |" in away
    failed = report.failure(7, run, judges.judge(run))
    assert failed.startswith("seed 7: 1 breaches")
    assert "beside disk full: web1, 20.0 to 40.0" in failed
    late = report.failure(7, *_late(run))
    assert "   19.0  [3 flowing]" in late
    assert "beside disk full: web1, 10.0 to 30.0" in late


def _late(run: History) -> tuple[History, list[Breach]]:
    """The same run, whose faults began ten seconds after the stage was up."""
    moved = dataclasses.replace(run, watched=(10.0, 100.0))
    return moved, judges.judge(moved)
