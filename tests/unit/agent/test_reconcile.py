# SPDX-License-Identifier: Apache-2.0
"""One agent: what it tells the core, what it makes of the replica, and where it says it stands."""

import dataclasses
import datetime
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cnsmo.agent import reconcile as module
from cnsmo.agent.identity import StateDir
from cnsmo.agent.reconcile import Outcome, ServiceAgent
from cnsmo.agent.system import LocalSystem
from cnsmo.model.errors import (
    Denied,
    DriverError,
    DriverUnavailable,
    InvalidRequest,
    NotAdmitted,
    Removed,
    Unavailable,
)
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import Announcement
from cnsmo.model.resource import CORE, HOST, Row, View, joined, member_kind
from cnsmo.services import registry
from cnsmo.services.base import Desired, Driver, NetworkService, Observation, Unit

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)


class Spec(BaseModel):
    text: str = ""
    problems: tuple[str, ...] = ()
    driver: str = "fake"


class Offer(BaseModel):
    key: str


@dataclasses.dataclass(frozen=True)
class Note(Desired):
    text: str


class Notes(NetworkService):
    """Writes a text on every host that has announced itself."""

    name = "notes"
    Spec = Spec
    Announcement = Offer

    def check(self, view: View) -> list[Any]:
        return []

    def concerns(self, instance: str, spec: BaseModel, host: Any) -> bool:
        return True

    def units(self, view: View, host: str) -> list[Unit]:
        rows = {row.name: Spec.model_validate(row.body) for row in view.rows("notes")}
        return [Unit(name, spec.driver) for name, spec in rows.items()]

    def compile(self, view: View, host: str) -> Mapping[str, Desired]:
        made = {}
        for row in view.rows("notes"):
            spec = Spec.model_validate(row.body)
            waiting = view.get(member_kind("notes"), joined(row.name, host)) is None
            made[row.name] = Note(spec.driver, spec.text, problems=spec.problems, waiting=waiting)
        return made


class FakeDriver(Driver[Note]):
    """Keeps the text in memory, no file; ``trouble`` says what goes wrong where."""

    name = "fake"
    prepares = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.text: str | None = None
        self.trouble: dict[str, Any] = {}
        self.calls: list[str] = []
        self.confirmed = False

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if isinstance(self.trouble.get(name), Exception):
            raise self.trouble[name]

    def check(self) -> None:
        self._call("check")

    def announce(self, unit: Unit) -> dict[str, Any]:
        self._call("announce")
        self.confirmed = unit.confirmed
        return {"key": f"of {unit.name}"}

    def apply(self, desired: Note) -> list[str]:
        self._call("apply")
        before, self.text = self.text, desired.text
        return [] if before == desired.text else [f"wrote {desired.text}"]

    def observe(self, desired: Note) -> Observation:
        self._call("observe")
        if "gone back" in self.trouble:
            self.trouble.pop("trial", None)
        return self.trouble.get("seen", Observation(detail={"text": self.text}))

    def trial(self) -> float | None:
        left = self.trouble.get("trial")
        if isinstance(left, Exception):
            raise left
        return left

    def confirm(self) -> bool:
        self._call("confirm")
        self.trouble.pop("trial", None)
        return bool(self.trouble.get("in time", True))

    def remove(self) -> None:
        self._call("remove")
        self.text = None


class Bench:
    """A service agent with its drivers, and the core's side of it."""

    def __init__(self, agent: ServiceAgent, drivers: dict[tuple[str, str], FakeDriver]) -> None:
        self.agent = agent
        self.drivers = drivers
        self.told: list[Announcement] = []
        self.withdrawn: list[tuple[str, str]] = []
        self.answer: Callable[[Announcement], int] = lambda _offer: 9
        self.refusal: Exception | None = None

    def driver(self, unit: str, name: str = "fake") -> FakeDriver:
        return self.drivers[unit, name]

    def announce(self, *rows: Row, confirmed: int = 0) -> module.Announced:
        def announce(offer: Announcement) -> int:
            self.told.append(offer)
            return self.answer(offer)

        def withdraw(service: str, instance: str) -> None:
            if self.refusal is not None:
                raise self.refusal
            self.withdrawn.append((service, instance))

        return self.agent.announce(view(rows), "web1", confirmed, announce, withdraw)

    def reconcile(self, *rows: Row, problems: Iterable[str] = ()) -> Outcome:
        return self.agent.reconcile(view(rows), "web1", list(problems))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    drivers: dict[tuple[str, str], FakeDriver] = {}

    def make(_service: str, name: str, *args: Any) -> FakeDriver:
        if name == "missing":
            raise DriverUnavailable("no driver 'missing' is installed here")
        made = FakeDriver(*args)
        drivers[args[1], name] = made
        return made

    monkeypatch.setattr(registry, "make_driver", make)
    state = StateDir(tmp_path, "all")
    return Bench(ServiceAgent(Notes(), LocalSystem(), state, "shop/web1"), drivers)


