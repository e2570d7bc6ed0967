# SPDX-License-Identifier: Apache-2.0
"""Parameters that a VM may be given, in all combinations that matter."""

import itertools
from collections.abc import Iterator

from cnsmo.boot.parameters import AgentParameters, CoreParameters

DIGEST = "0123456789abcdef" * 4
WAIT_URL = (
    "http://198.51.100.1:8000/v1/waitcondition/arn%3Aopenstack%3Aheat%3A%3A"
    "0123456789abcdef0123456789abcdef%3Astacks%2Fshop%2F01234567-89ab-cdef-0123-456789abcdef%2F"
    "resources%2Fhandle?Timestamp=2026-11-23T12%3A00%3A00Z&SignatureMethod=HmacSHA256&"
    "AWSAccessKeyId=0123456789abcdef0123456789abcdef&SignatureVersion=2&"
    "Signature=c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJl%2B%2FA%3D"
)
SOURCES: list[dict[str, str]] = [
    {},
    {
        "requirements": "https://192.0.2.1/cnsmo/requirements.txt",
        "requirements_sha256": DIGEST,
        "wheelhouse": "https://192.0.2.1/cnsmo/",
    },
    {
        "requirements": "/srv/cnsmo/requirements.txt",
        "requirements_sha256": DIGEST,
        "wheelhouse": "/srv/cnsmo",
    },
    {
        "requirements": "https://192.0.2.1/requirements.txt",
        "requirements_sha256": DIGEST,
        "index": "https://packages.example.net/simple/",
    },
]
SIGNALS: list[dict[str, str]] = [
    {},
    {"signal": WAIT_URL},
    {
        "signal": "https://heat.example.net:8004/v1/p/stacks/s/i/resources/wait/signal",
        "signal_token": "gAAAAAB" + "x" * 250 + "==",
    },
]
JOIN = {"core": "https://198.51.100.10:8743", "ca": DIGEST, "token": "t-3271be39b0fd.DzqSk1lEKHH"}
AGENTS: list[dict[str, str]] = [
    {},
    {"services": "vpn"},
    {"services": "vpn/openvpn,firewall,loadbalancer/vip", "name": "web1", "leave": "shutdown"},
    {"site": "east", "public": "203.0.113.5,2001:db8::5", "nat": "true", "wait": "600"},
    {"core": "https://[2001:db8::1]:8743"},
]
CORES: list[dict[str, str]] = [
    {},
    {"deployment": "shop", "groups": "web=2,edge=1", "token_life": "7200"},
    {"address": "core.example.net", "volume": "01234567-89ab-cdef-0123-456789abcdef"},
    {"address": "2001:db8::1", "volume": "/dev/vdb"},
]


def every() -> Iterator[AgentParameters | CoreParameters]:
    """All combinations."""
    for source, signal, agent in itertools.product(SOURCES, SIGNALS, AGENTS):
        yield AgentParameters(**{**JOIN, **source, **signal, **agent})
    for source, signal, core in itertools.product(SOURCES, SIGNALS, CORES):
        yield CoreParameters(**{**source, **signal, **core})


def metadata(values: dict[str, str]) -> dict[str, str]:
    """As Heat gives them to Nova: each of 255 characters at most, none that is empty."""
    made = {}
    for name, value in values.items():
        parts = [value[begin : begin + 255] for begin in range(0, len(value), 255)]
        for number, part in enumerate(parts):
            made[f"cnsmo_{name}" + (f"_{number}" if number else "")] = part
    return made
