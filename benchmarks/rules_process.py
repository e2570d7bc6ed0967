# SPDX-License-Identifier: Apache-2.0
"""One host whose firewall is replaced time and again, in a VM. ``DIRECTORY``; see rules."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any, cast

import cnsmo.cmd  # noqa: F401  chooses the threading backend
from benchmarks import rows
from benchmarks.child import serve
from benchmarks.timed import TimedSystem
from cnsmo.model.resource import Row, View
from cnsmo.services import registry
from cnsmo.services.firewall.desired import FirewallDesired
from cnsmo.services.firewall.drivers.nft_render import Renderer, Ways
from cnsmo.services.firewall.drivers.nftables import NftablesDriver
from cnsmo.services.firewall.service import UNIT

LABEL = "bench/host/host"
NFT_SECONDS = 60.0
FIRST_PORT, PORTS = 1024, 60_000


class Rules:
    """The host. One driver lives through all policies, as in an agent."""

    def __init__(self, directory: Path) -> None:
        self._system = TimedSystem()
        self._service = registry.service("firewall")
        self._driver = NftablesDriver(self._system, UNIT, LABEL, directory / "driver")
        self._file = directory / "equivalent.nft"
        self._row: Row

    def answer(self, question: dict[str, Any]) -> Any:
        """``declare``: the next policy's number, of ``rules`` rules; ``do``: bring it in force.

        :return: seconds that it took, by step.
        """
        match question:
            case {"declare": number, "rules": count}:
                self._declare(number, count)
            case {"do": "apply"}:
                return self._apply()
            case {"do": "bare"}:
                return self._timed("nft", "-f", str(self._file))
            case {"iptables": count}:
                return self._iptables(count)
            case {"remove": _}:
                self._driver.remove()
        return None

    def _declare(self, number: int, count: int) -> None:
        inbound = [
            {"from": network, "protocol": "tcp", "ports": port}
            for network, port in _rules(number, count)
        ]
        self._row = rows.policy({"inbound": inbound}, number)
        self._file.write_text(Renderer(LABEL).render(self._compiled(), Ways()).text)

    def _compiled(self) -> FirewallDesired:
        row = self._row.model_copy()  # nothing that was read from it before
        view = View(rows.DEPLOYMENT, row.revision, [rows.host(0, 1), row])
        return cast("FirewallDesired", self._service.compile(view, rows.host_name(0))[UNIT])

    def _apply(self) -> dict[str, float]:
        """All that an agent does, from the row on; in the end the change is let stay."""
        begun = time.monotonic()
        desired = self._compiled()
        compiled = time.monotonic()
        self._driver.check()
        self._driver.apply(desired)
        done = time.monotonic()
        loaded = self._system.loaded_at()
        found = self._driver.observe(desired)
        observed = time.monotonic()
        self._driver.confirm()
        if found.drift or len(found.detail["rules"]) < len(desired.parts):
            raise RuntimeError(f"not in force: {found.drift}")
        return {
            "compile": compiled - begun,
            "kernel": loaded - compiled,
            "apply": done - compiled,
            "observe": observed - done,
        }

    def _iptables(self, count: int) -> list[float]:
        """Of each of so many rules, one after the other, what it took; none is left."""
        took = [
            self._timed(
                "iptables", "-A", "INPUT", "-s", network,
                "-p", "tcp", "--dport", str(port), "-j", "ACCEPT",
            )
            for network, port in _rules(0, count)
        ]  # fmt: skip
        self._system.run("iptables", "-F", "INPUT")
        tenth = max(count // 10, 1)
        return [sum(took), statistics.median(took[:tenth]), statistics.median(took[-tenth:])]

    def _timed(self, *args: str) -> float:
        begun = time.monotonic()
        self._system.run(*args, timeout=NFT_SECONDS)
        return time.monotonic() - begun


def _rules(number: int, count: int) -> list[tuple[str, int]]:
    """Network and port of each rule; no rule of one policy is in the next."""
    return [
        (f"10.{rule >> 8}.{rule & 255}.0/24", FIRST_PORT + (rule + number) % PORTS)
        for rule in range(count)
    ]


def main() -> None:
    """Entry point of the helper process."""
    serve(Rules(Path(sys.argv[1])).answer)


if __name__ == "__main__":
    main()