def row(kind: str, name: str, body: Mapping[str, Any], revision: int = 5) -> Row:
    return Row(kind=kind, name=name, owner=CORE, revision=revision, body=dict(body), updated_at=NOW)


def view(rows: Iterable[Row]) -> View:
    return View("shop", 7, [row(HOST, "web1", {"id": "h-1", "groups": []}), *rows])


def note(name: str, text: str = "hello", **more: Any) -> Row:
    return row("notes", name, {"text": text, **more})


def member(name: str, key: str | None = None, revision: int = 5, host: str = "web1") -> Row:
    body = {"key": key or f"of {name}", "added-by-the-core": 1}
    return row(member_kind("notes"), joined(name, host), body, revision)


# telling the core


def test_what_is_new_is_announced(bench: Bench) -> None:
    told = bench.announce(note("a"), note("b"))
    assert [(offer.instance, offer.body) for offer in bench.told] == [
        ("a", {"key": "of a"}),
        ("b", {"key": "of b"}),
    ]
    assert (told.revision, told.refused) == (9, [])


def test_what_the_core_knows_is_not_repeated(bench: Bench) -> None:
    assert bench.announce(note("a"), member("a")).revision == 0
    assert not bench.told


def test_a_new_key_is_announced(bench: Bench) -> None:
    bench.announce(note("a"), member("a", key="old"))
    assert [offer.instance for offer in bench.told] == ["a"]


def test_a_driver_learns_when_everybody_knows_what_was_announced(bench: Bench) -> None:
    bench.announce(note("a"), member("a", revision=5), confirmed=4)
    assert not bench.driver("a").confirmed
    bench.announce(note("a"), member("a", revision=5), confirmed=5)
    assert bench.driver("a").confirmed


def test_what_is_not_declared_any_more_is_withdrawn(bench: Bench) -> None:
    bench.announce(note("a"), member("a"), member("gone"), member("gone", host="db1"))
    assert bench.withdrawn == [("notes", "gone")]


@pytest.mark.parametrize("call", ["check", "announce"])
@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (DriverUnavailable("package wireguard-tools is missing"), "package wireguard-tools is"),
        (KeyError("surprise"), "unforeseen KeyError: 'surprise'"),
    ],
)
def test_a_unit_that_cannot_be_announced_does_not_hold_up_the_others(
    bench: Bench, call: str, trouble: Exception, said: str
) -> None:
    bench.announce(note("a"), note("b"))
    bench.told.clear()
    bench.driver("a").trouble[call] = trouble
    told = bench.announce(note("a"), note("b"))
    assert [offer.instance for offer in bench.told] == ["b"]
    assert told.revision == 9
    assert told.refused[0].startswith(f"a: {said}")


def test_what_the_core_refuses_is_told(bench: Bench) -> None:
    def refuse(_offer: Announcement) -> int:
        raise NotAdmitted("no address is left")

    bench.answer = refuse
    assert bench.announce(note("a")).refused == ["a: no address is left"]


@pytest.mark.parametrize("error", [Unavailable("away"), Removed("removed"), Denied()])
def test_trouble_with_the_core_is_not_the_units(bench: Bench, error: Exception) -> None:
    def fail(_offer: Announcement) -> int:
        raise error

    bench.answer = fail
    with pytest.raises(type(error)):
        bench.announce(note("a"))
    bench.refusal = error
    with pytest.raises(type(error)):
        bench.announce(member("gone"))


def test_a_withdrawal_that_the_core_refuses_does_not_end_the_round(bench: Bench) -> None:
    bench.refusal = InvalidRequest("no such service here")
    told = bench.announce(member("gone"), note("a"))
    assert told.refused == ["gone: cannot be withdrawn: no such service here"]
    assert [offer.instance for offer in bench.told] == ["a"]


# making the host equal to it


def test_what_was_observed_to_be_in_force_is_ready(bench: Bench) -> None:
    outcome = bench.reconcile(note("a"), member("a"))
    assert (outcome.state, outcome.reason, outcome.applied) == (State.READY, "", True)
    assert outcome.observation == {"a": {"text": "hello"}}
    assert bench.driver("a").calls == ["check", "apply", "observe"]
    assert bench.driver("a").label == "shop/web1/notes/a"


def test_nothing_declared_is_ready_too(bench: Bench) -> None:
    assert bench.reconcile().state is State.READY


