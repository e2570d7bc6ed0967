# SPDX-License-Identifier: Apache-2.0
"""How an agent's process says how it stands, to who waits on the same machine."""

from pathlib import Path

import pytest

from cnsmo.agent import notice
from cnsmo.agent.notice import Notice
from cnsmo.model.errors import Denied, Unavailable
from cnsmo.model.lifecycle import State


@pytest.fixture
def told(tmp_path: Path) -> Notice:
    made = Notice(tmp_path / "notice.json")
    made.begin(["vpn", "firewall"])
    return made


def test_it_is_ready_once_every_service_is(told: Notice) -> None:
    seen = notice.read(told.path)
    assert seen is not None
    assert not seen.ready
    assert seen.reason == "its agent has not reported yet"
    told.service("vpn", State.READY, "")
    told.service("firewall", State.ERROR, "nft is missing")
    seen = notice.read(told.path)
    assert seen is not None
    assert (seen.ready, seen.reason) == (False, "firewall is error: nft is missing")
    told.service("firewall", State.READY, "")
    seen = notice.read(told.path)
    assert seen is not None
    assert seen.ready


def test_what_keeps_it_from_its_work_counts_until_it_reports_again(told: Notice) -> None:
    for name in ("vpn", "firewall"):
        told.service(name, State.READY, "")
    told.trouble(Unavailable("no core answers"))
    seen = notice.read(told.path)
    assert seen is not None
    assert (seen.ready, seen.code, seen.reason) == (False, "unavailable", "no core answers")
    told.service("vpn", State.READY, "")
    seen = notice.read(told.path)
    assert seen is not None
    assert seen.ready


def test_it_is_readable_by_its_owner_alone(told: Notice) -> None:
    told.trouble(Denied())
    assert told.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"services": 7}', "\xff"])
def test_nothing_that_can_be_read_is_nothing_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notice.json"
    path.write_text(text, encoding="latin-1")
    assert notice.read(path) is None
    assert notice.read(tmp_path / "none.json") is None


def test_a_full_disk_does_not_stop_the_work(told: Notice, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_what: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notice, "write_file", full)
    told.trouble(Unavailable("no core answers"))
    seen = notice.read(told.path)
    assert seen is not None
    assert seen.code == ""
