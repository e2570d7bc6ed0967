# SPDX-License-Identifier: Apache-2.0
"""Files with secrets: nobody else's to read, whole or not there."""

import os
import stat
from pathlib import Path

import pytest

from cnsmo.model.errors import DriverError
from cnsmo.services.kit.private_files import (
    ensure_directory,
    read_private,
    read_tree,
    remove_tree,
    write_private,
    write_tree,
)


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        write_private(tmp_path / "unit" / "key", "secret")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "unit").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "unit" / "key").stat().st_mode) == 0o600
    assert read_private(tmp_path / "unit" / "key") == "secret"


def test_what_a_crash_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "key.new").write_text("half")
    write_private(tmp_path / "key", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit" / "key").symlink_to(tmp_path / "elsewhere")
    write_private(tmp_path / "unit" / "key", "secret")
    assert not (tmp_path / "elsewhere").exists()


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DriverError, match="cannot be made"):
        ensure_directory(tmp_path / "file" / "unit")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(DriverError, match="cannot be read"):
        read_private(tmp_path / "binary")
    with pytest.raises(DriverError, match="cannot be deleted"):
        remove_tree(tmp_path / "file")


def test_nothing_is_nothing(tmp_path: Path) -> None:
    assert read_private(tmp_path / "none") is None
    remove_tree(tmp_path / "none")


def test_a_directory_that_was_read_can_be_written_back(tmp_path: Path) -> None:
    unit = tmp_path / "unit"
    write_private(unit / "key", "secret")
    write_private(unit / "deeper" / "text", "more")
    os.mkfifo(unit / "pipe")
    files = read_tree(unit)
    remove_tree(unit)
    write_tree(files)
    assert read_tree(unit) == files == {
        unit / "key": b"secret", unit / "deeper" / "text": b"more",
    }  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert unit.stat().st_mode & 0o777 == 0o700
    assert read_tree(tmp_path / "nothing") == {}


def test_what_cannot_be_written_back_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DriverError, match="cannot be made"):
        write_tree({tmp_path / "file" / "key": b""})
    with pytest.raises(DriverError, match="cannot be written"):
        write_tree({tmp_path: b""})
