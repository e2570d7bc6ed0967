# SPDX-License-Identifier: Apache-2.0
"""The driver that does nothing keeps the contract's promises."""

import dataclasses
from pathlib import Path

from cnsmo.agent.system import LocalSystem
from cnsmo.services.firewall.drivers.noop import NoopDriver
from tests.functional.firewall.scene import desired, opened


def test_it_remembers_what_it_is_told(tmp_path: Path) -> None:
    state = tmp_path / "noop"
    driver = NoopDriver(LocalSystem(), "host", "shop/one/host", state)
    wanted = desired(opened(22), sets={"web_4": ("10.0.0.1",)})
    driver.check()
    assert driver.observe(wanted).drift
    assert driver.apply(wanted) == ["remembered"]
    assert driver.apply(wanted) == []
    assert driver.observe(wanted).drift == ()
    assert driver.observe(wanted).detail["sets"] == {"web_4": {"count": 1}}
    assert driver.trial() is None
    assert driver.apply(dataclasses.replace(wanted, pools=("10.0.0.0/8",)))
    assert (state / "desired.json").stat().st_mode & 0o777 == 0o600
    driver.remove()
    driver.remove()
    assert not state.exists()
