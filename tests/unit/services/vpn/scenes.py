# SPDX-License-Identifier: Apache-2.0
"""Deployments to compile: by hand, and by chance."""

import base64
import datetime
import hashlib
import ipaddress
from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from cnsmo.model.host import HostFacts
from cnsmo.model.resource import AGENT, CORE, HOST, OPERATOR, Row, View, joined, member_kind
from cnsmo.services.vpn.service import VpnService

NOW = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
VPN = VpnService()


def row(kind: str, name: str, body: dict[str, Any], owner: str = CORE, **more: Any) -> Row:
    return Row(
        kind=kind, name=name, owner=owner, body=body, **{"revision": 1, "updated_at": NOW, **more}
    )


def host(name: str, *groups: str, **facts: Any) -> Row:
    body = HostFacts(**facts).model_dump(mode="json")
    return row(HOST, name, {"id": f"h-{name}", "groups": list(groups), **body})


def instance(name: str = "backbone", **spec: Any) -> Row:
    spec = {"cidr": "10.66.0.0/16", "driver": "noop", **spec}
    return row("vpn", name, VPN.Spec.model_validate(spec).model_dump(mode="json"), OPERATOR)


def member(name: str, *addresses: str, vpn: str = "backbone", **body: Any) -> Row:
    body = {"addresses": list(addresses), "driver": "noop", **body}
    return row(member_kind("vpn"), joined(vpn, name), body, f"h-{name}")


def state(name: str, value: str) -> Row:
    return row(AGENT, joined(name, "vpn"), {"state": value, "reason": ""}, f"h-{name}")


def view(rows: Iterable[Row]) -> View:
    return View("shop", 1, rows, now=NOW)


def keys_of(name: str, driver: str) -> dict[str, str]:
    """What the members of a VPN with that driver know a host by."""
    made = hashlib.sha256(name.encode())
    if driver == "wireguard":
        return {"public_key": base64.b64encode(made.digest()).decode()}
    return {"fingerprint": made.digest().hex(":").upper()} if driver == "openvpn" else {}


def admitted(rows: list[Row], vpn: str = "backbone") -> list[Row]:
    """The rows, with the member rows that the core makes of all hosts' announcements."""
    rows = list(rows)
    for name, known in view(rows).hosts.items():
        spec = VPN.Spec.model_validate(view(rows).get("vpn", vpn).body)
        if VPN.concerns(vpn, spec, known):
            offer = VPN.Announcement(driver=spec.driver, **keys_of(name, spec.driver))
            rows.append(
                row(member_kind("vpn"), joined(vpn, name), VPN.admit(view(rows), vpn, name, offer))
            )
    return rows


NETWORKS = ["192.168.1.0/24", "192.168.2.0/24", "172.16.0.0/20", "2001:db8:1::/64"]
GROUPS = ["web", "db", "edge"]


@st.composite
def deployments(draw: st.DrawFn) -> list[Row]:
    """Up to seven hosts in up to three sites, with one VPN of any shape, all admitted."""
    rows = []
    names = [f"n{number}" for number in range(draw(st.integers(1, 7)))]
    for number, name in enumerate(names):
        near = draw(st.lists(st.sampled_from(NETWORKS), max_size=2, unique=True))
        nets = [ipaddress.ip_network(text) for text in near]
        public = draw(st.sampled_from([[], ["203.0.113.{}"], ["203.0.113.{}", "2001:db8::{}"]]))
        rows.append(
            host(
                name,
                *draw(st.lists(st.sampled_from(GROUPS), unique=True)),
                site=draw(st.sampled_from(["east", "west", "north"])),
                private=[f"{net[number + 10]}/{net.prefixlen}" for net in nets],
                public=[text.format(number + 1) for text in public],
                behind_nat=draw(st.booleans()),
            )
        )
        if draw(st.booleans()):
            rows.append(state(name, draw(st.sampled_from(["ready", "down"]))))
    spec: dict[str, Any] = {
        "cidr": draw(st.sampled_from(["10.66.0.0/16", "fd66::/64", ["10.66.0.0/16", "fd66::/64"]])),
        "members": draw(st.sampled_from([["all"], ["web"], ["web", "db"]])),
        "routes": [
            {"subnet": f"10.{200 + number}.0.0/16", "via": via}
            for number, via in enumerate(draw(st.lists(st.sampled_from(names), max_size=2)))
        ],
    }
    match draw(st.sampled_from(["mesh", "relay", "hub"])):
        case "hub":
            spec |= {"topology": "hub", "hub": "edge"}
        case "relay":
            spec |= {"relay": "edge"}
    return admitted([*rows, instance(**spec)])
