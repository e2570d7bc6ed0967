# SPDX-License-Identifier: Apache-2.0
"""What an operator may write for a VPN. What is wrong in it: see unit/model/wrong_documents.py."""

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from cnsmo.services.vpn.spec import Topology, VpnAnnouncement, VpnMember, VpnSpec, check_key

KEY = base64.b64encode(bytes(range(32))).decode()
PRINT = ":".join(["AB"] * 32)


def spec(**given: Any) -> VpnSpec:
    return VpnSpec.model_validate({"cidr": "10.66.0.0/16", **given})


def test_a_network_is_all_that_is_needed() -> None:
    made = spec()
    assert made.cidr == ("10.66.0.0/16",)
    assert made.topology is Topology.MESH
    assert made.members == ("all",)
    assert (made.listen_port, made.keepalive, made.mtu, made.driver) == (
        51820,
        25,
        None,
        "wireguard",
    )


def test_one_of_a_kind_needs_no_list() -> None:
    assert spec(members="web").members == ("web",)
    assert spec(cidr="fd66::/64").cidr == ("fd66::/64",)


def test_a_spec_survives_the_way_through_the_database() -> None:
    made = spec(
        cidr=["10.66.0.0/16", "fd66::/64"],
        topology="hub",
        hub="edge",
        routes=[{"subnet": "10.9.0.0/16", "via": "web1"}],
        driver_options={"proto": "tcp", "port": 443, "fast": True},
    )
    body = made.model_dump(mode="json")
    again = VpnSpec.model_validate(body)
    assert again == made
    assert again.driver_options == {"proto": "tcp", "port": 443, "fast": True}
    assert again.driver_options["fast"] is True


def test_the_schema_describes_every_key() -> None:
    schema = VpnSpec.model_json_schema()
    assert all("description" in key for key in schema["properties"].values())
    assert schema["required"] == ["cidr"]
    assert schema["additionalProperties"] is False


def test_nested_subnets_may_lead_to_different_gateways() -> None:
    routes = [{"subnet": "10.9.0.0/16", "via": "a"}, {"subnet": "10.9.7.0/24", "via": "b"}]
    assert len(spec(routes=routes).routes) == 2


def test_a_wireguard_key_is_32_bytes_in_base64() -> None:
    assert check_key(KEY) == KEY


@pytest.mark.parametrize(
    "text",
    ["", "key", KEY[:-1], KEY + "=", KEY[:-2] + "9=", KEY[:-5], KEY + "\n", " " + KEY, "ä" * 44],
)
def test_nothing_else_is_a_key(text: str) -> None:
    with pytest.raises(ValueError, match="not a WireGuard key"):
        check_key(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"driver": "x y"},
        {"driver": "wireguard", "public_key": "zz"},
        {"driver": "openvpn", "fingerprint": "AA:BB"},
        {"driver": "openvpn", "fingerprint": ":".join(["aa"] * 32)},
        {"driver": "wireguard", "private_key": KEY},
        {"driver": "wireguard", "addresses": ["10.66.0.1"]},
        {"driver": "wireguard", "public_key": KEY, "next_public_key": KEY},
        {"driver": "openvpn", "fingerprint": PRINT, "next_fingerprint": PRINT},
    ],
)
def test_a_host_cannot_announce_just_anything(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VpnAnnouncement.model_validate(wrong)


def test_public_halves_can_be_announced() -> None:
    made = VpnAnnouncement(driver="openvpn", public_key=KEY, fingerprint=PRINT)
    assert made.public_key == KEY


def test_a_row_from_before_that_nobody_could_announce_now_is_read_all_the_same() -> None:
    said = {"driver": "wireguard", "public_key": KEY, "next_public_key": KEY}
    assert VpnMember(addresses=("10.66.0.1",), **said).next_public_key == KEY
