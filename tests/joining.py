# SPDX-License-Identifier: Apache-2.0
"""Joining as tests do it: what a host sends, and a core's door that agents find."""

import dataclasses
import datetime
import zlib
from collections.abc import Collection
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from oslo_config import cfg

from cnsmo.model.host import HostFacts
from cnsmo.model.messages import JoinRequest
from cnsmo.trust import authority, keys


@dataclasses.dataclass(frozen=True)
class Door:
    """Where a core lets hosts join; the fields are named as those of an agent's Settings."""

    join_url: str
    ca_fingerprint: str

    def config(self) -> str:
        """Of an agent: lines of its group ``[agent]``."""
        return f"join_url = {self.join_url}\nca_fingerprint = {self.ca_fingerprint}\n"


def make_authority(conf: cfg.ConfigOpts) -> str:
    """Make the authority of ``[join] ca_directory``; returns its fingerprint."""
    now = datetime.datetime.now(datetime.UTC)
    return authority.create(Path(conf.join.ca_directory), now).fingerprint


def door_config(directory: Path, port: int) -> tuple[str, Door]:
    """Make an authority; what a core's configuration says of it, and the door that it opens.

    Any number of hosts may join from one address.
    """
    made = authority.create(directory, datetime.datetime.now(datetime.UTC))
    config = (
        f"[join]\nlisten = 127.0.0.1\nport = {port}\nca_directory = {directory}\n"
        "burst = 100000\nconnections_per_source = 1000\n"
    )
    return config, Door(f"https://127.0.0.1:{port}", made.fingerprint)


def open_door(conf: cfg.ConfigOpts, port: int) -> Door:
    """Let cores that are started with this configuration take hosts in, at a port of loopback.

    There is an authority already.
    """
    conf.set_override("listen", "127.0.0.1", "join")
    conf.set_override("port", port, "join")
    fingerprint = authority.load(Path(conf.join.ca_directory)).fingerprint
    return Door(f"https://127.0.0.1:{port}", fingerprint)


def own_facts(host: str) -> HostFacts:
    """What a host says of itself that has an address of its own, told from its name."""
    return HostFacts(private=(f"192.168.7.{zlib.crc32(host.encode()) % 250 + 1}/24",))


def join_request(
    token: str,
    host: str,
    *,
    nonce: str = "",
    key: ec.EllipticCurvePrivateKey | None = None,
    services: Collection[str] = ("vpn",),
    facts: HostFacts | None = None,
) -> JoinRequest:
    """What an agent sends; the nonce is its name's and the key a new one if left out."""
    nonce = nonce or f"{host:0>32}"
    return JoinRequest(
        token=token,
        host=host,
        nonce=nonce,
        csr=keys.request(key or keys.new_key(), nonce),
        services=list(services),
        facts=facts or HostFacts(),
    )
