# SPDX-License-Identifier: Apache-2.0
"""The scene of a driver's test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.firewall.scene import Scene
from tests.functional.vpn.vms import Net


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Two VMs; nothing has been applied."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces with nftables")
    net = Net()
    try:
        yield Scene(net, tmp_path)
    finally:
        net.stop()
