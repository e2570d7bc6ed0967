# SPDX-License-Identifier: Apache-2.0
"""The driver_options of the driver openvpn; pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnsmo.model.errors import DriverError


class Protocol(enum.StrEnum):
    """What carries the tunnel."""

    UDP = "udp"
    TCP = "tcp"


class Cipher(enum.StrEnum):
    """How packets are encrypted."""

    AES_256_GCM = "AES-256-GCM"
    CHACHA20_POLY1305 = "CHACHA20-POLY1305"


class OpenvpnOptions(BaseModel):
    """The driver_options of the driver ``openvpn``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Protocol = Field(
        Protocol.UDP, description="udp; or tcp, for networks that let nothing else through."
    )
    port: int | None = Field(
        None, ge=1, le=65535, description="Port of the hub; left out, the VPN's listen_port."
    )
    cipher: Cipher = Field(
        Cipher.AES_256_GCM,
        description="AES-256-GCM; or CHACHA20-POLY1305, faster on processors without AES.",
    )


def read_options(options: Mapping[str, object]) -> OpenvpnOptions:
    """The driver_options, checked.

    :raises DriverError: with one line per mistake.
    """
    try:
        return OpenvpnOptions.model_validate(dict(options))
    except ValidationError as exc:
        wrong = "; ".join(
            f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors()
        )
        raise DriverError(f"driver_options of openvpn: {wrong}") from exc
