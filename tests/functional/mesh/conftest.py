# SPDX-License-Identifier: Apache-2.0
"""A world for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from tests.functional.mesh.world import World
from tests.joining import Door


@pytest.fixture
def world(conf: cfg.ConfigOpts, door: Door, tmp_path: Path) -> Iterator[World]:
    """A world that is not up yet; whatever becomes of it, it is taken down."""
    made = World(conf, tmp_path, door)
    yield made
    made.down()
