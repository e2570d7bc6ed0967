# SPDX-License-Identifier: Apache-2.0
"""A newer core may write more than an older agent understands: the agent lives on."""

import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from cnsmo.bus.calling import as_model
from cnsmo.model.errors import CnsmoError
from cnsmo.model.messages import Heartbeat, HeartbeatAnswer
from cnsmo.model.reading import read
from cnsmo.model.resource import Row, View, joined, member_kind
from cnsmo.services.vpn.service import VpnService

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)


def row(kind: str, name: str, body: dict[str, Any]) -> Row:
    return Row(
        kind=kind, name=name, owner="core", revision=1, body={**body, "new": 1}, updated_at=NOW
    )


def test_rows_of_every_kind_with_keys_of_a_newer_release_are_compiled() -> None:
    rows = [
        row("host", "web1", {"id": "h-1", "groups": [], "private": ["192.168.1.5/24"]}),
        row("host", "web2", {"id": "h-2", "groups": [], "private": ["192.168.1.6/24"]}),
        row("vpn", "backbone", {"cidr": ["10.66.0.0/24"], "driver": "noop", "routes": []}),
    ]
    rows += [
        row(
            member_kind("vpn"),
            joined("backbone", f"web{n}"),
            {"driver": "noop", "addresses": [f"10.66.0.{n}"]},
        )
        for n in (1, 2)
    ]
    view, service = View("shop", 1, rows), VpnService()
    assert service.admitted(view, "backbone", "web1")
    assert [unit.name for unit in service.units(view, "web1")] == ["backbone"]
    compiled = service.compile(view, "web1")["backbone"]
    assert [peer.host for peer in compiled.peers] == ["web2"]  # type: ignore[attr-defined]


def test_an_answer_with_a_new_key_is_read_and_one_of_another_kind_is_an_error_of_ours() -> None:
    assert as_model(HeartbeatAnswer, {"head": 4, "confirmed": {"vpn": 3}, "new": 1}).head == 4
    with pytest.raises(CnsmoError, match="of the same release"):
        as_model(HeartbeatAnswer, {"head": "many"})


def test_who_writes_is_strict_all_the_same() -> None:
    with pytest.raises(ValidationError):
        Heartbeat.model_validate({"applied": {}, "new": 1})
    assert read(Heartbeat, {"applied": {}, "new": 1}) == Heartbeat(applied={})
