# SPDX-License-Identifier: Apache-2.0
"""Answers with an address: what was returned, or which of our errors was raised.

oslo.messaging can carry exceptions, but adds the traceback to their text; a person shall read our
message and nothing else, and a stranger shall learn nothing.
"""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_log import log
from pydantic import BaseModel, ValidationError

from cnsmo.model.errors import CnsmoError, InvalidRequest, from_code
from cnsmo.model.wording import in_words

LOG = log.getLogger(__name__)
OK = "ok"


class Endpoints:
    """What answers calls; it may want to know what became of each."""

    def _answered(self, call: str, outcome: str, seconds: float) -> None:
        """A call was answered. outcome: OK, or the code of the error."""


def answers(method: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Wrap a method of an endpoint: it returns models, the bus carries envelopes.

    What is not wrapped so cannot be called.
    """

    @functools.wraps(method)
    def wrapped(self: Any, ctxt: dict[str, Any], /, **kwargs: Any) -> dict[str, Any]:
        began = time.monotonic()
        answer = attempt(self, ctxt, kwargs)
        if isinstance(self, Endpoints):
            self._answered(method.__name__, _outcome(answer), time.monotonic() - began)
        return answer

    def attempt(self: Any, ctxt: dict[str, Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"value": _plain(method(self, ctxt, **kwargs))}
        except CnsmoError as exc:
            return refusal(exc)
        except ValidationError as exc:
            return refusal(InvalidRequest(f"{method.__name__}: {in_words(exc)}"))
        except TypeError as exc:
            if exc.__traceback__ is not None and exc.__traceback__.tb_next is None:
                return refusal(InvalidRequest(f"{method.__name__}: wrong arguments"))
            return incident(method.__name__)
        except Exception:  # noqa: BLE001  # reported under a number
            return incident(method.__name__)

    exposed: Callable[..., dict[str, Any]] = oslo_messaging.expose(wrapped)
    return exposed


def _outcome(answer: dict[str, Any]) -> str:
    return str(answer["error"]["code"]) if "error" in answer else OK


def opened(answer: Any) -> Any:
    """What the other side returned.

    :raises CnsmoError: what the other side raised.
    """
    if not isinstance(answer, dict) or not ({"value", "error"} & set(answer)):
        raise CnsmoError("the answer from the bus is not one of CNSMO's")
    if "error" in answer:
        error = answer["error"]
        raise from_code(error["code"], error["message"], error["details"])
    return answer["value"]


def refusal(exc: CnsmoError) -> dict[str, Any]:
    """The answer that raises the same error on the other side."""
    error = {"code": exc.code, "message": exc.message, "details": _plain(exc.details)}
    return {"error": error}


def incident(method: str) -> dict[str, Any]:
    """Log an unforeseen exception under a number, and tell the caller only the number."""
    number = secrets.token_hex(4)
    LOG.exception("incident %s in %s", number, method)  # noqa: LOG004  # called where one is handled
    return refusal(CnsmoError(f"internal error in {method}; the core's log has incident {number}"))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
