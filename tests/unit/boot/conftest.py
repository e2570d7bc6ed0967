# SPDX-License-Identifier: Apache-2.0
"""Real cloud-init code of both releases, and parameters in all combinations."""

from collections.abc import Iterator

import pytest

from tests.beds import MissingPackage
from tests.beds.cloud_init import RELEASES, CloudInit


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
