# SPDX-License-Identifier: Apache-2.0
"""The agent's copy of the rows: right in memory, whole or not at all on disk."""

import contextlib
import json
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnsmo.state import replica as module
from cnsmo.state.replica import Replica
from tests.unit.state.replicas import changes, row, saved_thrice


def names(replica: Replica) -> list[str]:
    return [found.name for found in replica.view().rows("thing")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "replica-all.json"


@pytest.fixture
def stored(path: Path) -> Replica:
    """A replica at revision 2 that was saved."""
    made = Replica(path, "shop", "h-1")
    made.update(changes(2, row("a", 1), row("b", 2, value="grüße 😀"), snapshot=True))
    made.save()
    return made


def again(path: Path, deployment: str = "shop", host: str = "h-1") -> Replica:
    return Replica(path, deployment, host)


# in memory


def test_changes_are_taken_in_and_tombstones_take_away(path: Path) -> None:
    replica = again(path)
    assert replica.update(changes(2, row("a", 1), row("b", 2), snapshot=True))
    assert replica.update(changes(4, row("a", 3, deleted=True), row("c", 4)))
    assert (names(replica), replica.revision) == (["b", "c"], 4)


def test_old_news_is_no_news(path: Path) -> None:
    replica = again(path)
    replica.update(changes(5, row("a", 5), snapshot=True))
    assert not replica.update(changes(5))
    assert not replica.update(changes(4, row("a", 4, deleted=True)))
    assert (names(replica), replica.revision) == (["a"], 5)


def test_a_snapshot_replaces_everything_even_with_an_older_revision(path: Path) -> None:
    replica = again(path)
    replica.update(changes(9, row("a", 9), snapshot=True))
    assert replica.update(changes(3, row("b", 3), row("x", 2, deleted=True), snapshot=True))
    assert (names(replica), replica.revision) == (["b"], 3)


def test_a_view_does_not_change_when_the_replica_does(path: Path) -> None:
    replica = again(path)
    replica.update(changes(1, row("a", 1), snapshot=True))
    view = replica.view()
    replica.update(changes(2, row("a", 2, deleted=True)))
    assert view.get("thing", "a") is not None
    assert view.revision == 1


# on disk


def test_what_was_saved_comes_back(path: Path, stored: Replica) -> None:
    replica = again(path)
    assert replica.load()
    assert (replica.revision, replica.saved_revision) == (2, 2)
    assert list(replica.view().rows("thing")) == list(stored.view().rows("thing"))


def test_files_are_for_their_owner_only(path: Path, stored: Replica) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [found.name for found in path.parent.iterdir()] == [path.name], "no draft is left"


def test_without_a_file_nothing_is_loaded(path: Path) -> None:
    assert not again(path).load()


def fetched_anew(path: Path, warned: str, caplog: pytest.LogCaptureFixture, **who: str) -> None:
    damaged = path.read_bytes()
    replica = again(path, **who)
    assert not replica.load()
    assert replica.revision == 0
    assert names(replica) == []
    assert not path.exists()
    assert path.with_suffix(".damaged").read_bytes() == damaged
    assert warned in caplog.text
    assert "set aside" in caplog.text
    replica.update(changes(7, row("z", 7), snapshot=True))
    replica.save()
    fresh = again(path, **who)
    assert fresh.load()
    assert names(fresh) == ["z"]


def test_a_torn_file_is_set_aside(
    path: Path, stored: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(path.read_bytes()[:-40])
    fetched_anew(path, "is torn: its checksum does not match", caplog)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"{}\n",
        b"{}\n{}\n",
        b"[]\nx",
        b"7\n7",
        b"null\n",
        b"\xff\xfe\x00",
        b"[" * 100_000 + b"\n",
        b'{"format": "cnsmo-replica 1"}\n{}',
        b"\x00" * 4096,
    ],
)
def test_what_has_no_header_is_set_aside(
    path: Path, stored: Replica, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)
    fetched_anew(path, "the replica", caplog)


