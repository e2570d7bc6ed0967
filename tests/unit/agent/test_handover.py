# SPDX-License-Identifier: Apache-2.0
"""Another driver takes a unit over: what works stays in force until the new one can come."""

import pytest

from cnsmo.model.errors import DriverError
from cnsmo.model.lifecycle import State
from tests.unit.agent.test_reconcile import Bench, FakeDriver, bench, member, note  # noqa: F401

OLD = [note("a"), member("a")]
NEW = note("a", "new", driver="other")


@pytest.fixture
def switched(bench: Bench) -> Bench:  # noqa: F811
    """A unit in force, and another driver that announced itself in its place."""
    bench.reconcile(*OLD)
    (bench.driver("a").state_dir / "key").write_bytes(b"\xffsecret")
    bench.announce(NEW, member("a", key="of another driver"))
    (bench.driver("a", "other").state_dir / "key").write_text("announced")
    return bench


def in_force(bench: Bench) -> FakeDriver:  # noqa: F811
    """The old driver, found as it was."""
    old = bench.driver("a")
    key = old.state_dir / "key"
    assert old.text == "hello"
    assert (key.read_bytes(), key.stat().st_mode & 0o777) == (b"\xffsecret", 0o600)
    return old


def test_another_driver_takes_the_place_of_the_first(switched: Bench) -> None:
    old = switched.driver("a")
    outcome = switched.reconcile(NEW, member("a"))
    assert (outcome.state, outcome.repaired) == (State.READY, [])
    assert old.calls[-1] == "remove"
    assert not old.state_dir.exists()
    assert switched.driver("a", "other").text == "new"


def test_while_the_new_one_has_no_place_yet_the_old_one_stays(switched: Bench) -> None:
    outcome = switched.reconcile(NEW)
    assert (outcome.state, outcome.reason) == (State.CONFIGURING, "waiting for a place in a")
    assert "remove" not in in_force(switched).calls


def test_who_can_prepare_does_not_while_another_driver_is_in_force(
    switched: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeDriver, "prepares", True)
    switched.announce(NEW)
    assert "apply" not in switched.driver("a", "other").calls
    switched.reconcile(NEW, member("a"))
    assert "remove" not in switched.driver("a", "other").calls
    assert switched.driver("a", "other").text == "new"


def test_while_nothing_is_desired_of_the_new_one_the_old_one_stays(
    switched: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switched.agent.service, "compile", lambda *_view: {})
    assert switched.reconcile(NEW).state is State.CONFIGURING
    assert "remove" not in in_force(switched).calls


@pytest.mark.parametrize("trouble", [DriverError("port in use"), OSError("port in use")])
def test_where_the_new_one_fails_the_old_one_returns_as_it_was(
    switched: Bench, trouble: Exception
) -> None:
    other = switched.driver("a", "other")
    other.trouble["apply"] = trouble
    outcome = switched.reconcile(NEW, member("a"))
    assert (outcome.state, outcome.applied) == (State.ERROR, False)
    assert outcome.reason.startswith("a: other cannot take over: ")
    assert outcome.reason.endswith("port in use; fake is in force again")
    assert in_force(switched).calls == ["check", "apply"]
    assert other.calls[-1] == "remove"
    assert (other.state_dir / "key").read_text() == "announced"
    assert switched.reconcile(NEW, member("a")).state is State.READY, "when it can, it does"
    assert switched.driver("a", "other").text == "new"


def test_where_the_old_one_cannot_be_removed_it_is_made_whole_again(switched: Bench) -> None:
    switched.driver("a").trouble["remove"] = DriverError("busy")
    outcome = switched.reconcile(NEW, member("a"))
    assert outcome.reason == "a: other cannot take over: busy; fake is in force again"
    assert in_force(switched).calls[-2:] == ["check", "apply"]


def test_what_cannot_return_is_told(switched: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_driver: FakeDriver, _desired: object) -> list[str]:
        raise DriverError("no")

    monkeypatch.setattr(FakeDriver, "apply", fail)
    assert switched.reconcile(NEW, member("a")).reason == (
        "a: other cannot take over: no; fake cannot return either: no"
    )


def test_what_an_earlier_process_made_cannot_return(bench: Bench) -> None:  # noqa: F811
    bench.announce(note("a"))
    bench.announce(NEW)
    bench.driver("a", "other").trouble["apply"] = DriverError("no")
    assert bench.reconcile(NEW, member("a")).reason == (
        "a: other cannot take over: no; what was in force before does not return: it is not "
        "known since the agent started"
    )
