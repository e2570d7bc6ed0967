# SPDX-License-Identifier: Apache-2.0
"""The lab's network namespace, and the way between it and this machine."""

from __future__ import annotations

import subprocess

from openstacklab.place import Place


def lay(place: Place) -> None:
    """Make the namespace, and a way to it: to the APIs, and to floating IPs."""
    tear(place)
    outside, inside = f"os-{place.mark}", "uplink"
    _ip("netns", "add", place.netns)
    _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", place.netns)
    _ip("addr", "add", f"{place.near}/30", "dev", outside)
    _ip("link", "set", outside, "up")
    _ip("route", "replace", place.floating, "via", place.api)
    for words in (
        ("link", "set", "lo", "up"),
        ("addr", "add", f"{place.api}/30", "dev", inside),
        ("link", "set", inside, "up"),
        ("route", "add", "default", "via", place.near),
    ):
        _ip("-n", place.netns, *words)
    _ip("netns", "exec", place.netns, "sysctl", "-qw", "net.ipv4.ip_forward=1")


def tear(place: Place) -> None:
    """Take it away; the other end of the way, and the route, go with it."""
    subprocess.run(["ip", "netns", "del", place.netns], capture_output=True, check=False)
    words = ["ip", "link", "del", f"os-{place.mark}"]
    subprocess.run(words, capture_output=True, check=False)


def there(place: Place) -> bool:
    """Whether the namespace is."""
    words = ["ip", "netns", "pids", place.netns]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
