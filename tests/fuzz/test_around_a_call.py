# SPDX-License-Identifier: Apache-2.0
"""What is around a call (its method, version, time-out, context): answered as all is, or dropped.

By the bus inside one process; tests/integration/bus/test_malformed.py does it at a real broker.
"""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kombu import Connection
from oslo_config import cfg
from oslo_messaging import server

from cnsmo.bus import transport
from cnsmo.bus.inprocess import ALIAS
from cnsmo.core.server import CoreServer
from cnsmo.model.errors import Denied, InvalidRequest, UnknownCall
from tests.eventually import eventually
from tests.fuzz.wild import deep, fuzzed, json_value, mutations, text

REPLIES = "reply_fuzz"
CODES = {Denied.code, InvalidRequest.code, UnknownCall.code}
RIGHT: dict[str, Any] = {
    "method": "sync",
    "args": {"since": 0},
    "version": "1.0",
    "namespace": None,
    "_timeout": None,
    "_unique_id": "",
    "_context_agent_id": "h-1",
    "_context_agent_secret": "guess",
}
AROUND = sorted(set(RIGHT) - {"args", "_unique_id"})
context = st.text(max_size=9) | st.sampled_from(["self", "cls", "values", "msg_id", "conf"])


class Scene:
    """A core that takes one call after the other, and who calls without oslo.messaging."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        conf.register_opts(server._pool_opts)
        conf.set_override("executor_thread_pool_size", 1)
        self.core = CoreServer(conf)
        self.core.start(health=False)
        self._connection = Connection(f"{ALIAS}://")
        self._channel = self._connection.channel()
        self._channel.queue_declare(REPLIES)
        self.numbers = iter(range(10**9))
        self.answers(RIGHT)
        self._threads = threading.active_count()

    def answers(self, call: dict[str, Any], dropped: bool | None = False) -> None:
        """The call is refused, or dropped (None: who knows), and the next one is refused."""
        wrong, right = self._send(call), self._send(RIGHT)
        told = self._until(right)
        assert dropped is None or (wrong in told) != dropped
        for answer in told.values():
            assert (answer["failure"], answer["ending"]) == (None, True)
            assert answer["result"]["error"]["code"] in CODES
            assert "Traceback" not in str(answer)

    def leaves_nothing(self) -> None:
        """As many threads as before all calls."""
        assert threading.active_count() <= self._threads

    def _send(self, call: dict[str, Any]) -> str:
        number = f"m-{next(self.numbers)}"
        inner = json.dumps({**call, "_msg_id": number, "_reply_q": REPLIES})
        body = json.dumps({"oslo.version": "2.0", "oslo.message": inner})
        message = self._channel.prepare_message(
            body, content_type="application/json", content_encoding="utf-8"
        )
        self._channel.basic_publish(message, transport.EXCHANGE, transport.AGENTS_TOPIC)
        return number

    def _until(self, last: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}

        def look() -> bool:
            message = self._channel.basic_get(REPLIES, no_ack=True)
            if message is not None:
                answer = json.loads(message.payload["oslo.message"])
                found[answer["_msg_id"]] = answer
            return last in found

        eventually(look)
        return found

    def close(self) -> None:
        self._channel.queue_delete(REPLIES)
        self._connection.release()
        self.core.stop()


@pytest.fixture
def scene(conf: cfg.ConfigOpts) -> Iterator[Scene]:
    made = Scene(conf)
    yield made
    made.leaves_nothing()
    made.close()
    conf.clear_override("executor_thread_pool_size")


@fuzzed
@given(field=st.sampled_from(AROUND), value=json_value)
@example(field="method", value="nope")
@example(field="method", value="_core")
@example(field="method", value="__class__")
@example(field="version", value="9" * 5000 + ".0")
@example(field="version", value="1.0\n")
@example(field="_timeout", value=2)
def test_nothing_wrong_around_a_call_does_harm(scene: Scene, field: str, value: Any) -> None:
    scene.answers({**RIGHT, field: value})


@fuzzed
@given(args=json_value | mutations(RIGHT["args"]))
@example(args=None)
@example(args=[])
def test_no_arguments_of_another_kind_do_harm(scene: Scene, args: Any) -> None:
    scene.answers({**RIGHT, "args": args})


@fuzzed
@given(key=context | text, value=json_value)
@example(key="self", value=1)
def test_no_context_does_harm(scene: Scene, key: str, value: Any) -> None:
    scene.answers({**RIGHT, f"_context_{key}": value}, dropped=key == "self")


@fuzzed
@given(number=json_value)
def test_no_number_of_a_message_does_harm(scene: Scene, number: Any) -> None:
    """The second of a number is dropped, as one that the broker delivered twice."""
    scene.answers({**RIGHT, "_unique_id": [number, next(scene.numbers)]})
    scene.answers({**RIGHT, "_unique_id": [number, 0]}, dropped=None)


def test_depth_around_a_call_does_no_harm(scene: Scene) -> None:
    """To copy it takes more than Python has."""
    scene.answers({**RIGHT, "_context_deep": deep(900)}, dropped=True)
    scene.answers({**RIGHT, "args": {"since": deep(900)}})


@pytest.mark.parametrize("field", sorted(RIGHT))
def test_what_is_missing_around_a_call_does_no_harm(scene: Scene, field: str) -> None:
    scene.answers({key: value for key, value in RIGHT.items() if key != field})
