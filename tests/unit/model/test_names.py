# SPDX-License-Identifier: Apache-2.0
"""Names and addresses, where they enter."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cnsmo.model import names

NETWORK = TypeAdapter(names.Network)
INTERFACE = TypeAdapter(names.Interface)
ADDRESS = TypeAdapter(names.Address)
GRANTED = TypeAdapter(names.GrantedGroup)


@pytest.mark.parametrize("name", ["a", "7", "web-1", "a" * 63, "0-0"])
def test_dns_labels_are_names(name: str) -> None:
    assert names.check_label(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "a-",
        "A",
        "a_b",
        "a.b",
        "a b",
        "a\n",
        "a" * 64,
        "\u00e4",
        "\u0430",
        "a/b",
        "..",
        "\u0661",
    ],
)
def test_nothing_else_is_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name: use 1 to 63") as caught:
        names.check_label(name)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()


@given(text=st.text(st.characters()))
def test_whatever_is_a_name_is_safe_to_print_and_to_render(text: str) -> None:
    try:
        names.check_label(text)
    except ValueError:
        return
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_no_token_grants_all() -> None:
    with pytest.raises(ValidationError, match="'all' is every host"):
        GRANTED.validate_python("all")
    assert GRANTED.validate_python("web") == "web"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.66.0.0/16", "10.66.0.0/16"),
        ("10.66.0.0/255.255.0.0", "10.66.0.0/16"),
        ("FD66:0::/64", "fd66::/64"),
        ("10.1.2.3/32", "10.1.2.3/32"),
    ],
)
def test_networks_are_kept_in_one_form(text: str, canonical: str) -> None:
    assert NETWORK.validate_python(text) == canonical


@pytest.mark.parametrize("kind", [NETWORK, INTERFACE, ADDRESS], ids=["network", "interface", "one"])
@pytest.mark.parametrize(
    "value",
    [7, None, "", "ten", "10.0.0.256", "fe80::1%eth0", "10.0.0.1 ", "1\u0660.0.0.1", "1.2.3"],
)
def test_what_is_no_address_is_refused_in_one_printable_line(
    kind: TypeAdapter[str], value: object
) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.validate_python(value)
    assert caught.value.errors()[0]["msg"].isprintable()


def test_interfaces_and_addresses_are_kept_in_one_form() -> None:
    assert INTERFACE.validate_python("FD66::0001/64") == "fd66::1/64"
    assert INTERFACE.validate_python("10.1.0.5") == "10.1.0.5/32"
    assert ADDRESS.validate_python("2001:DB8::1") == "2001:db8::1"


@given(network=st.ip_addresses(v=4), prefix=st.integers(0, 32))
def test_a_network_with_host_bits_gets_the_right_proposal(
    network: ipaddress.IPv4Address, prefix: int
) -> None:
    text = f"{network}/{prefix}"
    right = str(ipaddress.ip_network(text, strict=False))
    if text == right:
        assert names.check_network(text) == right
        return
    with pytest.raises(ValueError) as caught:
        names.check_network(text)
    assert str(caught.value) == f"{text} has host bits set: did you mean {right}?"