def test_the_file_of_another_release_is_set_aside(
    path: Path, stored: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(path.read_text().replace("cnsmo-replica 1", "cnsmo-replica 2"))
    fetched_anew(path, "has the format 'cnsmo-replica 2', expected is 'cnsmo-replica 1'", caplog)


def test_a_file_with_other_content_is_set_aside(
    path: Path, stored: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    content = '{"deployment": "shop", "rows": 7}'
    header = json.dumps({"format": module.FORMAT, "sha256": module._checksum("", content)})
    path.write_text(f"{header}\n{content}\n")
    fetched_anew(path, "does not hold what a replica holds", caplog)


@pytest.mark.parametrize(("deployment", "host"), [("lab", "h-1"), ("shop", "h-2")])
def test_the_file_of_another_host_is_set_aside(
    path: Path, stored: Replica, deployment: str, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    fetched_anew(path, "belongs to h-1 of shop", caplog, deployment=deployment, host=host)


def test_what_cannot_be_read_is_set_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir(parents=True)
    assert not again(path).load()
    assert "cannot be read: Is a directory" in caplog.text
    assert path.with_suffix(".damaged").is_dir()


def test_changes_are_added_to_the_file(
    path: Path,
) -> None:
    versions = saved_thrice(path)
    assert len(path.read_text().splitlines()) == 6
    replica = again(path)
    assert replica.load()
    assert (replica.revision, list(replica.view())) == (5, versions[5])
    replica.save()
    assert len(path.read_text().splitlines()) == 2


def test_what_is_added_is_as_long_as_the_change(path: Path) -> None:
    replica = again(path)
    replica.update(changes(1000, *(row(f"n{it}", it) for it in range(1000)), snapshot=True))
    replica.save()
    whole = path.stat().st_size
    replica.update(changes(1001, row("n7", 1001)))
    replica.save()
    assert path.stat().st_size - whole < whole / 100
    for revision in range(1002, 2200):
        replica.update(changes(revision, row("n8", revision)))
        replica.save()
        assert path.stat().st_size < 4 * whole
    assert again(path).load()


def test_a_file_that_somebody_changed_is_written_anew(path: Path, stored: Replica) -> None:
    path.write_bytes(path.read_bytes()[:-5])
    stored.update(changes(3, row("c", 3)))
    stored.save()
    path.unlink()
    stored.update(changes(4, row("d", 4)))
    stored.save()
    replica = again(path)
    assert replica.load()
    assert (names(replica), replica.revision) == (["a", "b", "c", "d"], 4)


@contextlib.contextmanager
def tiny_files() -> Iterator[None]:
    """Files of this process cannot grow beyond 1 KiB: as a full disk, but EFBIG (setrlimit(2)).

    pytest's own output too, so nothing but what is tried belongs inside.
    """
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("whole", [True, False])
def test_when_the_disk_is_full_the_old_file_stays_whole(
    path: Path, stored: Replica, whole: bool
) -> None:
    before = path.read_bytes()
    stored.update(changes(3, row("big", 3, value="x" * 5000), snapshot=whole))
    with pytest.raises(OSError, match="File too large"), tiny_files():
        stored.save()
    assert stored.saved_revision == 2
    assert [found.name for found in path.parent.iterdir()] == [path.name], "no draft is left"
    assert path.read_bytes() == before
    stored.save()
    replica = again(path)
    assert replica.load()
    assert list(replica.view()) == list(stored.view())


def test_a_crash_before_the_rename_leaves_the_old_file(
    path: Path, stored: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.update(changes(3, row("c", 3), snapshot=True))

    class PowerCut(BaseException):
        pass

    def cut(*_names: str, **_folders: int) -> None:
        raise PowerCut

    monkeypatch.setattr(module.os, "replace", cut)
    with pytest.raises(PowerCut):
        stored.save()
    monkeypatch.undo()
    replica = again(path)
    assert replica.load()
    assert replica.revision == 2
    stored.save()
    assert replica.load()
    assert replica.revision == 3
