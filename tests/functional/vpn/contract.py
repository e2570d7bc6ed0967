# SPDX-License-Identifier: Apache-2.0
"""What every VPN driver promises, tested on whatever really reaches the kernel.

A driver's test module subclasses ``VpnDriverContract`` and says what is special about it.
"""

import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cnsmo.model.errors import DriverError, ProgramError
from cnsmo.services.kit.link import interface_name
from tests.functional.vpn.deployment import VPN, Deployment
from tests.functional.vpn.systems import Killed, Recorder, Saboteur
from tests.functional.vpn.traffic import VpnTraffic
from tests.functional.vpn.vms import Vm, end_pings

Drift = Callable[[Vm, str], None]
"""What somebody else does to a VM behind the driver's back; the interface's name is given."""

IF = interface_name("vpn", VPN)
LINK_DRIFTS: dict[str, Drift] = {
    "link down": lambda vm, dev: void(vm.run(f"ip link set dev {dev} down")),
    "address removed": lambda vm, dev: void(vm.run(f"ip address flush dev {dev} scope global")),
    "foreign address": lambda vm, dev: void(vm.run(f"ip address add 10.99.0.1/32 dev {dev}")),
    "MTU changed": lambda vm, dev: void(vm.run(f"ip link set dev {dev} mtu 1300")),
    "foreign route": lambda vm, dev: void(vm.run(f"ip route add 10.98.0.0/24 dev {dev}")),
    "all routes gone": lambda vm, dev: void(vm.run(f"ip route flush dev {dev} scope link")),
}
"""For drivers that keep an interface by drivers/link.py."""


def void(_: Any) -> None:
    """Make a statement of an expression."""


