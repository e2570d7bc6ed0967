# SPDX-License-Identifier: Apache-2.0
"""Whatever a host that is one of ours sends: it is told what is wrong, or changes only its own."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.core.context import Core
from cnsmo.core.endpoints import AgentEndpoints, OperatorEndpoints
from cnsmo.model.errors import CnsmoError, Denied
from cnsmo.model.resource import Changes
from cnsmo.state.replica import Replica
from tests.fuzz.wild import deep, fuzzed, json_value, mutations, text
from tests.unit.conftest import Operator, contents

DOCUMENT = "deployment: shop\nvpn: {backbone: {cidr: 10.66.0.0/16, driver: noop}}\n"
KEY = "A" * 42 + "A="
FACTS = {
    "site": "paris",
    "private": ["10.1.0.5/24", "fd00::5/64"],
    "public": ["192.0.2.7"],
    "behind_nat": True,
    "mtu": 1400,
    "instance_id": "i-1",
}
OFFER = {"driver": "noop", "generation": 1, "public_key": KEY, "next_fingerprint": None}
SEEN = {"backbone": {"peers": [{"name": "web2", "age": 1.5}], "up": True}}
CALLS: dict[str, dict[str, Any]] = {
    "certify": {"csr": "-----BEGIN CERTIFICATE REQUEST-----\n"},
    "sync": {"since": 0},
    "sync_part": {
        "since": 0,
        "mark": {"floor": 1, "head": 1, "revision": 1, "kind": "host", "name": "web1"},
    },
    "facts": {"facts": FACTS},
    "announce": {"announcement": {"service": "vpn", "instance": "backbone", "body": OFFER}},
    "withdraw": {"service": "vpn", "instance": "backbone"},
    "report": {
        "report": {
            "service": "vpn",
            "state": "configuring",
            "reason": "",
            "applied_revision": 1,
            "observation": SEEN,
        }
    },
    "heartbeat": {"beat": {"applied": {"vpn": 1}}},
    "leave": {},
}
"""Each with arguments that are right."""


class Scene:
    """Two hosts of a deployment with a VPN; one of them lies."""

    def __init__(self, core: Core, operator: Operator, directory: Path) -> None:
        self.core = core
        self._directory = directory
        self.liar, self.other = operator.join("web1"), operator.join("web2")
        operator.apply(document=DOCUMENT, base_revision=None)
        self.other.announce(
            announcement={"service": "vpn", "instance": "backbone", "body": {"driver": "noop"}}
        )

    def sends(self, method: str, arguments: dict[str, Any], proof: dict[str, Any]) -> None:
        """What comes back is an answer or an error of ours; who is refused has changed nothing."""
        before, others = contents(self.core), self.of_others()
        answer = getattr(AgentEndpoints(self.core), method)(proof, **over_the_bus(arguments))
        assert_plain(answer)
        if "error" in answer:
            assert contents(self.core) == before
        assert self.of_others() == others
        self.everybody_goes_on()

    def of_others(self) -> list[str]:
        """All rows but those about the liar itself."""
        rows = self.core.store.changes("shop", 0).rows
        return sorted(str(row) for row in rows if "web1" not in row.name.split("/"))

    def everybody_goes_on(self) -> None:
        """The operator sees all hosts, and others can read, compile from and keep all rows."""
        for method in ("host_list", "rows"):
            served = getattr(OperatorEndpoints(self.core), method)
            answer = served({}, deployment="shop")
            assert_plain(answer)
            assert "value" in answer, answer
        changes = Changes.model_validate(over_the_bus(self.other.sync(since=0)))
        kept = Replica(self._directory / "replica.json", "shop", self.other.ident)
        kept.update(changes)
        kept.save()
        again = Replica(kept.path, "shop", self.other.ident)
        assert again.load()
        assert list(again.view()) == list(kept.view())
        assert list(again.view().everybody) == ["web1", "web2"]


def over_the_bus(value: Any) -> Any:
    """What is left of a value when it was JSON, as oslo.messaging's is."""
    return json.loads(json.dumps(value))


