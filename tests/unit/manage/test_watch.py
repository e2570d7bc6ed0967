# SPDX-License-Identifier: Apache-2.0
"""Which events are shown."""

import argparse
import datetime

import pytest

from cnsmo.manage.watch import _matches
from cnsmo.model.messages import EventMessage

NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("kind", "asked", "shown"),
    [
        ("audit.broken", [], True),
        ("audit.join-refused", [], True),
        ("audit.apply", [], False),
        ("audit.apply", ["audit.*"], True),
        ("host.disputed", [], True),
        ("audit.broken", ["vpn.*"], False),
    ],
)
def test_of_the_audit_alarms_are_shown_unasked(kind: str, asked: list[str], shown: bool) -> None:
    args = argparse.Namespace(deployment=None, type=asked, host=[], service=[])
    event = EventMessage(type=kind, deployment="shop", at=NOW)
    assert _matches(event, args) == shown