def test_a_service_that_hosts_announce_nothing_to_needs_no_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Notes, "Announcement", None)
    monkeypatch.setattr(
        Notes, "compile", lambda self, view, host: {"a": Note("fake", "hello")}, raising=True
    )
    assert bench.announce(note("a")) == module.Announced()
    assert (bench.told, bench.withdrawn) == ([], [])
    assert bench.reconcile(note("a")).state is State.READY
    assert bench.driver("a").calls == ["check", "apply", "observe"]


def test_without_a_place_the_agent_is_configuring(bench: Bench) -> None:
    outcome = bench.reconcile(note("a"), note("b"), member("b"))
    assert (outcome.state, outcome.reason) == (State.CONFIGURING, "waiting for a place in a")
    assert outcome.observation == {"b": {"text": "hello"}}


@pytest.mark.parametrize("call", ["check", "apply", "observe"])
@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (DriverError("the kernel said no"), "b: the kernel said no"),
        (RuntimeError("surprise"), "b: unforeseen RuntimeError: surprise"),
    ],
)
def test_a_unit_that_fails_is_an_error_with_its_reason_and_stops_no_other(
    bench: Bench, call: str, trouble: Exception, said: str
) -> None:
    rows = [row for name in "abc" for row in (note(name), member(name))]
    bench.reconcile(*rows)
    bench.driver("b").trouble[call] = trouble
    rows = [row for name in "abc" for row in (note(name, "new"), member(name))]
    outcome = bench.reconcile(*rows)
    assert (outcome.state, outcome.reason, outcome.applied) == (State.ERROR, said, False)
    assert {name: bench.driver(name).text for name in "ac"} == {"a": "new", "c": "new"}
    bench.driver("b").trouble.clear()
    assert bench.reconcile(*rows).state is State.READY


def test_what_went_wrong_on_the_way_counts(bench: Bench) -> None:
    outcome = bench.reconcile(note("a"), member("a"), problems=["b: no address is left"])
    assert (outcome.state, outcome.reason) == (State.ERROR, "b: no address is left")
    assert bench.driver("a").text == "hello"


def test_what_cannot_work_as_declared_is_degraded(bench: Bench) -> None:
    outcome = bench.reconcile(note("a", problems=["no path to db1"]), member("a"))
    assert (outcome.state, outcome.reason) == (State.DEGRADED, "a: no path to db1")
    assert outcome.applied


def test_what_is_in_force_but_does_not_work_is_degraded(bench: Bench) -> None:
    bench.reconcile(note("a"), member("a"))
    bench.driver("a").trouble["seen"] = Observation(problems=("db1 is silent",))
    outcome = bench.reconcile(note("a"), member("a"))
    assert (outcome.state, outcome.reason) == (State.DEGRADED, "a: db1 is silent")


def test_ready_is_observed_and_never_assumed(bench: Bench) -> None:
    bench.reconcile(note("a"), member("a"))
    bench.driver("a").trouble["seen"] = Observation(drift=("the text is another one",))
    outcome = bench.reconcile(note("a"), member("a"))
    assert outcome.state is State.ERROR
    assert outcome.reason == "a: still not as declared: the text is another one"


def test_drift_is_repaired_and_told(bench: Bench) -> None:
    assert bench.reconcile(note("a"), member("a")).repaired == []
    assert bench.reconcile(note("a"), member("a")).repaired == []
    bench.driver("a").text = "somebody else's"
    outcome = bench.reconcile(note("a"), member("a"))
    assert (outcome.state, outcome.repaired) == (State.READY, ["a: wrote hello"])
    assert bench.reconcile(note("a", "new"), member("a")).repaired == [], "a change is no drift"


def test_drift_that_was_repaired_when_another_unit_failed_is_not_forgotten(bench: Bench) -> None:
    rows = [note("a"), member("a"), note("b"), member("b")]
    bench.reconcile(*rows)
    bench.driver("a").text = "somebody else's"
    bench.driver("b").trouble["apply"] = DriverError("no")
    outcome = bench.reconcile(*rows)
    assert (outcome.state, outcome.repaired) == (State.ERROR, ["a: wrote hello"])


def test_what_is_not_declared_any_more_is_removed(bench: Bench) -> None:
    bench.reconcile(note("a"), member("a"), note("b"), member("b"))
    gone = bench.driver("a")
    assert bench.reconcile(note("b"), member("b")).state is State.READY
    assert gone.calls[-1] == "remove"
    bench.reconcile(note("a"), member("a"), note("b"), member("b"))
    assert bench.driver("a") is not gone


