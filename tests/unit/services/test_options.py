# SPDX-License-Identifier: Apache-2.0
"""Options of drivers: one wording at plan and on the host."""

from typing import Any

import pytest

from cnsmo.model.errors import DriverError
from cnsmo.services.options import NoOptions, option_problems, read_options
from cnsmo.services.vpn.drivers.openvpn_options import OpenvpnOptions
from cnsmo.services.vpn.drivers.wg_interface import WireguardOptions


@pytest.mark.parametrize("value", ["", "Kernel", 1, None, "kernel\n"])
def test_what_is_no_value_is_refused_at_both_places(value: Any) -> None:
    given = {"implementation": value}
    with pytest.raises(DriverError, match=r"options of wireguard: implementation: .*'auto'"):
        read_options(WireguardOptions, "wireguard", given)
    (problem,) = option_problems(WireguardOptions, "wireguard", given, "vpn.backbone")
    assert problem.path == "vpn.backbone.driver_options.implementation"
    assert "\n" not in problem.message


def test_an_unknown_key_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(DriverError, match="implementaton: unknown key; it knows: implementation"):
        read_options(WireguardOptions, "wireguard", {"implementaton": "kernel"})
    (problem,) = option_problems(NoOptions, "noop", {"colour": 1}, "vpn.backbone")
    assert problem.message == "unknown key"
    assert problem.remedy == "driver_options of noop: none"


def test_nothing_given_means_the_defaults() -> None:
    assert read_options(WireguardOptions, "wireguard", {}).implementation == "auto"
    assert read_options(OpenvpnOptions, "openvpn", {}) == OpenvpnOptions()
    assert option_problems(NoOptions, "noop", {}, "vpn.backbone") == []
