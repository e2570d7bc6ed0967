# SPDX-License-Identifier: Apache-2.0
"""Takes no compressed message: what the broker bounds to a megabyte could be of any size."""

from __future__ import annotations

from typing import NoReturn

from kombu import compression

from cnsmo.model.errors import InvalidRequest


def register() -> None:
    """Let kombu decompress nothing; nothing of ours is compressed."""
    for kind in compression.encoders():
        compression.register(_refuse, _refuse, kind)


def _refuse(_body: bytes) -> NoReturn:
    raise InvalidRequest("messages are not compressed here")
