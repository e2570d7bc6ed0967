# SPDX-License-Identifier: Apache-2.0
"""What oslo.messaging and kombu read before the core does: no message silences or bloats it."""

import bz2
import json
import pickle
import resource
import zlib
from typing import Any

import amqp
import pytest

from cnsmo.model.errors import Denied, UnknownCall
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import AgentReport, Heartbeat, JoinAnswer
from tests.eventually import eventually
from tests.fuzz.wild import deep
from tests.integration.bus.site import MIB, TIMEOUT, Site, call_of, in_envelope

BEAT = Heartbeat(applied={})
MUCH = 1024 * MIB
COMPRESSORS = {"gzip": zlib.compressobj, "bzip2": bz2.BZ2Compressor}
SIGN_OF_LIFE = 1.5
"""Seconds; oslo.messaging sends one after half of a time-out of two."""
MANY = 30
"""Of each: more than TIMEOUT has seconds, as a listener that fails waits for one."""


class Touch:
    """What is unpickled leaves a trace."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self._path, "w")


def enveloped(**wrong: Any) -> bytes:
    inner = call_of("heartbeat", None, {}) | wrong
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(inner)}).encode()


def plain(**wrong: Any) -> bytes:
    return json.dumps(call_of("heartbeat", None, {}) | wrong).encode()


JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
BODIES: dict[str, bytes] = {
    "no JSON": b"{",
    "no bytes at all": b"",
    "a word": b'"heartbeat"',
    "a list": b"[1, 2]",
    "pairs": b'[["method", "heartbeat"]]',
    "deep": b"[" * 100_000,
    "an envelope of another release": b'{"oslo.version": "9.0", "oslo.message": "{}"}',
    "an envelope without a version": b'{"oslo.version": null, "oslo.message": "{}"}',
    "an envelope around a number": b'{"oslo.version": "2.0", "oslo.message": "7"}',
    "an envelope around something else": b'{"oslo.version": "2.0", "oslo.message": {}}',
    "a context that is its own class": enveloped(_context_self=1),
    "a context that cannot be copied": enveloped(_context_x=deep(900)),
    "types that JSON has not": plain(args={"__type__": "uuid", "__value__": "x"}),
    "bytes": plain(args={"beat": {"__type__": "base64", "__value__": "AAAA"}}),
    "a number for the same message": enveloped(_unique_id=[1]),
}


def flood(site: Site, thief: JoinAnswer, message: amqp.Message, times: int = MANY) -> None:
    with site.channel(thief) as channel:
        for _number in range(times):
            channel.basic_publish(
                message, exchange=f"cnsmo-agent.{thief.id}", routing_key="cnsmo-core"
            )


@pytest.mark.parametrize("what", BODIES)
def test_no_message_silences_the_core(
    site: Site, thief: JoinAnswer, victim: JoinAnswer, what: str
) -> None:
    client = site.client(victim)
    flood(site, thief, amqp.Message(BODIES[what], **JSON))
    assert client.heartbeat(BEAT).head > 0
    eventually(lambda: site.waiting("cnsmo-core") == 0, TIMEOUT, "the core takes the messages")


@pytest.mark.parametrize(
    "properties",
    [
        {"content_type": "application/x-nothing"},
        {"content_encoding": "nothing"},
        {"application_headers": {"compression": "nothing"}},
        {"application_headers": {"compression": 7}},
        {"application_headers": {"compression": ["gzip"]}},
    ],
    ids=repr,
)
def test_no_properties_silence_the_core(
    site: Site, thief: JoinAnswer, victim: JoinAnswer, properties: dict[str, Any]
) -> None:
    client = site.client(victim)
    flood(site, thief, amqp.Message(plain(), **(JSON | properties)))
    assert client.heartbeat(BEAT).head > 0


@pytest.mark.parametrize("kind", ["application/x-python-serialize", "application/x-yaml"])
def test_nothing_is_unpickled(site: Site, thief: JoinAnswer, victim: JoinAnswer, kind: str) -> None:
    trace = site.path / "trace"
    body = {
        "application/x-python-serialize": pickle.dumps(Touch(str(trace))),
        "application/x-yaml": f"!!python/object/apply:open [{trace}, w]".encode(),
    }[kind]
    flood(site, thief, amqp.Message(body, content_type=kind, content_encoding="binary"))
    assert site.client(victim).heartbeat(BEAT).head > 0
    eventually(lambda: site.waiting("cnsmo-core") == 0, TIMEOUT, "the core takes the messages")
    assert not trace.exists()


@pytest.mark.parametrize("how", COMPRESSORS)
def test_a_small_message_is_not_a_large_one_that_was_compressed(
    site: Site, thief: JoinAnswer, victim: JoinAnswer, how: str
) -> None:
    body = much_in_little(how)
    assert len(body) < 2 * MIB
    client = site.client(victim)
    client.heartbeat(BEAT)
    before = most_memory()
    flood(site, thief, amqp.Message(body, application_headers={"compression": how}, **JSON), 1)
    assert client.heartbeat(BEAT).head > 0
    eventually(lambda: site.waiting("cnsmo-core") == 0, TIMEOUT, "the core takes the message")
    assert most_memory() - before < MUCH / 4


def much_in_little(how: str) -> bytes:
    """Nothing but zeros, compressed."""
    compressor = COMPRESSORS[how]()
    chunk = bytes(16 * MIB)
    parts = [compressor.compress(chunk) for _number in range(MUCH // len(chunk))]
    return b"".join([*parts, compressor.flush()])


def most_memory() -> int:
    """Bytes that this process, and so the core, ever held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize(
    "wrong", [{"method": "nope"}, {"version": 7}, {"version": "9.0"}, {"args": [1]}, {}], ids=repr
)
def test_a_wrong_call_is_told_what_is_wrong_and_nothing_else(
    site: Site, thief: JoinAnswer, wrong: dict[str, Any]
) -> None:
    """Least of all signs of life for as long as the core lives."""
    queue = f"reply_{thief.id}:all:1"
    answers: list[str] = []
    with site.channel(thief) as channel:
        channel.queue_declare(queue, auto_delete=False)
        channel.basic_consume(queue, callback=lambda it: answers.append(it.body), no_ack=True)
        call = call_of("heartbeat", queue, {}) | {"_timeout": 2} | wrong
        channel.basic_publish(
            in_envelope(call), exchange=f"cnsmo-agent.{thief.id}", routing_key="cnsmo-core"
        )
        channel.connection.drain_events(timeout=TIMEOUT)
        answer = json.loads(json.loads(answers.pop())["oslo.message"])
        assert (answer["failure"], answer["ending"]) == (None, True)
        code = UnknownCall.code if wrong else Denied.code
        assert answer["result"]["error"]["code"] == code
        with pytest.raises(TimeoutError):
            channel.connection.drain_events(timeout=SIGN_OF_LIFE)
    assert answers == []


@pytest.mark.parametrize(
    "seen", [deep(250), 10**400, float("nan"), "\0", {"a\0": "\ud800"}], ids=ascii
)
def test_an_observation_that_nobody_could_read_arrives_as_left_out(
    site: Site, thief: JoinAnswer, victim: JoinAnswer, seen: Any
) -> None:
    report = AgentReport(
        service="vpn",
        state=State.READY,
        reason="",
        applied_revision=1,
        observation={"backbone": seen},
    )
    site.client(thief).report(report)
    (told,) = [
        agent.observation
        for host in site.operator.host_list("shop")
        for agent in host.agents
        if host.name == "thief"
    ]
    assert told is not None
    assert list(told["backbone"]) == ["left_out"]
    assert site.client(victim).sync(0).head > 0
