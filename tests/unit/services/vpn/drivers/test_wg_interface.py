# SPDX-License-Identifier: Apache-2.0
"""Which implementation makes the interface; a kernel that has WireGuard is scripted."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cnsmo.model.errors import DriverError, DriverUnavailable, ProgramError
from cnsmo.services.base import Completed
from cnsmo.services.kit.link import read_link
from cnsmo.services.vpn.drivers.wg_interface import WgInterface

NAME = "cn-x"
LABEL = "shop/web1/vpn/x"
DUMP = "(none)\t(none)\t0\toff\n"


class Host:
    """A host with, or without, the things that WireGuard needs."""

    def __init__(self, *has: str, refuses: str = "") -> None:
        self.has_it = set(has)
        self.refuses = refuses
        self.quicker: dict[str, Any] | None = None
        """An interface of this name that appears just before one is made."""
        self.links: dict[str, dict[str, Any]] = {}
        self.ran: list[str] = []

    def has(self, program: str) -> bool:
        return program in self.has_it

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        ok: Sequence[int] = (0,),
        **_more: Any,
    ) -> Completed:
        line = " ".join(args) + (f" <<< {stdin.strip()}" if stdin else "")
        self.ran.append(line)
        code, out, err = self._answer(args, stdin or "")
        if code not in ok:
            raise ProgramError(err)
        return Completed(args, code, out, err)

    def _answer(self, args: Sequence[str], stdin: str) -> tuple[int, str, str]:
        match args:
            case ["test", "-c", "/dev/net/tun"]:
                return (0 if "tun" in self.has_it else 1), "", ""
            case ["ip", "link", "add", "dev", name, "type", "wireguard"]:
                if self.quicker is not None:
                    self.links[name], self.quicker = self.quicker, None
                if name in self.links:
                    return 2, "", "RTNETLINK answers: File exists"
                if self.refuses or "module" not in self.has_it:
                    return 2, "", self.refuses or "Error: Unknown device type."
                self.links[name] = {
                    "ifname": name, "mtu": 1420, "flags": [], "linkinfo": {"info_kind": "wireguard"}
                }  # fmt: skip
            case ["ip", "link", "delete", "dev", name]:
                return (0 if self.links.pop(name, None) else 1), "", ""
            case ["ip", "-j", "-d", "-batch", "-"]:
                found = self.links.get(stdin.split()[-1])
                return (0 if found else 1), json.dumps([found] if found else []), ""
            case ["ip", "-batch", "-"]:
                self.links[NAME]["ifalias"] = stdin.split()[-1]
            case ["wg", "show", name, "dump"]:
                return (0, DUMP, "") if name in self.links else (1, "", "No such device")
        return 0, "", ""


def interface(host: Host, folder: Path) -> WgInterface:
    return WgInterface(host, "x", LABEL, folder)  # type: ignore[arg-type]


def ensure(host: Host, folder: Path, wanted: str = "auto") -> list[str]:
    made = interface(host, folder)
    link = read_link(host, NAME)  # type: ignore[arg-type]
    return made.ensure(wanted, link, made.read_device(link))


@pytest.mark.parametrize("wanted", ["auto", "kernel"])
def test_the_kernel_makes_the_interface_where_it_can(tmp_path: Path, wanted: str) -> None:
    host = Host("module")
    assert ensure(host, tmp_path, wanted) == ["cn-x: interface made (kernel)"]
    assert host.links[NAME]["ifalias"] == f"cnsmo:{LABEL}"
    assert ensure(host, tmp_path, wanted) == []
    interface(host, tmp_path).remove()
    assert host.links == {}
    assert not any("/var/run/wireguard" in line for line in host.ran)
    interface(host, tmp_path).remove()


def test_an_interface_that_there_was_no_time_to_mark_is_ours(tmp_path: Path) -> None:
    host = Host("module")
    ensure(host, tmp_path)
    del host.links[NAME]["ifalias"]
    assert ensure(host, tmp_path) == ["cn-x: marked as ours"]


def test_what_an_orphaned_daemon_made_meanwhile_is_replaced(tmp_path: Path) -> None:
    host = Host("module")
    host.quicker = {"ifname": NAME, "mtu": 1420, "flags": [], "linkinfo": {"info_kind": "tun"}}
    assert ensure(host, tmp_path) == ["cn-x: interface made (kernel)"]
    assert host.links[NAME]["linkinfo"] == {"info_kind": "wireguard"}


def test_what_somebody_else_made_meanwhile_is_left_alone(tmp_path: Path) -> None:
    host = Host("module")
    foreign = {"ifname": NAME, "mtu": 1420, "flags": [], "linkinfo": {}, "ifalias": "theirs"}
    host.quicker = dict(foreign)
    with pytest.raises(DriverError, match="cn-x"):
        ensure(host, tmp_path)
    assert host.links == {NAME: foreign}


def test_without_the_module_the_kernel_is_an_error_only_if_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DriverUnavailable, match="this kernel has no WireGuard"):
        ensure(Host(), tmp_path, "kernel")


def test_another_refusal_of_the_kernel_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="Operation not permitted"):
        ensure(Host("module", refuses="Operation not permitted"), tmp_path)


@pytest.mark.parametrize("has", [("module",), ("wireguard-go", "tun"), ("module", "wireguard-go")])
def test_one_implementation_is_enough(tmp_path: Path, has: tuple[str, ...]) -> None:
    host = Host(*has)
    asked = interface(host, tmp_path)
    asked.check()
    assert host.links == {}
    host.ran.clear()
    asked.check()
    assert host.ran == []


@pytest.mark.parametrize(
    ("has", "missing"),
    [((), "package wireguard-go"), (("wireguard-go",), "/dev/net/tun"), (("tun",), "package")],
)
def test_what_is_missing_is_named(tmp_path: Path, has: tuple[str, ...], missing: str) -> None:
    with pytest.raises(DriverUnavailable, match=missing):
        interface(Host(*has), tmp_path).check()


def test_wg_does_not_ask_a_daemon_that_does_not_listen_yet(tmp_path: Path) -> None:
    """wg(8) would delete its socket."""
    host, bound = Host("wireguard-go", "tun"), "Num: 2 0 {} 0001 01 7 /var/run/wireguard/cn-x.sock"
    flags = iter(["00000000", "00000000", "00010000"])
    answer = host._answer

    def starting(args: Sequence[str], stdin: str) -> tuple[int, str, str]:
        if args == ("cat", "/proc/net/unix"):
            return 0, bound.format(next(flags)), ""
        if args == ("cat", "/proc/7/cmdline"):
            return 0, "wireguard-go\0-f\0cn-x\0", ""
        return answer(args, stdin)

    def start(*_args: str, log: Path) -> int:
        host.links[NAME] = {
            "ifname": NAME, "mtu": 1420, "flags": [], "linkinfo": {"info_kind": "tun"}
        }  # fmt: skip
        return 7

    host._answer = starting  # type: ignore[method-assign]
    host.start = start  # type: ignore[attr-defined]
    assert ensure(host, tmp_path, "userspace") == ["cn-x: interface made (userspace)"]
    assert [line for line in host.ran if "unix" in line or line.startswith("wg")] == [
        *["cat /proc/net/unix"] * 3,
        "wg show cn-x dump",
    ]


def deaf(host: Host, times: int) -> None:
    """Let wg(8) fail that often."""
    answer, left = host._answer, iter(range(times))

    def slow(args: Sequence[str], stdin: str) -> tuple[int, str, str]:
        if args[0] == "wg" and next(left, None) is not None:
            return 1, "", "did not end within 5 s"
        return answer(args, stdin)

    host._answer = slow  # type: ignore[method-assign]


def test_the_kernels_tunnel_is_not_torn_down_because_the_machine_is_slow(tmp_path: Path) -> None:
    host = Host("module")
    ensure(host, tmp_path)
    deaf(host, 1)
    with pytest.raises(ProgramError, match="did not end"):
        ensure(host, tmp_path)
    assert not any("delete" in line for line in host.ran)
    assert ensure(host, tmp_path) == []


@pytest.mark.parametrize(("times", "answers"), [(1, True), (2, False)])
def test_a_daemon_is_asked_again_before_it_is_given_up(
    tmp_path: Path, times: int, answers: bool
) -> None:
    host = Host("wireguard-go", "tun")
    host.links[NAME] = {
        "ifname": NAME, "mtu": 1420, "flags": [], "ifalias": f"cnsmo:{LABEL}",
        "linkinfo": {"info_kind": "tun"},
    }  # fmt: skip
    deaf(host, times)
    link = read_link(host, NAME)  # type: ignore[arg-type]
    assert (interface(host, tmp_path).read_device(link) is not None) is answers
