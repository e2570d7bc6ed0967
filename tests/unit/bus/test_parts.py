# SPDX-License-Identifier: Apache-2.0
"""How a client asks for a long answer: part by part, going on where a try failed."""

import datetime
from typing import Any

import pytest

from cnsmo.bus.parts import IN_PARTS, Parts
from cnsmo.bus.versions import Versions
from cnsmo.model.errors import Unavailable, UnknownCall
from cnsmo.model.parts import Mark, Part, part
from cnsmo.model.resource import Row

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
COUNT, MOST = 10, 3


def row(number: int) -> Row:
    return Row(
        kind="thing", name=str(number), owner="core", revision=number, body={}, updated_at=NOW
    )


class Cores:
    """Answer with rows 1 to COUNT, MOST at a time; ``fails``: at which calls they are away."""

    def __init__(self, *fails: int) -> None:
        self.fails = fails
        self.asked: list[int] = []

    def __call__(self, since: int, mark: dict[str, Any] | None) -> Part:
        known = since if mark is None else Mark.model_validate(mark).revision
        self.asked.append(known)
        if len(self.asked) in self.fails:
            raise Unavailable("no core answered")
        rows = [row(number) for number in range(known + 1, COUNT + 1)][: MOST + 1]
        begun = (since, since <= 0) if mark is None else Mark.model_validate(mark)
        return part("shop", COUNT, rows, begun, MOST, NOW)


@pytest.fixture
def versions() -> Versions:
    return Versions("1.3", "", {IN_PARTS: "1.3"}, {})


def test_all_parts_together_are_the_answer(versions: Versions) -> None:
    cores = Cores()
    answer = Parts(versions, cores).sync(0)
    assert [it.revision for it in answer.rows] == list(range(1, COUNT + 1))
    assert (answer.head, answer.snapshot, answer.observe_at) == (COUNT, True, NOW)
    assert cores.asked == [0, 3, 6, 9]


def test_a_try_that_failed_in_the_middle_is_gone_on_with(versions: Versions) -> None:
    cores = Cores(3)
    reader = Parts(versions, cores)
    with pytest.raises(Unavailable):
        reader.sync(0)
    assert [it.revision for it in reader.sync(0).rows] == list(range(1, COUNT + 1))
    assert cores.asked == [0, 3, 6, 6, 9]


def test_who_asks_for_something_else_meanwhile_begins_anew(versions: Versions) -> None:
    cores = Cores(2)
    reader = Parts(versions, cores)
    with pytest.raises(Unavailable):
        reader.sync(0)
    assert [it.revision for it in reader.sync(8).rows] == [9, 10]
    reader.forget()
    assert len(reader.sync(0).rows) == COUNT
    assert cores.asked == [0, 3, 8, 0, 3, 6, 9]


@pytest.mark.parametrize("after", [1, 3])
def test_a_core_of_the_release_before_is_asked_for_all_at_once(
    versions: Versions, after: int
) -> None:
    cores = Cores()

    def tell(since: int, mark: dict[str, Any] | None) -> Part:
        if len(cores.asked) + 1 == after:
            versions.refused("1.3")
            raise UnknownCall("there is no such call in that version")
        return cores(since, mark)

    assert Parts(versions, tell).sync(0) is None
    assert Parts(versions, tell).sync(0) is None
    assert len(cores.asked) == after - 1
