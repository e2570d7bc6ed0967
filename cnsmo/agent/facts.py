# SPDX-License-Identifier: Apache-2.0
"""Facts about this host: configuration first, then cloud-init's instance-data, then the kernel."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_log import log
from pydantic import ValidationError

from cnsmo.model.errors import InvalidRequest, ProgramError
from cnsmo.model.host import HostFacts, check_facts
from cnsmo.model.names import LABEL, check_label
from cnsmo.model.wording import in_words
from cnsmo.services.base import System

LOG = log.getLogger(__name__)
INSTANCE_DATA = Path("/run/cloud-init/instance-data.json")
INSTANCE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
METADATA = "169.254.169.254"
"""Where OpenStack's metadata service answers, in the form of EC2's, too."""
PUBLIC_ADDRESS = "/latest/meta-data/public-ipv4"
METADATA_TIMEOUT, MAX_METADATA = 2.0, 1024
"""Seconds, and bytes of an answer."""
MAX_PRIVATE, MAX_PUBLIC = 16, 4
"""How many addresses a host announces of those that it found by itself."""


def ask_metadata(path: str) -> str | None:
    """What the metadata service of the cloud says now; None when it does not answer.

    What it does not know is "": a VM without a floating IP.
    """
    connection = http.client.HTTPConnection(METADATA, timeout=METADATA_TIMEOUT)
    try:
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read(MAX_METADATA).decode("ascii", "replace").strip()
    except (OSError, http.client.HTTPException):
        return None
    if answer.status == 404:
        return ""
    return text if answer.status == 200 else None


def host_name(conf: cfg.ConfigOpts, instance_data: Path = INSTANCE_DATA) -> str:
    """The host's name in its deployment.

    :raises InvalidRequest: when it is none that a deployment could use.
    """
    try:
        return check_label(
            str(conf.host.name or _named(instance_data) or _short(socket.gethostname()))
        )
    except ValueError as exc:
        raise InvalidRequest(f"configuration, [host] name: {exc}") from exc


def gather(
    conf: cfg.ConfigOpts,
    system: System,
    instance_data: Path = INSTANCE_DATA,
    metadata: Callable[[str], str | None] = ask_metadata,
) -> HostFacts:
    """What this host tells the core about itself.

    metadata: asks a cloud's metadata service; None when it does not answer.

    :raises InvalidRequest: when the configuration of the group [host] is wrong.
    """
    cloud = _cloud(instance_data, metadata)
    interface, mtu = _default_interface(system)
    if not interface and "local" in cloud:
        interface, mtu = _holder(system, cloud["local"])
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
        told = HostFacts(
            site=conf.host.site or cloud.get("site") or "default",
            private=tuple(private),
            public=tuple(public),
            behind_nat=conf.host.behind_nat,
            ephemeral=conf.host.ephemeral,
            mtu=mtu,
            instance_id=cloud.get("instance_id", ""),
        )
        return check_facts(told)
    except ValidationError as exc:
        raise InvalidRequest(f"configuration, group [host]: {in_words(exc)}") from exc
    except ValueError as exc:
        raise InvalidRequest(f"configuration, group [host]: {exc}") from exc


def _cloud(path: Path, metadata: Callable[[str], str | None]) -> dict[str, Any]:
    """What the cloud knows: site, instance id, addresses (where it says them)."""
    data = _instance_data(path)
    v1, meta = _table(data, "v1"), _table(data, "ds", "meta_data")
    ec2 = _table(data, "ds", "ec2_metadata")
    found: dict[str, Any] = {}
    site = next(filter(None, (_site(v1, key) for key in ("availability_zone", "region"))), "")
    if site:
        found["site"] = site
    ident = str(v1.get("instance_id") or "")
    if INSTANCE_ID.fullmatch(ident):
        found["instance_id"] = ident
    known = ec2.get("public-ipv4") or meta.get("public-ipv4") or meta.get("public_ipv4")
    # cloud-init looks once, at boot, and a floating IP may come, go or change later.
    now = metadata(PUBLIC_ADDRESS) if ec2 else None
    for key, text in (
        ("public", known if now is None else now),
        ("local", ec2.get("local-ipv4") or meta.get("local-ipv4")),
    ):
        with contextlib.suppress(ValueError):
            found[key] = str(ipaddress.ip_address(str(text or "")))
    if "public" in found:
        found["public"] = [found["public"]]
    return found


def _instance_data(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        LOG.warning("%s cannot be read: %s", path, exc)
        return {}


def _site(v1: dict[str, Any], key: str) -> str:
    """A zone or region as a label; "" when it makes none."""
    zone = str(v1.get(key) or "").lower().replace("_", "-")
    return zone if LABEL.fullmatch(zone) else ""


def _named(path: Path) -> str:
    """The name that the cloud gave this machine, if a host may have it."""
    name = _short(str(_table(_instance_data(path), "v1").get("local_hostname") or ""))
    return name if LABEL.fullmatch(name) else ""


def _short(name: str) -> str:
    return name.split(".")[0].lower()


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


def _holder(system: System, address: str) -> tuple[str, int]:
    """Name and MTU of the interface that has an address; of a host without a default route."""
    for link in _ip(system, "addr", "show", "scope", "global"):
        for info in link.get("addr_info", []):
            if info.get("local") == address:
                return str(link["ifname"]), int(link.get("mtu", 1500))
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
