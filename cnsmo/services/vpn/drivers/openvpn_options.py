# SPDX-License-Identifier: Apache-2.0
"""The driver_options of the driver openvpn; pure."""

from __future__ import annotations

import enum

from pydantic import BaseModel, ConfigDict, Field


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
