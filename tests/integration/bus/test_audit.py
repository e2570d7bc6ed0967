# SPDX-License-Identifier: Apache-2.0
"""bus audit: finds what is at the broker and should not be, and the reverse; --fix mends it."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from cnsmo.bus import transport
from cnsmo.manage.app import run
from cnsmo.model.messages import Heartbeat, JoinAnswer
from tests.integration.bus.site import Site

GHOST = "h-00000000dead"
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
Harm = Callable[[Site, str], None]


def audit(site: Site, *more: str) -> list[dict[str, Any]]:
    """What the command prints."""
    out, err = io.StringIO(), io.StringIO()
    code = run(["bus", "audit", "-f", "json", *more], io.StringIO(), out, err)
    assert code == 0, err.getvalue()
    found: list[dict[str, Any]] = json.loads(out.getvalue())
    return found


def retype(site: Site, name: str) -> None:
    site.api.delete("exchanges", site.vhost, name)
    site.api.put("exchanges", site.vhost, name, body={"type": "fanout", "durable": True})


HARM: dict[str, tuple[str, Harm]] = {
    "an account is gone": ("account", lambda s, i: s.api.delete("users", f"agent-{i}")),
    "an account has another password": (
        "account",
        lambda s, i: s.api.put("users", f"agent-{i}", body={"password": "x", "tags": ""}),
    ),
    "an account may manage": (
        "account",
        lambda s, i: s.api.put(
            "users", f"agent-{i}", body={"password_hash": "", "tags": "administrator"}
        ),
    ),
    "an account has more rights": (
        "permission",
        lambda s, i: s.api.put("permissions", s.vhost, f"agent-{i}", body=EVERYTHING),
    ),
    "an account has rights elsewhere": (
        "permission",
        lambda s, i: s.api.put("permissions", s.operators.name, f"agent-{i}", body=EVERYTHING),
    ),
    "an exchange is gone": (
        "exchange",
        lambda s, i: s.api.delete("exchanges", s.vhost, f"cnsmo-agent.{i}"),
    ),
    "an exchange is of another type": ("exchange", lambda s, i: retype(s, f"cnsmo-agent.{i}")),
    "a policy is gone": (
        "policy",
        lambda s, i: s.api.delete("policies", s.vhost, "cnsmo-agents"),
    ),
    "an account is nobody's": (
        "account",
        lambda s, i: s.core.core.broker.admit(GHOST) and None,
    ),
    "an exchange is nobody's": (
        "exchange",
        lambda s, i: s.api.put(
            "exchanges", s.vhost, f"cnsmo-agent.{GHOST}_fanout", body={"type": "fanout"}
        ),
    ),
    "a queue is nobody's": (
        "queue",
        lambda s, i: s.api.put("queues", s.vhost, f"reply_{GHOST}:all:1", body={"durable": True}),
    ),
}


@pytest.mark.parametrize("what", HARM)
def test_it_finds_and_mends_that(site: Site, victim: JoinAnswer, what: str) -> None:
    kind, harm = HARM[what]
    assert audit(site) == []
    harm(site, victim.id)
    found = audit(site)
    assert kind in {finding["kind"] for finding in found}
    assert audit(site, "--fix") == audit_words(found)
    assert audit(site) == []
    assert site.client(victim).heartbeat(Heartbeat(applied={})).head > 0


def audit_words(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same findings, as --fix tells them."""
    done = {"make it": "made anew", "make it anew": "made anew", "delete it": "deleted"}
    return [{**finding, "remedy": done[finding["remedy"]]} for finding in found]


def test_what_is_not_ours_is_shown_and_not_touched(site: Site) -> None:
    site.api.put("queues", site.vhost, "somebodys", body={"durable": True})
    site.api.put("permissions", site.vhost, site.operators.user, body=EVERYTHING)
    expected = {("queue", "somebodys"), ("account", site.operators.user)}
    assert {(f["kind"], f["name"]) for f in audit(site, "--fix")} == expected
    assert {(f["kind"], f["name"]) for f in audit(site)} == expected


def test_a_person_is_told_that_all_is_well(site: Site, victim: JoinAnswer) -> None:
    out = io.StringIO()
    assert run(["bus", "audit"], io.StringIO(), out, io.StringIO()) == 0
    assert out.getvalue() == "The broker has what it should have, and nothing else.\n"


def test_without_accounts_there_is_nothing_to_find(site: Site) -> None:
    site.core.stop()
    transport.close()
    site.conf.set_override("broker", "none", "bus")
    site.conf.set_override("shared_account", True, "bus")
    site.core.start(health=False)
    assert audit(site) == []
