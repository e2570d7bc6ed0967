# SPDX-License-Identifier: Apache-2.0
"""The contract, for the driver that does nothing: it must promise the same as the real ones."""

from cnsmo.services.vpn.drivers.noop import NoopDriver
from tests.functional.vpn.contract import VpnDriverContract
from tests.functional.vpn.deployment import Deployment


class TestNoop(VpnDriverContract):
    driver = NoopDriver
    carries = False

    def test_what_was_tampered_with_is_seen_and_repaired(self, mesh: Deployment) -> None:
        (mesh.state_dir("two") / "desired.json").write_text("{}")
        assert mesh.drivers["two"].observe(mesh.desired("two")).drift
        assert mesh.apply("two") == ["remembered"]
        assert mesh.drivers["two"].observe(mesh.desired("two")).drift == ()
