# SPDX-License-Identifier: Apache-2.0
"""Real cloud-init code of both releases, and a machine that only pretends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnsmo.boot import agent, core
from cnsmo.boot.machine import Machine
from cnsmo.files import KEEP
from tests.beds import MissingPackage
from tests.beds.cloud_init import RELEASES, CloudInit
from tests.unit.boot.pretend import PretendSystem


@pytest.fixture(scope="session", params=RELEASES)
def cloud_init(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CloudInit]:
    try:
        made = CloudInit(request.param, tmp_path_factory.mktemp(request.param))
    except MissingPackage as error:
        pytest.skip(f"no cloud-init: {error}")
    yield made
    made.close()


@pytest.fixture
def system() -> PretendSystem:
    return PretendSystem()


@pytest.fixture
def machine(system: PretendSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr("cnsmo.boot.machine.ids", lambda _who: KEEP)
    monkeypatch.setattr(agent, "LOOK", 0.01)
    monkeypatch.setattr(core, "LOOK", 0.01)
    pretend: Any = system
    return Machine(pretend, Path("/opt/cnsmo"), tmp_path)
