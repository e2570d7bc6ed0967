# SPDX-License-Identifier: Apache-2.0
"""The checker's loop, with sockets and files, and without nft(8)."""

import dataclasses
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cnsmo.model.errors import ProgramError
from cnsmo.services.loadbalancer.drivers import nfl_watch
from cnsmo.services.loadbalancer.drivers.nfl_files import Files
from cnsmo.services.loadbalancer.drivers.nfl_probe import Probe, Result
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Inspection, Wanted
from cnsmo.services.loadbalancer.drivers.nfl_watch import Watch
from tests.eventually import eventually
from tests.unit.services.loadbalancer.drivers.nfl_scenes import server, wanted

CHECK = Inspection("tcp", interval=0.02, timeout=1.0, rise=2, fall=3)


class Loop:
    """A checker, step by step."""

    def __init__(self, directory: Path) -> None:
        self.files = Files(directory)
        self.texts: list[str] = []
        self.failing = False
        self._watch: Watch | None = None

    def run(self, *args, stdin=None, ok=(0,)) -> str:
        if args[0] == "nft":
            self.texts.append(stdin)
        if self.failing:
            raise ProgramError("nft is busy")
        return ""

    def until(self, look: Callable[[], object]) -> None:
        """Go on until it is so."""
        self._watch = self._watch or Watch(self.files, self.run)
        eventually(lambda: self._watch and self._watch.go_on() and look(), 10)

    def used(self) -> int:
        return len(self.files.loaded().usable)


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    monkeypatch.setattr(nfl_watch, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(nfl_watch, "RETRY_SECONDS", 0.02)
    return Loop(tmp_path)


@pytest.fixture
def port() -> Iterator[int]:
    """Somebody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def balanced(port: int, **changed) -> Wanted:
    """One server on this host."""
    what = wanted(server(1, port=port))
    (target,) = what.targets
    local = dataclasses.replace(target, address="127.0.0.1")
    return dataclasses.replace(what, **{"check": CHECK, "targets": (local,), **changed})


def test_a_server_is_taken_in_out_and_in_again(loop: Loop, port: int) -> None:
    what = balanced(port)
    loop.files.put_wanted(what)
    loop.until(lambda: loop.used() == 1)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        gone = sock.getsockname()[1]
    loop.files.put_wanted(balanced(gone))
    loop.until(lambda: [it.up for it in loop.files.health().values()] == [False])
    assert loop.used() == 0
    loop.files.put_wanted(what)
    loop.until(lambda: loop.used() == 1)


def test_what_fails_is_tried_again_and_said_once(loop: Loop, port: int, capsys) -> None:
    loop.failing = True
    loop.files.put_wanted(balanced(port))
    loop.until(lambda: len(loop.texts) > 5)
    assert capsys.readouterr().err == "nft is busy\n"
    loop.failing = False
    loop.until(lambda: loop.used() == 1)


def test_who_holds_the_lock_for_too_long_is_not_waited_for(
    loop: Loop, port: int, monkeypatch
) -> None:
    monkeypatch.setattr(nfl_watch, "PATIENCE_SECONDS", 0.3)
    loop.files.put_wanted(balanced(port))
    with Files(loop.files.dir).lock(0) as hung:
        assert hung
        loop.until(lambda: loop.files.health())
        assert loop.texts == []
        loop.until(lambda: loop.used() == 1)


def test_a_full_disk_keeps_nobody_in(loop: Loop, port: int, monkeypatch, capsys) -> None:
    loop.files.put_wanted(balanced(port))
    loop.until(lambda: loop.used() == 1)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Files, "put_health", full)
    monkeypatch.setattr(Files, "put_loaded", full)
    monkeypatch.setattr(Probe, "begin", lambda _self: Result(False, "refused"))
    loop.until(lambda: "pick-4 goto refuse" in loop.texts[-1])
    assert "No space left" in capsys.readouterr().err


def test_what_is_this_hosts_fault_takes_nobody_out(loop: Loop, port: int, monkeypatch) -> None:
    loop.files.put_wanted(balanced(port))
    loop.until(lambda: loop.used() == 1)
    tried = []
    monkeypatch.setattr(
        Probe, "begin", lambda self: tried.append(self) or Result(None, "too many open files")
    )
    loop.until(lambda: len(tried) > 10)
    assert loop.used() == 1


def test_who_does_not_answer_is_out(loop: Loop, port: int, monkeypatch) -> None:
    http = dataclasses.replace(CHECK, kind="http", timeout=0.1, statuses=((200, 299),))
    loop.files.put_wanted(balanced(port))
    loop.until(lambda: loop.used() == 1)
    loop.files.put_wanted(balanced(port, check=http))
    loop.until(lambda: loop.used() == 0)
    (verdict,) = loop.files.health().values()
    assert verdict.why == "no answer within 0.1 s"


def test_the_table_is_tidied_up_a_moment_later(loop: Loop, port: int) -> None:
    what = balanced(port, check=dataclasses.replace(CHECK, kind="none"))
    (one,) = what.targets
    two = dataclasses.replace(one, address="127.0.0.2", ident=1 << 20)
    loop.files.put_wanted(dataclasses.replace(what, targets=(one, two)))
    loop.until(lambda: loop.used() == 2)
    loop.files.put_wanted(what)
    loop.until(lambda: loop.used() == 1)
    assert loop.files.loaded().spare
    loop.until(lambda: not loop.files.loaded().spare)
    assert "delete chain inet cnsmo-lb-www pick-4-" in loop.texts[-1]


def test_what_cannot_be_read_is_no_reason_to_end(loop: Loop, port: int) -> None:
    (loop.files.dir / "wanted.json").write_text("{torn")
    turns = iter(range(5))
    loop.until(lambda: next(turns, None) is None)
    assert loop.texts == []
    loop.files.put_wanted(balanced(port))
    loop.until(lambda: loop.used() == 1)


def test_it_ends_when_nothing_is_wanted(loop: Loop) -> None:
    assert not Watch(loop.files, loop.run).go_on()
