# SPDX-License-Identifier: Apache-2.0
"""The core of the unit tests, beside which the double is put."""

from tests.unit.conftest import core, told

__all__ = ["core", "told"]
