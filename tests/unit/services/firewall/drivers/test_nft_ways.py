# SPDX-License-Identifier: Apache-2.0
"""How the agent finds the way that stays open for it."""

import socket

import pytest

from cnsmo.services.base import Completed
from cnsmo.services.firewall.drivers import nft_ways
from cnsmo.services.firewall.drivers.nft_ways import CoreWays, nameservers

RESOLV = """# made by somebody
nameserver 127.0.0.53
nameserver 192.0.2.53
nameserver fe80::1%eth0
nameserver nonsense
search example
"""


class Host:
    """A system that calls these."""

    def __init__(self, *ways):
        self.ways = ways

    def run(self, *args, **_options):
        return Completed(args, 0, RESOLV, "")


def answers(*addresses):
    return lambda *_args, **_options: [(0, 0, 0, "", (address, 0)) for address in addresses]


def fails(*_args, **_options):
    raise socket.gaierror(-3, "Temporary failure in name resolution")


def test_addresses_need_no_nameserver(tmp_path):
    found = CoreWays(Host(("192.0.2.1", 5671), ("[2001:db8::1]", 5671)), tmp_path).find()
    assert found.core == {4: (("192.0.2.1", 5671),), 6: (("2001:db8::1", 5671),)}
    assert found.nameservers is None


def test_a_name_that_cannot_be_resolved_means_what_it_meant_last(tmp_path, monkeypatch):
    host = Host(("core.example", 5671))
    monkeypatch.setattr(nft_ways.socket, "getaddrinfo", answers("192.0.2.7", "2001:db8::7"))
    first = CoreWays(host, tmp_path).find()
    assert first.core == {4: (("192.0.2.7", 5671),), 6: (("2001:db8::7", 5671),)}
    assert first.nameservers == {4: ("192.0.2.53",), 6: ("fe80::1",)}
    monkeypatch.setattr(nft_ways.socket, "getaddrinfo", fails)
    assert CoreWays(host, tmp_path).find() == first
    (tmp_path / "ways.json").write_text("{torn")
    assert CoreWays(host, tmp_path).find().core == {4: (), 6: ()}


def test_who_has_no_core_to_call_opens_nothing(tmp_path):
    assert CoreWays(Host(), tmp_path).find().core == {4: (), 6: ()}


@pytest.mark.parametrize("line", ["", "nameserver", "nameserver ::1", "options ndots:1"])
def test_lines_that_name_nobody(line):
    assert nameservers([line]) == {4: (), 6: ()}
