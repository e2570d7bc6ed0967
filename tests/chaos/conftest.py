# SPDX-License-Identifier: Apache-2.0
"""Options of a run: ``tox -e chaos -- --chaos-seed 7``."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--chaos-seed", type=int, help="of the schedule; left out: any")
    group.addoption("--chaos-minutes", type=float, default=10.0, help="of faults; then comes calm")
    group.addoption("--chaos-vms", type=int, default=12, help="4 to 12")
