# SPDX-License-Identifier: Apache-2.0
"""tests/chaos reads replicas while agents write them, and documents that a core takes."""

import datetime
import random
from pathlib import Path

import pytest

from cnsmo.model.document import parse
from cnsmo.model.resource import OPERATOR, Changes, Row
from cnsmo.services.firewall.spec import FirewallSpec
from cnsmo.services.loadbalancer.spec import LoadBalancerSpec
from cnsmo.state.replica import Replica
from tests.chaos import cast, reading

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def row(kind: str, name: str, revision: int, **body: object) -> Row:
    return Row(kind=kind, name=name, owner=OPERATOR, revision=revision, body=body, updated_at=NOW)


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    """At revision 6, of which the second record has a part."""
    made = Replica(tmp_path / "replica.json", cast.DEPLOYMENT, "id1")
    member = row("vpn.member", "backbone/web1", 4, addresses=["10.66.0.1"], public_key="x")
    policy = row("firewall", "perimeter", 5, inbound=[{"name": "mark-7"}])
    told = Changes(deployment=cast.DEPLOYMENT, head=5, snapshot=True, rows=[member, policy])
    assert made.update(told)
    made.save()
    policy = row("firewall", "perimeter", 6, inbound=[{"name": "mark-8"}])
    assert made.update(Changes(deployment=cast.DEPLOYMENT, head=6, snapshot=False, rows=[policy]))
    made.save()
    return made


def test_a_replica_is_read_as_its_agent_wrote_it(replica: Replica) -> None:
    found = reading.copy_of("web1", replica.path.read_text(), 9.0)
    assert found is not None
    assert (found.holder, found.history, found.revision, found.at) == ("web1", "id1", 6, 9.0)
    assert found.markers == {8}
    assert found.owners == {"backbone/web1": ("10.66.0.1",)}
    rows = (it.model_dump(mode="json") for it in replica.view())
    assert found.digest == reading.copy("cores", "", 6, rows, 9.0).digest


def test_of_a_record_that_is_being_written_nothing_is_read(replica: Replica) -> None:
    whole = replica.path.read_text()
    begin = whole.index("\n", whole.index("\n") + 1) + 1
    for cut in range(begin, len(whole) - 1):
        found = reading.copy_of("web1", whole[:cut], 9.0)
        assert found is not None
        assert (found.revision, found.markers) == (5, {7})
    assert reading.copy_of("web1", whole[:40], 9.0) is None


def test_the_documents_are_such_as_a_core_accepts() -> None:
    document = parse(cast.document(7, random.Random(1)))
    assert document.deployment == cast.DEPLOYMENT
    firewall = FirewallSpec.model_validate(document.sections["firewall"]["perimeter"])
    marked = firewall.inbound[-1]
    assert marked.name is not None
    assert reading.MARKER.findall(marked.name) == ["7"]
    assert "20007" in str(marked.ports)
    for spec in document.sections["loadbalancer"].values():
        LoadBalancerSpec.model_validate(spec)


def test_the_first_document_forbids_nothing() -> None:
    document = parse(cast.without_firewall())
    assert set(document.sections) == {"vpn", "loadbalancer"}


def test_flows_are_allowed_between_all_vms_and_to_each_balancer() -> None:
    inner = {it.name: f"10.66.0.{at}" for at, it in enumerate(cast.VMS, 1)}
    outer = {it.name: f"198.18.0.{at}" for at, it in enumerate(cast.VMS, 1) if not it.nat}
    for count in range(cast.FEWEST, len(cast.VMS) + 1):
        vms = cast.VMS[:count]
        flows = cast.flows(vms, inner, outer)
        names = {it.name for it in vms}
        assert {it.source for it in flows if it.allowed} == names
        assert {it.source for it in flows if not it.allowed} == names
        assert {it.target for it in flows if it.pool} == {it for it in names if "edge" in it}
        assert all(it.source != it.target for it in flows)
