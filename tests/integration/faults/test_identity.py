# SPDX-License-Identifier: Apache-2.0
"""An agent that poses as another: it is who its secret says, whatever it writes."""

from pathlib import Path
from typing import Any

import oslo_messaging
import pytest

from cnsmo.agent.identity import HostIdentity
from cnsmo.agent.join import JoinClient
from cnsmo.bus import transport
from cnsmo.bus.clients import CoreClient
from cnsmo.bus.envelope import opened
from cnsmo.model.errors import Denied, InvalidRequest, NotFound, Removed
from cnsmo.model.host import HostFacts
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import AgentReport, Announcement, Heartbeat
from cnsmo.model.resource import Row
from cnsmo.state.engine import engine_for
from cnsmo.state.store import Store
from tests.integration.fleet import Fleet
from tests.joining import join_request


class Liar(CoreClient):
    """A client that sends whatever it is told to."""

    def raw(self, method: str, context: dict[str, Any] | None = None, **arguments: Any) -> Any:
        """Call with any arguments, and with any context besides its own."""
        rpc = self._rpc.prepare(version=self.VERSION)
        return opened(rpc.call(self.context | (context or {}), method, **arguments))


@pytest.fixture
def liar(fleet: Fleet) -> Liar:
    """Has joined as host ``liar``, beside an agent on the host ``honest``."""
    fleet.apply()
    fleet.agent("honest")
    made = Liar(fleet.conf, 10)
    door = JoinClient(fleet.door.join_url, fleet.door.ca_fingerprint, 10)
    who = door.join(join_request(fleet.token(), "liar"))
    made.identify(who.id, who.secret)
    made.announce(Announcement(service="vpn", instance="backbone", body={"driver": "noop"}))
    fleet.until_ready("honest")
    fleet.until(lambda: settled(fleet), "the honest agent has told all that it has to tell")
    return made


def settled(fleet: Fleet) -> bool:
    """Whether the agent has brought in force, and said so, all there is but its own report."""
    head = fleet.operator.deployment_show("shop").revision
    return fleet.agents()["honest"].applied_revision >= head - 1


def identity(state: Path) -> HostIdentity:
    return HostIdentity.model_validate_json((state / "identity.json").read_text())


def rows_of(fleet: Fleet, host: str) -> dict[tuple[str, str], Row]:
    """All rows that are a host's, as they are in the database."""
    store = Store(engine_for(fleet.database), fleet.vault)
    found = {(r.kind, r.name): r for r in store.changes("shop").rows if host in r.name.split("/")}
    store.engine.dispose()
    return found


def test_a_foreign_id_with_ones_own_secret_is_denied_as_any_stranger(
    fleet: Fleet, liar: Liar
) -> None:
    honest = identity(fleet.directory / "honest.state")
    before = rows_of(fleet, "honest")
    own = liar.context["agent_secret"]
    told = set()
    for ident, secret in (
        (honest.id, own),
        (honest.id, ""),
        ("h-000000000000", own),
        ("", ""),
        (None, own),
        (honest.id, None),
        ([honest.id], {"a": 1}),
    ):
        liar.context = {"agent_id": ident, "agent_secret": secret}
        for call in (
            lambda: liar.sync(0),
            lambda: liar.heartbeat(Heartbeat(applied={"vpn": 10**6})),
            lambda: liar.withdraw("vpn", "backbone"),
            lambda: liar.facts(HostFacts(private=("10.9.9.9/24",))),
            lambda: liar.report(
                AgentReport(service="vpn", state=State.ERROR, reason="lie", applied_revision=1)
            ),
            liar.leave,
        ):
            with pytest.raises(Denied) as caught:
                call()
            told.add(str(caught.value))
    assert told == {"not allowed: unknown or wrong credentials"}
    assert rows_of(fleet, "honest") == before


def test_a_foreign_name_in_a_message_changes_nothing_of_the_others(
    fleet: Fleet, liar: Liar
) -> None:
    honest = identity(fleet.directory / "honest.state")
    before = rows_of(fleet, "honest")
    taken = fleet.operator.member_list("shop", "vpn", "backbone")["honest"].body["addresses"]
    announcement = {"service": "vpn", "instance": "backbone", "body": {"driver": "noop"}}
    report = {"service": "vpn", "state": "error", "applied_revision": 1}
    for method, arguments in (
        ("announce", {"announcement": announcement | {"host": "honest"}}),
        ("announce", {"announcement": announcement, "host": "honest"}),
        ("announce", {"announcement": announcement, "who": honest.model_dump()}),
        (
            "announce",
            {"announcement": announcement | {"body": {"driver": "noop", "addresses": taken}}},
        ),
        ("announce", {"announcement": announcement | {"instance": "backbone/honest"}}),
        ("announce", {"announcement": announcement | {"instance": "../honest"}}),
        ("withdraw", {"service": "vpn", "instance": "backbone", "host": "honest"}),
        ("report", {"report": report | {"host": "honest"}}),
        ("report", {"report": report | {"service": "honest/vpn"}}),
        ("facts", {"facts": {"private": ["10.9.9.9/24"], "id": honest.id}}),
        ("facts", {"facts": {"private": ["10.9.9.9/24"], "groups": ["admin"]}}),
        ("heartbeat", {"beat": {"applied": {"honest/vpn": 3}}}),
        ("leave", {"host": "honest"}),
        ("sync", {"since": 0, "deployment": "other"}),
        ("sync", {"since": "0 OR 1=1"}),
    ):
        with pytest.raises((InvalidRequest, NotFound)):
            liar.raw(method, **arguments)
    # Nor does more in the context: only the two that prove something are read.
    context = {"host": "honest", "deployment": "other", "deployment_id": 1, "author": "operator"}
    liar.raw("announce", context, announcement=announcement)
    liar.raw("report", context, report=report)
    assert rows_of(fleet, "honest") == before
    assert fleet.agents()["liar"].state is State.ERROR


def test_an_agent_reaches_no_call_of_the_operators(fleet: Fleet, liar: Liar) -> None:
    before = fleet.operator.deployment_show("shop")
    for method in ("deployment_delete", "token_create", "_who", "__init__", "target"):
        with pytest.raises(InvalidRequest, match="no such call"):
            liar.raw(method, name="shop")
    target = oslo_messaging.Target(topic=transport.AGENTS_TOPIC, exchange=transport.EXCHANGE)
    for namespace, version in (("operator", "1.0"), (None, "2.0")):
        client = oslo_messaging.get_rpc_client(transport.calls(fleet.conf), target, timeout=5)
        stranger = client.prepare(namespace=namespace, version=version)
        with pytest.raises(InvalidRequest, match="no such call"):
            opened(stranger.call(liar.context, "sync", since=0))
    assert fleet.operator.deployment_show("shop") == before


def test_a_host_that_was_removed_is_told_so_and_can_do_nothing(fleet: Fleet, liar: Liar) -> None:
    fleet.operator.host_remove("shop", "liar")
    before = rows_of(fleet, "liar")
    for call in (lambda: liar.sync(0), lambda: liar.withdraw("vpn", "backbone"), liar.leave):
        with pytest.raises(Removed):
            call()
    with pytest.raises(Removed):
        liar.announce(Announcement(service="vpn", instance="backbone", body={"driver": "noop"}))
    assert rows_of(fleet, "liar") == before
