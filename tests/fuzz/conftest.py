# SPDX-License-Identifier: Apache-2.0
"""The core of the unit tests; and how many examples are tried where nothing else is done."""

from hypothesis import settings

from tests.unit.conftest import core, operator, told

__all__ = ["core", "operator", "told"]

# "tox -e fuzz" takes it; other environments keep to the few of tests/conftest.py.
settings.register_profile(
    "fuzz", settings.get_profile("cnsmo"), max_examples=1800, derandomize=False, print_blob=True
)