def assert_plain(answer: dict[str, Any]) -> None:
    """It is one of our answers, can be sent, and tells nothing of what is inside."""
    json.dumps(answer)
    assert len(answer) == 1
    assert answer.keys() <= {"value", "error"}
    if "error" in answer:
        assert answer["error"]["code"] != CnsmoError.code, answer
        assert "Traceback" not in answer["error"]["message"]


@pytest.fixture
def scene(core: Core, operator: Operator, tmp_path: Path) -> Scene:
    return Scene(core, operator, tmp_path / "other")


STAYS = sorted(set(CALLS) - {"leave"})
calls = st.sampled_from(STAYS).flatmap(
    lambda method: st.tuples(st.just(method), mutations(CALLS[method]))
)


def test_the_calls_that_are_fuzzed_are_all_there_are() -> None:
    served = {name for name in vars(AgentEndpoints) if not name.startswith("_")} - {"target"}
    assert served == {*CALLS}


@fuzzed
@given(call=calls)
def test_no_wrong_call_of_a_host_does_harm(scene: Scene, call: tuple[str, Any]) -> None:
    scene.sends(*call, scene.liar.context)


@fuzzed
@given(
    method=st.sampled_from(sorted(CALLS)),
    arguments=st.dictionaries(text | st.sampled_from(["self", "ctxt"]), json_value, min_size=1),
)
def test_no_arguments_at_all_do_harm(scene: Scene, method: str, arguments: dict[str, Any]) -> None:
    scene.sends(method, arguments, scene.liar.context)


@pytest.mark.parametrize("method", sorted(CALLS))
@pytest.mark.parametrize("name", ["self", "ctxt"])
def test_arguments_that_have_names_of_the_cores_own_are_refused(
    scene: Scene, method: str, name: str
) -> None:
    scene.sends(method, {**CALLS[method], name: 1}, scene.liar.context)


@fuzzed
@given(facts=mutations(FACTS))
def test_no_wrong_facts_do_harm(scene: Scene, facts: Any) -> None:
    scene.sends("facts", {"facts": facts}, scene.liar.context)


@fuzzed
@given(body=mutations(OFFER))
def test_no_wrong_announcement_does_harm(scene: Scene, body: Any) -> None:
    offer = {"service": "vpn", "instance": "backbone", "body": body}
    scene.sends("announce", {"announcement": offer}, scene.liar.context)


@fuzzed
@given(observation=mutations(SEEN))
def test_no_wrong_observation_does_harm(scene: Scene, observation: Any) -> None:
    report = {**CALLS["report"]["report"], "observation": observation}
    scene.sends("report", {"report": report}, scene.liar.context)


@pytest.mark.parametrize(
    "detail", [deep(300), "\ud800", {"\ud800": 1}, float("nan"), 10**400, "\0"], ids=ascii
)
def test_an_observation_that_others_could_not_read_does_no_harm(scene: Scene, detail: Any) -> None:
    report = {**CALLS["report"]["report"], "observation": {"backbone": detail}}
    scene.sends("report", {"report": report}, scene.liar.context)


@fuzzed
@given(
    method=st.sampled_from(sorted(CALLS)),
    proof=st.fixed_dictionaries({}, optional={"agent_id": json_value, "agent_secret": json_value}),
    ours=st.booleans(),
)
def test_no_wrong_proof_does_harm(
    scene: Scene, method: str, proof: dict[str, Any], ours: bool
) -> None:
    if ours:
        proof = {**proof, "agent_id": scene.liar.ident, "agent_secret": text_of(proof)}
    before = contents(scene.core)
    answer = getattr(AgentEndpoints(scene.core), method)(proof, **CALLS[method])
    assert answer["error"]["code"] == Denied.code
    assert answer["error"]["message"] == str(Denied())
    assert contents(scene.core) == before


def text_of(proof: dict[str, Any]) -> Any:
    return proof.get("agent_secret", "\ud800")
