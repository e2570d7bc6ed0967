# SPDX-License-Identifier: Apache-2.0
"""Entry point of oslo-config-generator: all our options, found by walking the package."""

from __future__ import annotations

import importlib
import pkgutil

from oslo_config import cfg

import cnsmo.conf


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Every group with its options, from each module of this package that has both."""
    found = []
    for info in pkgutil.iter_modules(cnsmo.conf.__path__):
        module = importlib.import_module(f"cnsmo.conf.{info.name}")
        if hasattr(module, "OPTS"):
            found.append((module.GROUP, list(module.OPTS)))
    return found
