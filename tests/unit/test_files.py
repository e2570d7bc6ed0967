# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cnsmo import files
from cnsmo.files import (
    OpenToOthers,
    alone,
    draft,
    folder,
    folder_below,
    read_secret,
    write_file,
    write_in,
)

START = Callable[..., threading.Thread]
MUCH = "x" * 200_000


def test_a_file_is_on_disk_before_it_takes_the_place_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append("fsync " + Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def replaced(*names: str, **folders: int) -> None:
        done.append("replace")
        replace(*names, **folders)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.os, "replace", replaced)
    write_file(tmp_path / "file", "content")
    assert done == ["fsync file.new", "replace", f"fsync {tmp_path.name}"]


def test_a_file_is_its_owners_before_it_holds_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: dict[str, tuple[int, bool]] = {}
    for name in ("fchown", "fchmod"):
        call = getattr(os, name)

        def noted(handle: int, *how: int, name: str = name, call: Callable = call) -> None:
            held[name] = (os.fstat(handle).st_size, (tmp_path / "file").exists())
            call(handle, *how)

        monkeypatch.setattr(files.os, name, noted)
    with folder(tmp_path) as inside:
        write_in(inside, "file", "secret", owner=(os.getuid(), os.getgid()))
    assert held == {"fchown": (0, False), "fchmod": (0, False)}
    assert (tmp_path / "file").read_text() == "secret"


def test_who_may_give_nothing_away_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The core's unit denies the system call, whatever it is asked for."""

    def denied(*_how: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files.os, "fchown", denied)
    write_file(tmp_path / "file", "content")
    assert (tmp_path / "file").read_text() == "content"


def test_processes_that_write_the_same_file_do_not_share_a_draft(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert len({draft(path), draft(path, ".vpn"), draft(path, ".firewall")}) == 3


def test_the_old_content_stands_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    write_file(tmp_path / "file", "old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def rewrite(path: Path, who: int, times: int) -> None:
    """Write a file again and again."""
    for _number in range(times):
        write_file(path, json.dumps({"who": who, "much": MUCH}))


def test_a_file_that_several_processes_write_is_never_torn(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, json.dumps({"who": 0, "much": MUCH}))
    fork = multiprocessing.get_context("spawn")
    writers = [fork.Process(target=rewrite, args=(path, who, 50)) for who in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert json.loads(path.read_text())["much"] == MUCH
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert [it.name for it in tmp_path.iterdir()] == ["file"]


def test_what_is_changed_alone_loses_no_change(tmp_path: Path, thread: START) -> None:
    path = tmp_path / "file"
    write_file(path, "0")

    def count() -> None:
        for _number in range(50):
            with alone(path):
                write_file(path, str(int(path.read_text()) + 1))

    running = [thread(count) for _number in range(4)]
    for one in running:
        one.join(60)
    assert path.read_text() == "200"


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def hard_link(path: Path, target: Path) -> None:
    path.hardlink_to(target)


def pipe(path: Path, _target: Path) -> None:
    os.mkfifo(path)


def open_file(path: Path, _target: Path) -> None:
    path.touch(mode=0o666)
    path.chmod(0o666)


@pytest.mark.parametrize("trap", [link, hard_link, pipe, open_file])
def test_what_somebody_put_where_the_draft_begins_is_not_written_to(
    tmp_path: Path, trap: Callable[[Path, Path], None]
) -> None:
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_text("precious")
    trap(draft(path), victim)
    held = os.open(draft(path), os.O_PATH | os.O_NOFOLLOW)  # so that its number is not used again
    write_file(path, "secret")
    assert victim.read_text() == "precious"
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("secret", 0o600)
    assert path.stat().st_ino != os.fstat(held).st_ino
    os.close(held)


def test_a_draft_that_a_crash_left_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "file"
    draft(path).touch(mode=0o600)
    draft(path).write_text("half of something much longer than the content")
    write_file(path, "content")
    assert path.read_text() == "content"


def test_nothing_on_the_way_to_a_directory_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real" / "deeper").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with folder_below(tmp_path, Path("real/deeper")) as inside:
        write_in(inside, "file", "x")
    assert (tmp_path / "real" / "deeper" / "file").read_text() == "x"
    with pytest.raises(OSError, match=r"deeper|link"), folder_below(tmp_path, Path("link/deeper")):
        pass


ATTACK = """
import os, sys
os.chdir(sys.argv[1])
while True:
    try:
        os.symlink(sys.argv[2], "evil")
        os.rename("evil", sys.argv[3])
    except OSError:
        pass
"""


def test_nothing_is_given_away_to_who_swaps_links_meanwhile(tmp_path: Path) -> None:
    victim, theirs = tmp_path / "victim", tmp_path / "theirs"
    victim.touch(mode=0o600)
    theirs.mkdir()
    command = [sys.executable, "-c", ATTACK, str(theirs), str(victim), "file"]
    with subprocess.Popen(command) as attacker:
        until = time.monotonic() + 2
        with folder(theirs) as inside:
            while time.monotonic() < until:
                write_in(inside, "file", "x", mode=0o644, owner=(os.getuid(), os.getgid()))
        attacker.kill()
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("", 0o600)


def test_a_secret_that_others_may_read_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_file(path, "secret")
    assert read_secret(path) == "secret"
    path.chmod(0o640)
    with pytest.raises(OpenToOthers):
        read_secret(path)
