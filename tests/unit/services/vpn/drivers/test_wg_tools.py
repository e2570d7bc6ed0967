# SPDX-License-Identifier: Apache-2.0
"""What wg(8) prints, and what it is told."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.errors import DriverError
from cnsmo.services.base import Completed
from cnsmo.services.vpn.drivers.wg_tools import CHUNK, parse_dump, set_device

KEY = base64.b64encode(b"k" * 32).decode()
PRIVATE = base64.b64encode(b"p" * 32).decode()
DUMP = (
    f"{PRIVATE}\t{KEY}\t51820\toff\n"
    "A\t(none)\t192.0.2.1:51820\t10.66.0.2/32,fd66::2/128\t1700000000\t616\t620\t25\n"
    "B\tpsk\t(none)\t(none)\t0\t0\t0\toff\n"
)


class FakeSystem:
    """Takes down what would be run."""

    def __init__(self) -> None:
        self.ran: list[tuple[tuple[str, ...], str | None]] = []

    def run(self, *args: str, stdin: str | None = None, **_more: Any) -> Completed:
        self.ran.append((args, stdin))
        return Completed(args, 0, "", "")


def test_a_dump_is_read() -> None:
    device = parse_dump(DUMP)
    assert (device.public_key, device.listen_port, device.fwmark) == (KEY, 51820, False)
    first, second = device.peers["A"], device.peers["B"]
    assert first.endpoint == "192.0.2.1:51820"
    assert first.allowed_ips == {"10.66.0.2/32", "fd66::2/128"}
    assert (first.handshake, first.rx, first.tx, first.keepalive) == (1700000000, 616, 620, 25)
    assert not first.preshared
    assert (second.endpoint, second.allowed_ips, second.keepalive) == (None, frozenset(), 0)
    assert second.preshared


def test_the_private_key_is_not_shown() -> None:
    assert PRIVATE not in repr(parse_dump(DUMP))


def test_a_device_without_keys_is_read() -> None:
    device = parse_dump("(none)\t(none)\t0\t0x7\n")
    assert (device.private_key, device.public_key, device.fwmark) == ("", "", True)


@given(st.text(st.characters(exclude_characters="\t")))
def test_what_is_not_a_dump_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(DriverError) as caught:
        parse_dump(f"{PRIVATE}{text}")
    assert PRIVATE not in str(caught.value)


def test_the_private_key_goes_through_stdin_only() -> None:
    system = FakeSystem()
    set_device(system, "cn-x", ("fwmark", "0"), (), PRIVATE)  # type: ignore[arg-type]
    ((args, stdin),) = system.ran
    assert args == ("wg", "set", "cn-x", "fwmark", "0", "private-key", "/dev/stdin")
    assert stdin == PRIVATE


def test_nothing_to_set_runs_nothing() -> None:
    system = FakeSystem()
    set_device(system, "cn-x", (), ())  # type: ignore[arg-type]
    assert system.ran == []


@pytest.mark.parametrize(("peers", "runs"), [(1, 1), (CHUNK, 1), (CHUNK + 1, 2), (3 * CHUNK, 3)])
def test_many_peers_are_set_in_few_runs_and_in_order(peers: int, runs: int) -> None:
    system = FakeSystem()
    words = [("peer", str(number)) for number in range(peers)]
    set_device(system, "cn-x", (), words, PRIVATE)  # type: ignore[arg-type]
    assert len(system.ran) == runs
    assert [stdin for _args, stdin in system.ran] == [PRIVATE] + [None] * (runs - 1)
    said = [word for args, _stdin in system.ran for word in args if word.isdecimal()]
    assert said == [str(number) for number in range(peers)]
