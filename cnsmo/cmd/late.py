# SPDX-License-Identifier: Apache-2.0
"""Modules that libraries import and hardly anybody uses: they are loaded when somebody does.

A person waits for a command to start, and a part of that goes into these.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

SELDOM_USED = ("asyncio", "psutil", "rfc3986")
"""wrapt has locks for asyncio, oslo.utils looks for programs with psutil, oslo.config checks values
with rfc3986."""
ASKED_OF_ALL = ("__file__", "__wrapped__", "__warningregistry__")
"""What inspect and warnings ask each module that there is."""


class Late(types.ModuleType):
    """Stands for a module until somebody asks it for something."""

    def __getattr__(self, name: str) -> Any:
        if name in ASKED_OF_ALL:
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def put_off() -> None:
    """Let them be loaded late; those that are there already stay."""
    for name in SELDOM_USED:
        sys.modules.setdefault(name, Late(name))
