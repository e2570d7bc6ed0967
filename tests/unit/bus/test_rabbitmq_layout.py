# SPDX-License-Identifier: Apache-2.0
"""No name of one agent matches the permissions of another, nor the core's."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oslo_config import cfg

from cnsmo.bus import broker
from cnsmo.bus.brokers import rabbitmq_layout as layout
from cnsmo.bus.brokers.none import NoBroker
from cnsmo.files import write_file
from cnsmo.model.errors import DriverUnavailable, InvalidRequest

IDS = st.from_regex(r"h-[0-9a-f]{1,12}", fullmatch=True)
TAILS = st.sampled_from(["", ".x", ".hints", "_fanout", "_fanout_a:b:1", "_fanout.x"])


def may(permission: layout.Permission, right: str, name: str) -> bool:
    """As the broker decides."""
    return re.search(permission[right], name) is not None


@given(IDS, IDS, TAILS)
def test_an_agent_may_nothing_with_what_bears_anothers_name(me: str, it: str, tail: str) -> None:
    mine = layout.agent_permission(me)
    for name in (f"cnsmo-agent.{it}{tail}", f"reply_{it}:all:1"):
        for right in mine:
            own = me == it and not (right == "write" and name.startswith("reply_"))
            assert may(mine, right, name) == own


@pytest.mark.parametrize(
    "name", ["cnsmo", "cnsmo-core", "cnsmo-core.core", "amq.default", "amq.topic"]
)
def test_an_agent_may_nothing_with_what_is_the_cores(name: str) -> None:
    mine = layout.agent_permission("h-1")
    assert not any(may(mine, right, name) for right in mine)


@given(IDS, TAILS)
def test_the_answering_account_touches_nothing_of_agents(it: str, tail: str) -> None:
    answer = layout.core_permissions()[layout.ANSWER]
    for name in (f"cnsmo-agent.{it}{tail}", f"reply_{it}:all:1", "cnsmo-operator"):
        assert not any(may(answer, right, name) for right in answer)


@given(IDS)
def test_the_hinting_account_reads_nothing(it: str) -> None:
    hint = layout.core_permissions()[layout.HINT]
    assert may(hint, "write", f"cnsmo-agent.{it}_fanout")
    for name in (f"cnsmo-agent.{it}", f"cnsmo-agent.{it}_fanout_x", "cnsmo", "cnsmo-core"):
        assert not may(hint, "write", name)
        assert not may(hint, "read", name)


@given(IDS, TAILS)
def test_what_belongs_to_an_agent_is_known_by_its_name(it: str, tail: str) -> None:
    for name in (f"agent-{it}", f"cnsmo-agent.{it}{tail}", f"reply_{it}:all:1"):
        assert layout.agent_of(name) == it


@pytest.mark.parametrize("name", ["cnsmo", "cnsmo-core_fanout_1", "reply_0f3e", "agent-smith", ""])
def test_what_belongs_to_no_agent_is_nobodys(name: str) -> None:
    assert layout.agent_of(name) is None


def test_a_password_is_known_by_its_hash_alone() -> None:
    password = layout.derived_password("key", "agent-h-1")
    stored = layout.password_hash(password)
    assert stored != layout.password_hash(password)
    assert layout.is_hash_of(stored, password)
    assert not layout.is_hash_of(stored, layout.derived_password("key", "agent-h-2"))
    assert not layout.is_hash_of("", password)
    assert not layout.is_hash_of("no base64", password)


def test_a_key_makes_other_passwords_than_another_key() -> None:
    assert layout.derived_password("a", "x") != layout.derived_password("b", "x")


def test_without_accounts_everybody_has_the_url_of_the_configuration(conf: cfg.ConfigOpts) -> None:
    none = broker.load(conf)
    assert isinstance(none, NoBroker)
    assert none.admit("h-1") == ""
    assert none.audit(lambda: broker.Roster(["h-1"])) == []


def test_agents_do_not_share_an_account_that_nobody_meant_them_to(conf: cfg.ConfigOpts) -> None:
    conf.set_override("url", "rabbit://me:secret@broker/cnsmo", "bus")
    none = broker.load(conf)
    with pytest.raises(InvalidRequest, match="shared_account = true") as refused:
        none.check()
    assert "secret" not in str(refused.value)
    conf.set_override("shared_account", True, "bus")
    none.check()


def test_an_unknown_driver_is_named(conf: cfg.ConfigOpts) -> None:
    conf.set_override("broker", "qpid", "bus")
    with pytest.raises(DriverUnavailable, match="'qpid'"):
        broker.load(conf)


@pytest.mark.parametrize("option", ["key_file", "management_password_file"])
def test_a_secret_that_others_can_read_is_not_used(
    conf: cfg.ConfigOpts, tmp_path: Path, option: str
) -> None:
    for name in ("key_file", "management_password_file"):
        write_file(tmp_path / name, "k" * 32)
        conf.set_override(name, str(tmp_path / name), "bus")
    conf.set_override("broker", "rabbitmq", "bus")
    conf.set_override("management_url", "https://broker:15671", "bus")
    conf.set_override("agents_url", "rabbit://broker:5671/agents?ssl=true", "bus")
    broker.load(conf)
    (tmp_path / option).chmod(0o640)
    with pytest.raises(InvalidRequest, match=rf"\[bus\] {option}: .*others than its owner"):
        broker.load(conf)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("management_url", "broker:15671", "management_url"),
        ("management_url", "https://me:secret@broker", "management_url"),
        ("agents_url", "", "agents_url"),
        ("agents_url", "rabbit://me:secret@broker/agents", "without an account"),
        ("agents_url", "rabbit://broker:5671/", "agents_url"),
        ("key_file", "/nowhere", "key_file"),
        ("management_ca_file", "/nowhere", "management_ca_file"),
    ],
)
def test_what_is_not_configured_is_said(
    conf: cfg.ConfigOpts, tmp_path, option: str, value: str, says: str
) -> None:
    key = tmp_path / "key"
    write_file(key, "k" * 32)
    right = {
        "broker": "rabbitmq",
        "agents_url": "rabbit://broker:5671/agents?ssl=true",
        "management_url": "https://broker:15671",
        "management_password": "x",
        "key_file": str(key),
    }
    for name, given_value in (right | {option: value}).items():
        conf.set_override(name, given_value, "bus")
    with pytest.raises(InvalidRequest, match=says) as refused:
        broker.load(conf)
    assert "secret" not in str(refused.value)
