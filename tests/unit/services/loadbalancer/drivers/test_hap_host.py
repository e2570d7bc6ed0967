# SPDX-License-Identifier: Apache-2.0
"""What is looked up on the host: free ports, and as whom HAProxy can run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from cnsmo.model.errors import DriverError, DriverUnavailable
from cnsmo.services.base import Completed
from cnsmo.services.loadbalancer.drivers.hap_account import account
from cnsmo.services.loadbalancer.drivers.hap_ports import require_free
from cnsmo.services.loadbalancer.drivers.haproxy import HaproxyDriver

LISTENING = """\
LISTEN 0 511 0.0.0.0:80 0.0.0.0:* users:(("nginx",pid=12,fd=6),("nginx",pid=11,fd=6))
LISTEN 0 511 10.0.0.5%eth0:443 0.0.0.0:* users:(("haproxy",pid=21,fd=6),("haproxy",pid=20,fd=6))
LISTEN 0 511 *:8080 *:* users:(("java",pid=31,fd=9))
LISTEN 0 511 [fd00::5]:8443 [::]:*
"""


class Told:
    """A System that says what it was told to."""

    ways = ()

    def __init__(self, answers: Mapping[str, tuple[int, str]]) -> None:
        self._answers = answers

    def has(self, program: str) -> bool:
        """Whether it was told what that program says."""
        return any(known.split()[0] == program for known in self._answers)

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        timeout: float = 10.0,
        ok: Sequence[int] = (0,),
    ) -> Completed:
        code, said = self._answers[" ".join(args[:2])]
        return Completed(args, code, said, "")


@pytest.mark.parametrize(
    ("sockets", "said"),
    [
        ([("0.0.0.0", "80")], r"port 80 is taken by nginx \(process 12\), .* at 0.0.0.0:80"),
        ([("10.0.0.9", "80")], "port 80 is taken by nginx"),
        ([("10.0.0.9", "8080"), ("[::]", "8080")], "port 8080 is taken by java"),
        ([("[::]", "8443")], "port 8443 is taken by another program"),
        ([("[::]", "80")], ""),
        ([("[fd00::6]", "8443"), ("0.0.0.0", "8443")], ""),
        ([("10.0.0.5", "443")], ""),
        ([("0.0.0.0", "443")], ""),
        ([("0.0.0.0", "81")], ""),
        ([], ""),
    ],
)
def test_a_place_that_is_taken_is_named(sockets: list[tuple[str, str]], said: str) -> None:
    system = Told({"ss -Hltnp": (0, LISTENING)})
    if not said:
        require_free(system, sockets, frozenset({20, 21}))  # type: ignore[arg-type]
        return
    with pytest.raises(DriverError, match=said):
        require_free(system, sockets, frozenset({20, 21}))  # type: ignore[arg-type]


def test_what_is_ours_only_in_part_is_taken() -> None:
    system = Told({"ss -Hltnp": (0, LISTENING)})
    with pytest.raises(DriverError, match="haproxy"):
        require_free(system, [("0.0.0.0", "443")], frozenset({20}))  # type: ignore[arg-type]


ROOT, LONELY = "         0          0 4294967295\n", "         0       1000          1\n"


@pytest.mark.parametrize(
    ("users", "groups", "found"),
    [
        (ROOT, ROOT, ("haproxy", "haproxy")),
        (LONELY, LONELY, ("", "")),
        (ROOT, LONELY, ("", "")),
        ("0 1000 1\n1 100000 65536\n", ROOT, ("haproxy", "haproxy")),
    ],
)
def test_as_whom_it_runs(users: str, groups: str, found: tuple[str, str]) -> None:
    answers = {"id -u": (0, "106\n"), "id -g": (0, "109\n")}
    maps = {"cat /proc/self/uid_map": (0, users), "cat /proc/self/gid_map": (0, groups)}
    assert account(Told({**answers, **maps})) == found  # type: ignore[arg-type]


def test_without_such_a_user_the_package_is_named() -> None:
    with pytest.raises(DriverUnavailable, match="install the package haproxy"):
        account(Told({"id -u": (1, "")}))  # type: ignore[arg-type]


PROGRAMS = {"haproxy -v": (0, "HAProxy version 2.6.12-1 2023/12/16"), "ss": (0, ""),
            "pgrep": (0, ""), "id -u": (0, "0"), "id -g": (0, "0"),
            "cat /proc/self/uid_map": (0, ROOT), "cat /proc/self/gid_map": (0, ROOT)}  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"haproxy -v": None}, "haproxy is missing: install the package haproxy"),
        ({"ss": None}, "ss is missing: install the package iproute2"),
        ({"pgrep": None}, "pgrep is missing: install the package procps"),
        ({"haproxy -v": (0, "HA-Proxy version 2.2.9-2")}, "HA-Proxy version 2.2 is too old"),
        ({"haproxy -v": (0, "nginx")}, "haproxy is too old: install the package haproxy in"),
        ({"haproxy -v": (0, "HAProxy version 3.0.1")}, ""),
        ({}, ""),
    ],
)
def test_what_is_missing_or_too_old_is_named(
    tmp_path: Path, answers: dict[str, tuple[int, str] | None], said: str
) -> None:
    told = {name: it for name, it in {**PROGRAMS, **answers}.items() if it is not None}
    driver = HaproxyDriver(Told(told), "www", "shop/edge1/www", tmp_path)  # type: ignore[arg-type]
    if not said:
        driver.check()
        return
    with pytest.raises(DriverUnavailable) as caught:
        driver.check()
    assert str(caught.value).startswith(said)