class VpnDriverContract(VpnTraffic):
    """Subclass it as ``Test...``; three hosts: ``one``, ``two``, ``three``, in ``groups``."""

    drifts: ClassVar[Mapping[str, Drift]] = {}
    """Each is done to host ``two``, must be seen by observe() and repaired by apply()."""
    everybody_hears = True
    """Whether a member's leaving changes something on every host, not only on the hub ``one``."""
    daemon: ClassVar[str | None] = None
    """Program that runs as long as the VPN does; None: nothing runs."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "drift" in metafunc.fixturenames:
            metafunc.parametrize("drift", sorted(self.drifts) or ["none"])

    def secrets(self, state_dir: Path) -> list[str]:
        """What must never be seen in arguments or logs."""
        return []

    # --- converge -------------------------------------------------------------------------

    def test_needs_are_met_here(self, shop: Deployment) -> None:
        shop.drivers["one"].check()

    def test_traffic_flows_between_all_hosts(self, mesh: Deployment) -> None:
        for name in mesh.drivers:
            assert mesh.drivers[name].observe(mesh.desired(name)).drift == ()

    def test_applying_twice_changes_nothing(self, mesh: Deployment) -> None:
        for name in mesh.drivers:
            recorder = Recorder(mesh.net.vms[name].system)
            mesh.restart(name, lambda _system, recorder=recorder: recorder)
            assert mesh.apply(name) == []
            assert recorder.changing == []

    def test_announcing_is_stable_and_changes_nothing(self, mesh: Deployment) -> None:
        before = mesh.announce("one")
        recorder = Recorder(mesh.net.vms["one"].system)
        mesh.restart("one", lambda _system: recorder)
        assert mesh.announce("one") == before
        assert recorder.changing == []

    def test_changes_are_told(self, shop: Deployment) -> None:
        for name in shop.drivers:
            shop.announce(name)
        changes = shop.apply("one")
        assert changes
        assert all(isinstance(line, str) and "\n" not in line for line in changes)

    # --- drift ----------------------------------------------------------------------------

    def test_drift_is_seen_and_repaired(self, mesh: Deployment, drift: str) -> None:
        if not self.drifts:
            return
        vm = mesh.net.vms["two"]
        before = vm.picture()
        self.drifts[drift](vm, IF)
        seen = mesh.drivers["two"].observe(mesh.desired("two"))
        assert seen.drift
        assert mesh.apply("two")
        assert mesh.apply("two") == []
        assert mesh.drivers["two"].observe(mesh.desired("two")).drift == ()
        assert without_pids(vm.picture()) == without_pids(before)
        self.assert_works(mesh)

    def test_killed_daemon_is_seen_and_replaced(self, mesh: Deployment) -> None:
        if self.daemon is None:
            return
        vm = mesh.net.vms["two"]
        vm.run(f"pkill -KILL -x {self.daemon[:15]}")
        assert mesh.drivers["two"].observe(mesh.desired("two")).drift
        assert mesh.apply("two")
        assert mesh.apply("two") == []
        assert len(vm.processes()) == 1
        self.assert_works(mesh)

    # --- other people's sessions ----------------------------------------------------------

    def test_unchanged_peers_lose_nothing_while_another_comes_and_goes(
        self, mesh: Deployment
    ) -> None:
        if not self.carries:
            return
        vm = mesh.net.vms["two"]
        pings = vm.spawn(f"ping -n -i 0.01 -w 60 {mesh.vpn_address('one')}")
        mesh.join("four")
        mesh.converge()
        self.assert_works(mesh, "four", "two")
        mesh.leave("four")
        mesh.drivers.pop("four").remove()
        mesh.converge()
        counted = end_pings(vm, pings)
        assert counted.sent > 10
        assert counted.lost == 0

    def test_a_removed_member_is_shut_out(self, mesh: Deployment) -> None:
        mesh.leave("three")
        assert mesh.apply("one")
        assert mesh.apply("two") or not self.everybody_hears
        if self.carries:
            assert (
                mesh.net.vms["three"].ping(mesh.vpn_address("one"), count=3, wait=1).received == 0
            )
        self.assert_works(mesh, "one", "two")

    # --- failure --------------------------------------------------------------------------

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_failing_at_any_step_leaves_what_works_and_is_made_good_later(
        self, mesh: Deployment, after: bool
    ) -> None:
        vm = mesh.net.vms["one"]
        pings = (
            vm.spawn(f"ping -n -i 0.02 -w 60 {mesh.vpn_address('two')}") if self.carries else None
        )
        mesh.leave("three")
        mesh.join("four")
        mesh.announce("four")
        mesh.apply("four")
        mesh.apply("two")
        desired = mesh.desired("one")
        for allowed in range(30):
            saboteur = Saboteur(vm.system, allowed, after=after)
            driver = mesh.restart("one", lambda _system, saboteur=saboteur: saboteur)
            try:
                driver.apply(desired)
            except DriverError:
                pass
            except ProgramError as error:
                pytest.fail(f"{error!r} should have been a DriverError")
            if not saboteur.struck:
                break
        else:
            pytest.fail("never got to the end")
        assert mesh.restart("one").apply(desired) == []
        if pings:
            assert end_pings(vm, pings).lost == 0
        self.assert_works(mesh, "one", "two", "four")

    def test_killed_at_any_step_of_the_first_apply_it_is_finished_by_the_next_process(
        self, shop: Deployment
    ) -> None:
        for name in shop.drivers:
            shop.announce(name)
        for name in ("two", "three"):
            shop.apply(name)
        vm = shop.net.vms["one"]
        before = vm.picture()
        for allowed in range(30):
            saboteur = Saboteur(vm.system, allowed, Killed, after=bool(allowed % 2))
            driver = shop.restart("one", lambda _system, saboteur=saboteur: saboteur)
            try:
                driver.apply(shop.desired("one"))
            except Killed:
                # The machine's own clean-up must work from any state, too.
                if allowed % 3 == 0:
                    shop.restart("one").remove()
                    assert vm.picture() == before
                    shop.announce("one")
                    for name in ("two", "three"):
                        shop.apply(name)
            if not saboteur.struck:
                break
        else:
            pytest.fail("never got to the end")
        assert shop.restart("one").apply(shop.desired("one")) == []
        self.assert_works(shop)

    def test_a_new_agent_process_adopts_what_runs(self, mesh: Deployment) -> None:
        vm = mesh.net.vms["one"]
        processes = vm.processes()
        before = mesh.announce("one")
        mesh.restart("one")
        assert mesh.announce("one") == before
        assert mesh.apply("one") == []
        assert vm.processes() == processes

    # --- the end --------------------------------------------------------------------------

    def test_removing_leaves_nothing(self, shop: Deployment) -> None:
        before = {name: vm.picture() for name, vm in shop.net.vms.items()}
        shop.converge()
        self.assert_works(shop)
        for name in tuple(shop.drivers):
            shop.restart(name).remove()
            assert shop.net.vms[name].picture() == before[name]
            assert not shop.state_dir(name).exists()
            shop.drivers[name].remove()  # nothing left to do is fine

    def test_removing_what_never_was_is_fine(self, shop: Deployment) -> None:
        shop.drivers["one"].remove()
        assert not shop.state_dir("one").exists()

    def test_removing_after_a_reboot_is_fine(self, mesh: Deployment) -> None:
        """Processes and interface are gone, the files are not, and process ids are reused."""
        vm = mesh.net.vms["one"]
        if self.daemon:
            vm.run(f"pkill -KILL -x {self.daemon[:15]}")
        mesh.restart("one").remove()
        assert not mesh.state_dir("one").exists()

    # --- secrets --------------------------------------------------------------------------

    def test_state_is_for_root_only(self, mesh: Deployment) -> None:
        for path in (mesh.state_dir("one"), *mesh.state_dir("one").rglob("*")):
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path

    def test_state_is_for_root_only_whatever_the_umask(self, shop: Deployment) -> None:
        old = os.umask(0)
        try:
            shop.converge()
        finally:
            os.umask(old)
        self.test_state_is_for_root_only(shop)

    def test_secrets_are_in_no_arguments_and_no_logs(
        self, shop: Deployment, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        vm = shop.net.vms["one"]
        recorder = Recorder(vm.system)
        shop.restart("one", lambda _system: recorder)
        shop.converge()
        shop.rotate()
        shop.announce("one")
        shop.announce("one", confirmed=True)
        shop.apply("one")
        state_dir = shop.state_dir("one")
        seen = [" ".join(args) for args in recorder.commands] + recorder.outputs + vm.processes()
        seen += [caplog.text, str(shop.drivers["one"].observe(shop.desired("one")))]
        seen += [path.read_text() for path in state_dir.rglob("*.log")]
        for secret in self.secrets(state_dir):
            assert not any(secret in text for text in seen)


def without_pids(picture: dict[str, Any]) -> dict[str, Any]:
    """A picture without link-local addresses, which differ from one daemon to the next."""
    text = dict(picture)
    text["links"] = [
        (*link[:-1], [address for address in link[-1] if not address.startswith("fe80")])
        for link in picture["links"]
    ]
    text["routes"] = sorted(re.sub(r"fe80::\S+", "fe80", line) for line in picture["routes"])
    text.pop("sysctls")
    return text
