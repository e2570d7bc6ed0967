# SPDX-License-Identifier: Apache-2.0
"""WireGuard keys on the disk, and when another one is due."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.errors import DriverError
from cnsmo.services.kit.rotation import SPREAD
from cnsmo.services.vpn.drivers.keys import Key, KeyPair, KeyRing

# RFC 7748 6.1, Alice's key pair.
PRIVATE = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
PUBLIC = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="


def test_the_public_half_is_the_one_of_the_rfc() -> None:
    assert Key(private=PRIVATE, created=0, generation=0).public == PUBLIC


def test_a_key_is_made_once(tmp_path: Path) -> None:
    first = KeyRing(tmp_path / "x").ensure(3, now=7)
    assert KeyRing(tmp_path / "x").ensure(4, now=8) == first
    assert (first.current.generation, first.current.created, first.next) == (3, 7, None)
    assert stat.S_IMODE((tmp_path / "x" / "keys.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o700


@given(st.floats(1, 1e9), st.integers(0, 5))
def test_age_asks_for_another_key_at_about_the_time(rotate_after: float, generation: int) -> None:
    key = Key.new(generation, now=1000)
    assert not key.due(generation, rotate_after, 1000 + rotate_after * (1 - SPREAD) * 0.999)
    assert key.due(generation, rotate_after, 1000 + rotate_after * (1 + SPREAD) * 1.001)
    assert not key.due(generation, rotate_after, now=0)  # the clock was set back


def test_hosts_do_not_replace_their_keys_all_at_once() -> None:
    due = sum(Key.new(0, now=0).due(0, 1000, now=1000) for _ in range(200))
    assert 50 < due < 150


def test_zero_means_never_and_the_operator_always() -> None:
    key = Key.new(1, now=0)
    assert not key.due(1, 0, now=1e12)
    assert key.due(2, 0, now=1)
    assert not key.due(0, 0, now=1)  # the row with the command was deleted


@pytest.mark.parametrize("text", ["", "{", "{}", '{"current": {"private": "x"}}', "\x00"])
def test_a_damaged_file_is_no_key_and_its_content_is_not_logged(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "keys.json").write_text(text)
    assert KeyRing(tmp_path).load() is None
    assert "is damaged" in caplog.text
    key = Key.new(0, 0)
    torn = KeyPair(current=key).model_dump_json().replace("}", "")
    (tmp_path / "keys.json").write_text(torn)
    assert KeyRing(tmp_path).load() is None
    bad = KeyPair(current=key).model_dump_json().replace('"generation":0', '"generation":"x"')
    (tmp_path / "keys.json").write_text(bad)
    assert KeyRing(tmp_path).load() is None
    assert key.private not in caplog.text


def test_the_private_half_is_not_shown() -> None:
    pair = KeyPair(current=Key(private=PRIVATE, created=0, generation=0))
    assert PRIVATE not in repr(pair) + str(pair)


def test_a_full_disk_leaves_the_earlier_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = KeyRing(tmp_path)
    first = ring.ensure(0, now=1)

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(DriverError, match="No space left"):
            ring.save(KeyPair(current=Key.new(1, 1)))
    assert ring.load() == first
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]
