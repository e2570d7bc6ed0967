# SPDX-License-Identifier: Apache-2.0
"""A person at the commands, and hosts that do what they are told."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

from cnsmo.bus.clients import CoreClient
from cnsmo.core.context import Core
from cnsmo.core.membership import Membership
from cnsmo.manage.app import run
from cnsmo.model.host import HostFacts
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import AgentReport, Announcement
from tests.joining import join_request

DOCUMENT = "deployment: lab\nvpn:\n  backbone: {cidr: 10.66.0.0/16, driver: noop}\n"


@dataclasses.dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Person:
    """Runs commands as a person would, somewhere with a home directory of its own."""

    def __init__(self, cwd: Path, embed: bool = False) -> None:
        self.cwd = cwd
        self.env: dict[str, str] = {}
        self.embed = embed

    def run(self, line: str, *more: str, stdin: str = "") -> Said:
        out, err = io.StringIO(), io.StringIO()
        code = run(
            [*line.split(), *more],
            io.StringIO(stdin),
            out,
            err,
            env=self.env,
            cwd=self.cwd,
            embed=self.embed,
        )
        return Said(code, out.getvalue(), err.getvalue())

    def does(self, line: str, *more: str, stdin: str = "") -> Said:
        """A command that succeeds."""
        said = self.run(line, *more, stdin=stdin)
        assert said.code == 0, said
        return said

    def fails(self, code: int, line: str, *more: str, stdin: str = "") -> str:
        """A command that fails with that exit code; what it said on stderr."""
        said = self.run(line, *more, stdin=stdin)
        assert said.code == code, said
        assert "Traceback" not in said.err
        assert said.err.endswith("\n")
        return said.err

    def writes(self, text: str, name: str = "lab.yaml") -> str:
        (self.cwd / name).write_text(text)
        return name


class Puppet:
    """A host that joins, and then says what a test wants it to say."""

    def __init__(self, core: Core, name: str, token: str, *services: str, **facts: Any) -> None:
        """services: VPN and these."""
        self.client = CoreClient(core.conf, 10)
        request = join_request(token, name, services=["vpn", *services], facts=HostFacts(**facts))
        answer = Membership(core).join(request)
        self.client.identify(answer.id, answer.secret)
        self.revision = 0

    def announces(self, instance: str = "backbone") -> None:
        body = {"driver": "noop"}
        self.revision = self.client.announce(
            Announcement(service="vpn", instance=instance, body=body)
        )

    def reports(
        self,
        state: State = State.READY,
        reason: str = "",
        revision: int = 0,
        service: str = "vpn",
        **units: Any,
    ):
        self.client.report(
            AgentReport(
                service=service,
                state=state,
                reason=reason,
                applied_revision=revision or self.client.sync(0).head,
                observation=units or None,
            )
        )