def test_what_an_earlier_process_made_is_removed_as_well(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "units" / "notes" / "old" / "fake"
    folder.mkdir(parents=True)
    bench.reconcile()
    assert not folder.exists()
    assert bench.driver("old").calls == ["remove"]


@pytest.mark.parametrize("prepares", [False, True])
def test_a_later_process_knows_of_what_a_driver_made_without_a_file(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepares: bool
) -> None:
    monkeypatch.setattr(FakeDriver, "prepares", prepares)
    if prepares:
        bench.announce(note("a"))
    else:
        bench.reconcile(note("a"), member("a"))
    later = ServiceAgent(Notes(), LocalSystem(), StateDir(tmp_path, "all"), "shop/web1")
    assert later.reconcile(view([]), "web1", []).state is State.READY
    assert bench.driver("a").calls == ["remove"]
    assert not (tmp_path / "units" / "notes" / "a" / "fake").exists()


def test_a_driver_that_cannot_work_here_leaves_no_trace(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_driver: FakeDriver) -> None:
        raise DriverUnavailable("no such program")

    monkeypatch.setattr(FakeDriver, "check", fail)
    assert bench.reconcile(note("a"), member("a")).state is State.ERROR
    assert not (tmp_path / "units").exists()


@pytest.mark.parametrize("trouble", [DriverError("busy"), OSError("surprise")])
def test_what_cannot_be_removed_is_an_error_and_tried_again(
    bench: Bench, trouble: Exception
) -> None:
    rows = [note("b"), member("b")]
    bench.reconcile(note("a"), member("a"), *rows)
    bench.driver("a").trouble["remove"] = trouble
    outcome = bench.reconcile(*rows)
    assert outcome.state is State.ERROR
    assert outcome.reason.startswith("a: cannot be removed: ")
    assert bench.driver("b").text == "hello"
    bench.driver("a").trouble.clear()
    assert bench.reconcile(*rows).state is State.READY


def test_a_driver_that_is_not_installed_is_an_error(bench: Bench) -> None:
    outcome = bench.reconcile(note("a", driver="missing"), member("a"))
    assert (outcome.state, outcome.reason) == (
        State.ERROR,
        "a: no driver 'missing' is installed here",
    )


def test_everything_can_be_taken_away(bench: Bench) -> None:
    bench.reconcile(note("a"), member("a"), note("b"), member("b"))
    bench.driver("a").trouble["remove"] = DriverError("busy")
    assert bench.agent.remove() == ["a: cannot be removed: busy"]
    assert bench.driver("b").text is None
    bench.driver("a").trouble.clear()
    assert bench.agent.remove() == []
    assert bench.agent.remove() == []


def test_the_next_look_is_the_soonest_that_a_driver_asks_for(bench: Bench) -> None:
    rows = [row for name in "abc" for row in (note(name), member(name))]
    assert bench.reconcile(*rows).again is None
    bench.driver("a").trouble["seen"] = Observation(again=5.0)
    bench.driver("c").trouble["seen"] = Observation(again=2.0)
    assert bench.reconcile(*rows).again == 2.0


def test_who_can_prepare_does_so_before_the_announcement(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeDriver, "prepares", True)
    bench.announce(note("a"))
    assert bench.driver("a").calls == ["check", "announce", "apply"]
    assert [offer.instance for offer in bench.told] == ["a"]


def test_a_service_that_cannot_compile_is_an_error_and_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_service: Notes, _view: View, _host: str) -> Any:
        raise KeyError("surprise")

    monkeypatch.setattr(Notes, "compile", fail)
    outcome = bench.reconcile(note("a"), member("a"))
    assert (outcome.state, outcome.applied) == (State.ERROR, False)
    assert outcome.reason == "unforeseen KeyError: 'surprise'"
    monkeypatch.undo()
    monkeypatch.setattr(Notes, "units", fail)
    assert bench.announce(note("a")).refused == ["unforeseen KeyError: 'surprise'"]


def test_where_nothing_new_is_desired_only_a_thorough_look_asks_the_driver(bench: Bench) -> None:
    rows = [note("a"), member("a")]
    first = bench.reconcile(*rows)
    asked = len(bench.driver("a").calls)
    again = bench.agent.reconcile(view(rows), "web1", [], thorough=False)
    assert again == first
    assert len(bench.driver("a").calls) == asked
    bench.agent.reconcile(view([note("a", "new"), member("a")]), "web1", [], thorough=False)
    assert bench.driver("a").text == "new"


def test_after_a_failure_the_next_try_comes_soon_and_then_later(bench: Bench) -> None:
    rows = [note("a"), member("a")]
    bench.reconcile(*rows)
    bench.driver("a").trouble["apply"] = DriverError("no")
    pauses = [bench.reconcile(*rows).again or 0.0 for _ in range(8)]
    assert 1.0 <= pauses[0] <= 2.0
    assert 30.0 <= pauses[-1] <= 60.0
    bench.driver("a").trouble.clear()
    assert bench.reconcile(*rows).again is None
