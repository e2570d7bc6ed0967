# SPDX-License-Identifier: Apache-2.0
"""The double of the System State does what the database does, whatever is asked of both."""

import datetime
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cnsmo.core.context import Core
from cnsmo.core.host_rows import transition
from cnsmo.core.membership import Membership
from cnsmo.model.audit import Act
from cnsmo.model.errors import Removed
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import AgentReport, Heartbeat, JoinRequest
from cnsmo.model.resource import CORE, OPERATOR, Changes
from cnsmo.state.identities import Identity
from tests.protocol.double import SERVICE, THING, Base
from tests.unit.conftest import Operator, request_to_join

HOSTS = st.sampled_from(["h1", "h2"])
THINGS = st.sampled_from(["x", "y"])
STATES = st.sampled_from([State.READY, State.ERROR, State.CONFIGURING])
REVISIONS = st.integers(0, 9)
ACT = Act.of_operator("anna", "try")
_names = (f"d{number}" for number in itertools.count())


class Both(RuleBasedStateMachine):
    """A deployment in the database, and its double; every host that ever was may speak."""

    def __init__(self, core: Core) -> None:
        super().__init__()
        self.core, self.membership = core, Membership(core)
        self.deployment = next(_names)
        core.store.create(self.deployment)
        self.id = core.store.deployment(self.deployment).id
        self.token = Operator(core).token(self.deployment)
        self.base = Base()
        self.joins: dict[str, dict[str, Any]] = {}
        self.known: list[Identity] = []

    def write(self, work: Callable[[Any], Any]) -> None:
        self.core.store.write(self.deployment, "anna", work)

    @rule(name=THINGS)
    def put(self, name: str) -> None:
        value = {"value": self.base.head + 1}
        self.write(lambda writer: writer.put(THING, name, value, OPERATOR))
        self.base = self.base.put(name)

    @rule(name=THINGS)
    def delete(self, name: str) -> None:
        self.write(lambda writer: writer.delete(THING, name))
        self.base = self.base.delete(name)

    @rule()
    def purge(self) -> None:
        self.core.store.purge(self.deployment, datetime.timedelta(0))
        self.base = self.base.purge(self.base.head)

    @rule(host=HOSTS)
    def join(self, host: str) -> None:
        """For the first time, or once more."""
        repeated = host in self.joins
        request = self.joins.setdefault(host, request_to_join(host, self.token))
        answer = self.membership.join(JoinRequest.model_validate(request))
        self.base = self.base.join([(host, answer.id)], repeated)
        if not repeated:
            self.known.append(Identity(answer.id, self.id, self.deployment, host))

    @precondition(lambda self: self.joins)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        host = data.draw(st.sampled_from(sorted(self.joins)))
        del self.joins[host]
        self.membership.remove(self.deployment, host, ACT, keep_tokens=True)
        self.base = self.base.remove(host)

    @rule(host=HOSTS)
    def down(self, host: str) -> None:
        if self.base.state_of(host) not in (None, State.DOWN):
            self.write(
                lambda writer: transition(writer, host, SERVICE, State.DOWN, "", CORE),
            )
        self.base = self.base.down(host)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), state=STATES, applied=REVISIONS)
    def report(self, data: st.DataObject, state: State, applied: int) -> None:
        """Who it is was proven; the host may have been removed since."""
        who = data.draw(st.sampled_from(self.known))
        said = AgentReport(service=SERVICE, state=state, applied_revision=applied)
        real = outcome(lambda: self.membership.report(who, said))
        assert outcome(lambda: self.base.report(who.host, who.id, said)) == real
        if real is None:
            self.base = self.base.report(who.host, who.id, said)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), applied=REVISIONS)
    def beat(self, data: st.DataObject, applied: int) -> None:
        who = data.draw(st.sampled_from(self.known))
        beat = Heartbeat(applied={SERVICE: applied})
        refused = outcome(lambda: self.base.beat(who.host, who.id, applied))
        if refused is not None:
            with pytest.raises(Removed, match=refused):
                self.membership.heartbeat(who, beat)
            return
        answer = self.membership.heartbeat(who, beat)
        self.base = self.base.beat(who.host, who.id, applied)
        assert answer.head == self.base.head
        assert answer.confirmed == self.base.confirmed()
        assert answer.forgotten == self.base.forgotten(who.host)

    @rule(since=REVISIONS)
    def ask(self, since: int) -> None:
        real = self.core.store.changes(self.deployment, since)
        assert plain(self.base.changes(since)) == plain(real)

    def teardown(self) -> None:
        """From wherever one asks, at the end."""
        for since in range(self.base.head + 2):
            self.ask(since)

    @invariant()
    def the_horizon_is_the_same(self) -> None:
        assert self.core.store.deployment(self.deployment).purged == self.base.purged

    @invariant()
    def the_same_hosts_live(self) -> None:
        assert self.core.identities.living(self.deployment) == dict(self.base.living)
        signs = {
            host: sign.applied_revision
            for (host, _service), sign in self.core.liveness.signs(self.deployment).items()
        }
        assert signs == {host: sign.applied for host, sign in self.base.signs}


def outcome(call: Callable[[], object]) -> str | None:
    """What a removed host is told; None when it was heard."""
    try:
        call()
    except Removed as exc:
        return str(exc)
    return None


def plain(changes: Changes) -> tuple[Any, ...]:
    """An answer without clocks and authors."""
    rows = [
        (row.kind, row.name, row.owner, row.revision, row.deleted, row.body) for row in changes.rows
    ]
    return (changes.head, changes.snapshot, rows)


@pytest.mark.timeout(600)
def test_the_double_does_what_the_database_does(core: Core) -> None:
    run_state_machine_as_test(
        lambda: Both(core), settings=settings(max_examples=25, stateful_step_count=25)
    )
