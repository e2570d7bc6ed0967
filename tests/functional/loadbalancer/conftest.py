# SPDX-License-Identifier: Apache-2.0
"""The scenes of the drivers' tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.loadbalancer.hap_scene import Scene, Site
from tests.functional.vpn.vms import Net


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The VMs of a module's tests."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    net = Net()
    try:
        yield Site(net, tmp_path_factory.mktemp("pool"))
    finally:
        net.stop()


@pytest.fixture
def scene(site: Site, tmp_path: Path) -> Iterator[Scene]:
    """Nothing has been applied; whatever becomes of it, it can be removed."""
    made = Scene(site, tmp_path)
    yield made
    made.stop()
