# SPDX-License-Identifier: Apache-2.0
"""Who is on the way out, on the disk."""

from pathlib import Path

import pytest

from cnsmo.services.kit import boot
from cnsmo.services.loadbalancer.desired import Pool, Server
from cnsmo.services.loadbalancer.drivers.hap_leaving import Leaver, Leaving
from cnsmo.services.loadbalancer.drivers.hap_server import servers_of
from cnsmo.services.loadbalancer.drivers.leave import Leave

(SERVER,) = servers_of(Pool("www", (Server("web1", "10.66.0.1", 80),)))
HELD, STOPPED = Leaver(server=SERVER, leave=Leave(9.5)), Leaver(server=SERVER, leave=Leave(9, 8.5))


@pytest.mark.parametrize("leaver", [HELD, STOPPED])
def test_what_was_written_is_read_again(tmp_path: Path, leaver: Leaver) -> None:
    Leaving(tmp_path).save([leaver])
    assert Leaving(tmp_path).load() == {SERVER.key: leaver}
    Leaving(tmp_path).save([])
    assert list(tmp_path.iterdir()) == []


def test_after_the_host_went_down_nobody_is_leaving_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Leaving(tmp_path).save([STOPPED])
    monkeypatch.setattr(boot, "boot_id", lambda: "another")
    assert Leaving(tmp_path).load() == {}


@pytest.mark.parametrize("text", ["", "{", '{"leavers": [{"server": 1}]}', '{"leavers": 3}'])
def test_a_torn_file_is_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "leaving.json").write_text(text)
    assert Leaving(tmp_path).load() == {}


def test_time_is_over_by_the_clock_of_the_host() -> None:
    assert STOPPED.over is (boot.now() >= 8.5)
    assert not STOPPED.model_copy(update={"leave": Leave(0, boot.now() + 60)}).over
