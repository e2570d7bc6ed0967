# SPDX-License-Identifier: Apache-2.0
"""Forwarding is opened where needed, and every switch is put back as it was."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.errors import ProgramError
from cnsmo.services.base import Completed
from cnsmo.services.kit.forwarding import Forwarding, entrances, needed

ALL6 = "net/ipv6/conf/all/forwarding"


class Kernel:
    """The switches of a host with eth0, lan0 and the tunnel, as Linux treats them."""

    def __init__(self, force: bool, **changed: str) -> None:
        self.boot = "boot-1"
        self.written: list[str] = []
        self.values: dict[str, str] = {ALL6: "0"}
        for name in ("eth0", "lan0", "cn-x"):
            self.values[f"net/ipv4/conf/{name}/forwarding"] = "0"
            self.values[f"net/ipv6/conf/{name}/forwarding"] = "0"
            self.values[f"net/ipv6/conf/{name}/accept_ra"] = "1"
            if force:
                self.values[f"net/ipv6/conf/{name}/force_forwarding"] = "0"
        self.values.update({key.replace("__", "/"): value for key, value in changed.items()})

    def run(self, program: str, *args: str, **_more: Any) -> Completed:
        shown = ""
        if program == "cat":
            shown = self.boot
        elif program == "grep":
            shown = "\n".join(f"/proc/sys/{key}:{value}" for key, value in self.values.items())
        else:
            assert program == "sysctl"
            for word in args[2:]:
                self.set(*word.split("="))
        return Completed((program, *args), 0, shown, "")

    def set(self, key: str, value: str) -> None:
        self.written.append(key)
        assert key in self.values
        self.values[key] = value
        if key == ALL6:  # addrconf_fixup_forwarding in net/ipv6/addrconf.c
            for other in self.values:
                if other.startswith("net/ipv6/") and other.endswith("/forwarding"):
                    self.values[other] = value


def forwarding(kernel: Kernel, folder: Path, unit: str = "x") -> Forwarding:
    return Forwarding(kernel, folder / "vpn" / unit / "wireguard")  # type: ignore[arg-type]


@pytest.mark.parametrize("force", [True, False], ids=["linux 6.17", "older linux"])
def test_a_gateway_is_opened_and_closed_again(tmp_path: Path, force: bool) -> None:
    kernel = Kernel(force)
    before = dict(kernel.values)
    assert forwarding(kernel, tmp_path).drift(["cn-x", "lan0"], [4, 6])
    assert forwarding(kernel, tmp_path).apply(["cn-x", "lan0"], [4, 6])
    assert forwarding(kernel, tmp_path).drift(["cn-x", "lan0"], [4, 6]) == []
    assert forwarding(kernel, tmp_path).apply(["cn-x", "lan0"], [4, 6]) == []
    assert kernel.values["net/ipv4/conf/lan0/forwarding"] == "1"
    assert kernel.values["net/ipv4/conf/eth0/forwarding"] == "0"
    assert kernel.values[ALL6] == ("0" if force else "1")
    assert kernel.values["net/ipv6/conf/eth0/accept_ra"] == ("1" if force else "2")
    forwarding(kernel, tmp_path).restore()
    assert kernel.values == before
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_is_needed_nothing_is_run(tmp_path: Path) -> None:
    unused: Any = None
    assert Forwarding(unused, tmp_path / "vpn/x/wireguard").drift([], [4]) == []
    assert Forwarding(unused, tmp_path / "vpn/x/wireguard").apply([], [4]) == []
    Forwarding(unused, tmp_path / "vpn/x/wireguard").restore()


def test_only_what_is_no_longer_needed_is_closed(tmp_path: Path) -> None:
    kernel = Kernel(force=False)
    forwarding(kernel, tmp_path).apply(["cn-x", "lan0"], [4, 6])
    kernel.written.clear()
    forwarding(kernel, tmp_path).apply(["cn-x"], [4, 6])
    assert kernel.written == ["net/ipv4/conf/lan0/forwarding"]
    assert forwarding(kernel, tmp_path).apply(["cn-x"], [4, 6]) == []


def test_a_host_that_is_a_router_already_stays_one(tmp_path: Path) -> None:
    kernel = Kernel(False, net__ipv4__conf__lan0__forwarding="1")
    kernel.set(ALL6, "1")
    before = dict(kernel.values)
    forwarding(kernel, tmp_path).apply(["lan0"], [4, 6])
    assert kernel.values == before
    forwarding(kernel, tmp_path).restore()
    assert kernel.values == before


def test_an_interface_that_routed_by_itself_does_so_again(tmp_path: Path) -> None:
    kernel = Kernel(False, net__ipv6__conf__eth0__forwarding="1")
    before = dict(kernel.values)
    forwarding(kernel, tmp_path).apply(["cn-x"], [6])
    forwarding(kernel, tmp_path).restore()
    assert kernel.values == before


def test_what_somebody_closes_is_opened_again(tmp_path: Path) -> None:
    kernel = Kernel(force=True)
    before = dict(kernel.values)
    forwarding(kernel, tmp_path).apply(["cn-x"], [4, 6])
    kernel.set("net/ipv4/conf/cn-x/forwarding", "0")
    assert forwarding(kernel, tmp_path).drift(["cn-x"], [4, 6]) == [
        "net/ipv4/conf/cn-x/forwarding is 0 instead of 1"
    ]
    assert forwarding(kernel, tmp_path).apply(["cn-x"], [4, 6]) == [
        "net/ipv4/conf/cn-x/forwarding = 1"
    ]
    forwarding(kernel, tmp_path).restore()
    assert kernel.values == before


def test_an_interface_that_is_gone_is_not_written_to(tmp_path: Path) -> None:
    kernel = Kernel(force=True)
    forwarding(kernel, tmp_path).apply(["cn-x"], [4, 6])
    kernel.values = {key: value for key, value in kernel.values.items() if "cn-x" not in key}
    forwarding(kernel, tmp_path).restore()
    assert list(tmp_path.iterdir()) == []


def test_values_of_an_earlier_boot_are_not_restored(tmp_path: Path) -> None:
    kernel = Kernel(force=True)
    forwarding(kernel, tmp_path).apply(["lan0"], [4])
    after = dict(kernel.values)
    kernel.boot = "boot-2"
    forwarding(kernel, tmp_path).restore()
    assert kernel.values == after


def test_a_torn_memory_is_nothing_to_rely_on(tmp_path: Path) -> None:
    kernel = Kernel(force=True)
    (tmp_path / "forwarding.json").write_text("{torn")
    assert forwarding(kernel, tmp_path).apply(["lan0"], [4])
    forwarding(kernel, tmp_path).restore()
    assert kernel.values["net/ipv4/conf/lan0/forwarding"] == "0"


def test_a_switch_that_two_units_need_goes_back_with_the_second(tmp_path: Path) -> None:
    kernel = Kernel(force=True)
    before = dict(kernel.values)
    one, two = (forwarding(kernel, tmp_path, name) for name in ("x", "y"))
    one.apply(["cn-x", "lan0"], [4])
    two.apply(["lan0", "eth0"], [4, 6])
    one.restore()
    assert two.drift(["lan0", "eth0"], [4, 6]) == []
    assert kernel.values["net/ipv4/conf/lan0/forwarding"] == "1"
    assert kernel.values["net/ipv4/conf/cn-x/forwarding"] == "0"
    one.restore()  # again: it is nobody's any more
    assert one.drift([], []) == []
    two.restore()
    assert kernel.values == before
    assert list(tmp_path.iterdir()) == []


def test_what_failed_half_way_is_known_to_the_next(tmp_path: Path) -> None:
    kernel = Kernel(force=True)
    before = dict(kernel.values)

    def broken(key: str, value: str) -> None:
        raise ProgramError(f"sysctl: {key}")

    kernel.set = broken  # type: ignore[method-assign]
    with pytest.raises(ProgramError):
        forwarding(kernel, tmp_path).apply(["lan0"], [4])
    del kernel.set  # type: ignore[method-assign]
    assert forwarding(kernel, tmp_path).apply(["lan0"], [4])
    forwarding(kernel, tmp_path).restore()
    assert kernel.values == before


@given(
    st.booleans(),
    st.dictionaries(st.sampled_from(sorted(Kernel(force=True).values)), st.just("1")),
    st.lists(
        st.tuples(
            st.sampled_from(["one", "two", "three"]),
            st.sets(st.sampled_from(["cn-x", "lan0", "eth0"])),
        ),
        max_size=6,
    ),
)
def test_whatever_was_needed_in_between_all_is_as_before(
    tmp_path_factory: pytest.TempPathFactory,
    force: bool,
    odd: dict[str, str],
    turns: list[tuple[str, set[str]]],
) -> None:
    folder = tmp_path_factory.mktemp("state")
    kernel = Kernel(force)
    for key in sorted(odd, key=lambda key: key != ALL6):
        if key in kernel.values:
            kernel.set(key, "1")
    before = dict(kernel.values)
    claims: dict[str, set[str]] = {}
    for unit, interfaces in turns:
        claims[unit] = interfaces
        forwarding(kernel, folder, unit).apply(sorted(interfaces), [4, 6])
        for name, needs in claims.items():
            assert needed(kernel.values, needs, [4, 6]) == {}
            assert forwarding(kernel, folder, name).apply(sorted(needs), [4, 6]) == []
    for name in claims:
        forwarding(kernel, folder, name).restore()
    assert kernel.values == before
    assert list(folder.iterdir()) == []


def test_the_entrance_of_a_subnet_is_the_most_specific_way_to_it() -> None:
    routes = [
        {"dst": "default", "dev": "eth0", "gateway": "10.0.0.1"},
        {"dst": "192.168.0.0/16", "dev": "lan0"},
        {"dst": "192.168.7.0/24", "dev": "lan1"},
        {"dst": "192.168.7.0/24", "dev": "cn-x"},
        {"dst": "fd77::/64", "dev": "lan0"},
    ]
    subnets = ("192.168.7.0/24", "192.168.9.0/24", "172.16.0.0/24", "fd77::/64", "fd78::/64")
    assert entrances(routes, "cn-x", subnets) == {
        "192.168.7.0/24": "lan1",
        "192.168.9.0/24": "lan0",
        "172.16.0.0/24": "eth0",
        "fd77::/64": "lan0",
        "fd78::/64": None,
    }
