# SPDX-License-Identifier: Apache-2.0
"""Every call of agents, tried with every proof that is none: one refusal, and nothing is learnt.

Only who has the right secret is told more: that the host was removed, so that it takes everything
down; or that its certificate has ended, so that it joins anew.
"""

import contextlib
import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from cnsmo.core.context import Core
from cnsmo.core.endpoints import AgentEndpoints
from cnsmo.model.errors import CnsmoError, Denied, Lapsed, Removed
from cnsmo.state.engine import transaction, utc_now
from tests.unit.conftest import Caller, Operator, contents

OFFER = {"service": "vpn", "instance": "backbone", "body": {"driver": "noop"}}
REPORT = {"service": "vpn", "state": "ready", "applied_revision": 1}
CALLS: dict[str, dict[str, Any]] = {
    "certify": {"csr": "x"},
    "sync": {"since": 0},
    "sync_part": {"since": 0, "mark": None},
    "facts": {"facts": {}},
    "announce": {"announcement": OFFER},
    "withdraw": {"service": "vpn", "instance": "backbone"},
    "report": {"report": REPORT},
    "heartbeat": {"beat": {"applied": {"vpn": 1}}},
    "leave": {},
}
"""Each with arguments that are right."""
Proof = dict[str, Any]


class Scene:
    """Hosts of two deployments; one was removed, and the certificate of one has ended."""

    def __init__(self, core: Core, operator: Operator) -> None:
        self.core = core
        operator.deployment_create(name="other")
        self.web1, self.web2 = operator.join("web1"), operator.join("web2")
        self.removed, self.lapsed = operator.join("removed"), operator.join("lapsed")
        self.token = operator.token()
        self.abroad = operator.join("web1", operator.token("other"))
        operator.host_remove(deployment="shop", host="removed")
        with transaction(core.store.engine) as connection:
            connection.execute(
                sa.text("UPDATE identities SET expires_at = :moment WHERE host = 'lapsed'"),
                {"moment": utc_now() - datetime.timedelta(seconds=1)},
            )
            query = sa.text("SELECT secret_hash FROM identities WHERE id = :id")
            self.stored = connection.scalar(query, {"id": self.web1.ident})


@pytest.fixture
def scene(core: Core, operator: Operator) -> Scene:
    return Scene(core, operator)


def secret(host: Caller) -> str:
    return str(host.context["agent_secret"])


def claim(host: Caller, said: object) -> Proof:
    return {"agent_id": host.ident, "agent_secret": said}


NO_PROOFS: dict[str, Callable[[Scene], Proof]] = {
    "nothing": lambda _scene: {},
    "no secret": lambda scene: {"agent_id": scene.web1.ident},
    "no id": lambda scene: {"agent_secret": secret(scene.web1)},
    "no text": lambda scene: claim(scene.web1, [secret(scene.web1)]),
    "an empty secret": lambda scene: claim(scene.web1, ""),
    "a wrong secret": lambda scene: claim(scene.web1, "guess"),
    "an unknown id": lambda scene: {
        "agent_id": "h-000000000000",
        "agent_secret": secret(scene.web1),
    },
    "another host's": lambda scene: claim(scene.web1, secret(scene.web2)),
    "another deployment's": lambda scene: claim(scene.web1, secret(scene.abroad)),
    "a removed host's": lambda scene: claim(scene.web1, secret(scene.removed)),
    "a removed id": lambda scene: claim(scene.removed, secret(scene.web1)),
    "a lapsed host's": lambda scene: claim(scene.web1, secret(scene.lapsed)),
    "a lapsed id": lambda scene: claim(scene.lapsed, secret(scene.web1)),
    "a token": lambda scene: claim(scene.web1, scene.token),
    "what is stored of it": lambda scene: claim(scene.web1, scene.stored),
}
WITH_SECRET = [
    "a wrong secret", "an unknown id", "another host's", "another deployment's",
    "a removed host's", "a removed id", "a lapsed host's", "a lapsed id",
]  # fmt: skip


def refusal(scene: Scene, proof: Proof, method: str, arguments: dict[str, Any]) -> Denied:
    with pytest.raises(Denied) as caught:
        getattr(Caller(scene.core, proof), method)(**arguments)
    return caught.value


def test_every_call_of_agents_is_tried_here() -> None:
    served = {name for name in vars(AgentEndpoints) if not name.startswith("_")} - {"target"}
    assert served == {*CALLS}


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("proof", NO_PROOFS)
def test_without_proof_every_call_is_refused_alike(scene: Scene, method: str, proof: str) -> None:
    before = contents(scene.core)
    refused = refusal(scene, NO_PROOFS[proof](scene), method, CALLS[method])
    assert (type(refused), str(refused), refused.details) == (Denied, str(Denied()), {})
    assert contents(scene.core) == before


@pytest.mark.parametrize("method", [name for name, given in CALLS.items() if given])
def test_without_proof_nobody_learns_whether_the_arguments_make_sense(
    scene: Scene, method: str
) -> None:
    wrong = dict.fromkeys(CALLS[method], object())
    refused = refusal(scene, NO_PROOFS["a wrong secret"](scene), method, wrong)
    assert str(refused) == str(Denied())


@pytest.fixture
def statements(core: Core) -> Iterator[list[str]]:
    """What the database is asked."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        asked.append(statement)

    sa.event.listen(core.store.engine, "before_cursor_execute", note)
    yield asked
    sa.event.remove(core.store.engine, "before_cursor_execute", note)


@pytest.mark.parametrize("method", CALLS)
def test_the_work_of_a_refusal_does_not_tell_what_was_wrong(
    scene: Scene, statements: list[str], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Time is what work takes: one look-up, one comparison in constant time, whatever it was."""
    from cnsmo.state import identities

    compared: list[int] = []
    honest = identities.matches

    def counted(said: str, stored: str) -> bool:
        compared.append(len(stored))
        return honest(said, stored)

    monkeypatch.setattr(identities, "matches", counted)
    works = set()
    for proof in WITH_SECRET:
        statements.clear()
        compared.clear()
        refusal(scene, NO_PROOFS[proof](scene), method, CALLS[method])
        works.add((tuple(statements), tuple(compared)))
    assert len(works) == 1
    assert [len(part) for part in next(iter(works))][1] == 1


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize(("name", "kind"), [("removed", Removed), ("lapsed", Lapsed)])
def test_who_proves_it_was_removed_or_has_lapsed_is_told_so_and_no_more(
    scene: Scene, method: str, name: str, kind: type[Exception]
) -> None:
    before = contents(scene.core)
    with pytest.raises(kind, match=f"host '{name}'"):
        getattr(getattr(scene, name), method)(**CALLS[method])
    assert contents(scene.core) == before


@pytest.mark.parametrize("method", CALLS)
def test_a_call_of_one_deployment_changes_nothing_of_another(scene: Scene, method: str) -> None:
    def of_shop() -> list[Any]:
        return [
            [str(row) for row in scene.core.store.changes("shop", 0).rows],
            scene.core.liveness.signs("shop"),
            scene.core.identities.living("shop"),
        ]

    before = of_shop()
    with contextlib.suppress(CnsmoError):  # some of the arguments mean nothing there
        getattr(scene.abroad, method)(**CALLS[method])
    assert of_shop() == before
