# SPDX-License-Identifier: Apache-2.0
"""A core's unit follows what a stack declares, with no more rights than the core has."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.beds import heat_service
from tests.beds.cloud import GATEWAY
from tests.beds.nspawn import Cloud
from tests.beds.process import ServerProcess
from tests.booting import Core
from tests.eventually import eventually

BEGIN = """
import pathlib, sys
from cnsmo.agent.system import LocalSystem
from cnsmo.boot import follow
from cnsmo.boot.machine import Machine
follow.begin(Machine(LocalSystem(), pathlib.Path(sys.prefix)))
"""
VPN = {"deployment": "shop", "vpn": {"backbone": {"cidr": "10.66.0.0/16"}}}


class Stack:
    """What a stack declares, and what it was answered."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.declares()
        (place / "answers").touch()

    def declares(self, **documents: Any) -> None:
        """Documents, by their ids."""
        reply = heat_service.seat(GATEWAY, "deployment")
        inputs = [{"name": f"deploy_{name}", "value": it} for name, it in reply.items()]
        told = [
            {"id": ident, "group": "cnsmo", "config": json.dumps(document), "inputs": inputs}
            for ident, document in documents.items()
        ]
        draft = self._place / "draft"
        draft.write_text(json.dumps({"deployments": told}))
        draft.replace(self._place / "metadata.json")

    def answer(self, number: int) -> dict[str, Any]:
        """What was answered so many answers after the first, once it was."""
        lines = eventually(
            lambda: (found := self.answers())[number:] and found, 120, "it is answered"
        )
        assert lines[number]["path"].endswith("/resources/deployment/signal")
        return dict(lines[number]["body"])

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self._place / "answers").read_text().splitlines()]


@pytest.fixture
def stack(cloud: Cloud, core: Core, tmp_path: Path) -> Iterator[Stack]:
    """One that the core follows."""
    made = Stack(tmp_path)
    words = (sys.executable, heat_service.__file__, GATEWAY, str(tmp_path))
    process = ServerProcess(cloud.inside(*words), log=tmp_path / "heat.log", env=os.environ)
    core.machine.write("/etc/cnsmo/follow.json", json.dumps(heat_service.seat(GATEWAY)))
    core.machine.run("/opt/cnsmo/bin/python", "-c", BEGIN)
    yield made
    core.machine.run("systemctl", "disable", "--now", "cnsmo-follow.service")
    process.stop(signal.SIGTERM, 10)


def declared(core: Core) -> set[str]:
    return {row["service"] for row in core.rows("service", "list")}


def test_what_a_stack_declares_is_in_the_system_state(core: Core, stack: Stack) -> None:
    stack.declares(first=VPN)
    assert stack.answer(0)["deploy_status_code"] == 0
    assert declared(core) == {"vpn"}
    stack.declares(second={**VPN, "firewall": {"perimeter": {"inbound": [{"from": "nowhere!"}]}}})
    assert "firewall.perimeter.inbound" in stack.answer(1)["refused"]
    assert declared(core) == {"vpn"}, "what was refused changes nothing"
    stack.declares(third={"deployment": "shop"})
    assert stack.answer(2)["deploy_status_code"] == 0
    assert declared(core) == set()
    core.machine.run("systemctl", "restart", "cnsmo-follow.service")
    stack.declares(third={"deployment": "shop"}, fourth=VPN)
    assert stack.answer(3)["deploy_status_code"] == 0
    assert len(stack.answers()) == 4, "what was answered is not answered again"
    owner = core.machine.run("stat", "-c", "%a %U", "/var/lib/cnsmo/core/follow.json")
    assert owner == "600 cnsmo\n"
    assert "password-of-u1" not in core.machine.run("journalctl", "-u", "cnsmo-follow.service")
