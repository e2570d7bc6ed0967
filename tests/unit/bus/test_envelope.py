# SPDX-License-Identifier: Apache-2.0
"""Envelopes: answers and our errors pass, everything else becomes a number."""

import re
from typing import Any

import pytest
from pydantic import BaseModel

from cnsmo.bus import envelope
from cnsmo.bus.envelope import answers, opened
from cnsmo.model.errors import CnsmoError, Conflict, InvalidRequest, Unavailable

SECRET = "postgresql://root:hunter2@db/cnsmo"


class Thing(BaseModel):
    number: int


class Endpoints:
    @answers
    def fine(self, ctxt: dict[str, Any], what: Any = None) -> Any:
        return {"things": [Thing(number=1), (Thing(number=2),)], "what": what}

    @answers
    def ours(self, ctxt: dict[str, Any]) -> None:
        raise Conflict("somebody was faster", problems=[Thing(number=3)])

    @answers
    def theirs(self, ctxt: dict[str, Any]) -> None:
        raise RuntimeError(SECRET)

    @answers
    def mistyped(self, ctxt: dict[str, Any]) -> int:
        return len(SECRET + 5)  # type: ignore[operator]

    @answers
    def checked(self, ctxt: dict[str, Any], thing: Any) -> Thing:
        return Thing.model_validate(thing)


def test_models_become_plain_data() -> None:
    answer = Endpoints().fine({}, what="x")
    assert answer == {"value": {"things": [{"number": 1}, [{"number": 2}]], "what": "x"}}
    assert opened(answer)["what"] == "x"


def test_our_errors_arrive_as_themselves() -> None:
    with pytest.raises(Conflict, match="somebody was faster") as caught:
        opened(Endpoints().ours({}))
    assert caught.value.details == {"problems": [{"number": 3}]}


@pytest.mark.parametrize("method", ["theirs", "mistyped"])
def test_what_nobody_foresaw_is_a_number_for_the_caller_and_a_trace_for_the_log(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[Any, ...]] = []
    monkeypatch.setattr(envelope.LOG, "exception", lambda *said: logged.append(said))
    monkeypatch.setattr(envelope.LOG, "error", lambda *said, **_more: logged.append(said))
    answer = getattr(Endpoints(), method)({})
    with pytest.raises(CnsmoError) as caught:
        opened(answer)
    found = re.fullmatch(
        rf"internal error in {method}; the core's log has incident ([0-9a-f]{{8}})",
        str(caught.value),
    )
    assert found
    assert type(caught.value) is CnsmoError
    assert "hunter2" not in repr(answer)
    assert logged[0][1:] == (found[1], method)


def test_a_wrong_argument_is_the_callers_mistake() -> None:
    with pytest.raises(InvalidRequest, match="checked: number: "):
        opened(Endpoints().checked({}, thing={"number": "x"}))
    for arguments in ({}, {"thing": {}, "more": 1}):
        with pytest.raises(InvalidRequest, match="checked: wrong arguments"):
            opened(Endpoints().checked({}, **arguments))


def test_a_validation_error_does_not_repeat_what_was_sent() -> None:
    answer = Endpoints().checked({}, thing={"number": SECRET})
    assert "hunter2" not in repr(answer)


@pytest.mark.parametrize("answer", [None, 5, "value", [], {}, {"values": 1}])
def test_what_is_no_envelope_is_refused(answer: Any) -> None:
    with pytest.raises(CnsmoError, match="not one of CNSMO's"):
        opened(answer)


def test_an_error_of_a_later_release_is_an_error() -> None:
    with pytest.raises(CnsmoError, match="new trouble"):
        opened({"error": {"code": "new", "message": "new trouble", "details": {}}})
    with pytest.raises(Unavailable):
        opened({"error": {"code": "unavailable", "message": "later", "details": {}}})
