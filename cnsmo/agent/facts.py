# SPDX-License-Identifier: Apache-2.0
"""Facts about this host: configuration first, then cloud-init's instance-data, then the kernel."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import socket
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_log import log
from pydantic import ValidationError

from cnsmo.model.errors import InvalidRequest, ProgramError
from cnsmo.model.host import HostFacts
from cnsmo.model.names import LABEL, check_label
from cnsmo.model.wording import in_words
from cnsmo.services.base import System

LOG = log.getLogger(__name__)
INSTANCE_DATA = Path("/run/cloud-init/instance-data.json")
INSTANCE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_PRIVATE, MAX_PUBLIC = 16, 4
"""How many addresses a host announces of those that it found by itself."""


def host_name(conf: cfg.ConfigOpts) -> str:
    """The host's name in its deployment.

    :raises InvalidRequest: when it is none that a deployment could use.
    """
    try:
        return check_label(str(conf.host.name or socket.gethostname().split(".")[0].lower()))
    except ValueError as exc:
        raise InvalidRequest(f"configuration, [host] name: {exc}") from exc


def gather(conf: cfg.ConfigOpts, system: System, instance_data: Path = INSTANCE_DATA) -> HostFacts:
    """What this host tells the core about itself.

    :raises InvalidRequest: when the configuration of the group [host] is wrong.
    """
    cloud = _cloud(instance_data)
    interface, mtu = _default_interface(system)
    own = _addresses(system, interface)[:MAX_PRIVATE]
    private = list(conf.host.private_addresses) or [
        text for text in own if ipaddress.ip_interface(text).version == 4 or _routable(text)
    ]
    public = (
        list(conf.host.public_addresses)
        or cloud.get("public", [])
        or [str(ipaddress.ip_interface(text).ip) for text in own if _routable(text)][:MAX_PUBLIC]
    )
    try:
        return HostFacts(
            site=conf.host.site or cloud.get("site") or "default",
            private=tuple(private),
            public=tuple(public),
            behind_nat=conf.host.behind_nat,
            mtu=mtu,
            instance_id=cloud.get("instance_id", ""),
        )
    except ValidationError as exc:
        raise InvalidRequest(f"configuration, group [host]: {in_words(exc)}") from exc


def _cloud(path: Path) -> dict[str, Any]:
    """What cloud-init knows: site, instance id, public addresses (where the cloud says them)."""
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        LOG.warning("%s cannot be read: %s", path, exc)
        return {}
    v1, meta = _table(data, "v1"), _table(data, "ds", "meta_data")
    found: dict[str, Any] = {}
    zone = str(v1.get("availability_zone") or "").lower().replace("_", "-")
    if LABEL.fullmatch(zone):
        found["site"] = zone
    ident = str(v1.get("instance_id") or "")
    if INSTANCE_ID.fullmatch(ident):
        found["instance_id"] = ident
    address = str(meta.get("public-ipv4") or meta.get("public_ipv4") or "")
    with contextlib.suppress(ValueError):
        found["public"] = [str(ipaddress.ip_address(address))]
    return found


def _table(data: Any, *keys: str) -> dict[str, Any]:
    """A table within tables; empty when it is not there."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _default_interface(system: System) -> tuple[str, int]:
    """Name and MTU (bytes) of the interface that the default route leads to."""
    for family in ("-4", "-6"):
        for route in _ip(system, family, "route", "show", "default"):
            hop = route if "dev" in route else next(iter(route.get("nexthops", ())), {})
            for link in _ip(system, "link", "show", "dev", hop["dev"]) if "dev" in hop else ():
                return str(hop["dev"]), int(link["mtu"])
    return "", 1500


def _addresses(system: System, interface: str) -> list[str]:
    if not interface:
        return []
    return [
        f"{info['local']}/{info['prefixlen']}"
        for link in _ip(system, "addr", "show", "dev", interface, "scope", "global")
        for info in link.get("addr_info", [])
        # ip(8) leaves an empty object in the place of each address of another scope.
        if info and not info.get("deprecated") and not info.get("temporary")
    ]


def _ip(system: System, *args: str) -> list[dict[str, Any]]:
    try:
        return json.loads(system.run("ip", "-j", *args).stdout or "[]")  # type: ignore[no-any-return]
    except (ProgramError, ValueError) as exc:
        LOG.warning("ip %s: %s", " ".join(args), exc)
        return []


def _routable(text: str) -> bool:
    return ipaddress.ip_interface(text).ip.is_global
