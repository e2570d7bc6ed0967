# SPDX-License-Identifier: Apache-2.0
"""cnsmo-boot: what a VM's user-data begins, carried on by the CNSMO that it has installed.

On stdout goes one JSON for who began: a reason if it failed, and data for who waits for the VM.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cnsmo.agent.system import LocalSystem
from cnsmo.boot import first
from cnsmo.boot.machine import Machine
from cnsmo.boot.parameters import ROLES, AgentParameters, CoreParameters
from cnsmo.cmd import program
from cnsmo.model.errors import CnsmoError, InvalidRequest
from cnsmo.model.wording import in_words


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="cnsmo-boot", description=__doc__)
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--farewell", action="store_true", help="leave the deployment if this machine is shut down"
    )
    other.add_argument(
        "--renew", action="store_true", help="give the broker here a new certificate"
    )
    other.add_argument(
        "--follow", action="store_true", help="apply what the Heat stack of this core declares"
    )
    asked = parser.parse_args()
    machine = Machine(LocalSystem(), Path(sys.prefix))
    # What the other roles need is not imported: on a small VM that takes seconds.
    if asked.farewell:
        from cnsmo.boot import farewell

        return program.run("cnsmo-boot", lambda: farewell.say_it(machine))
    if asked.renew:
        from cnsmo.boot import broker

        return program.run("cnsmo-boot", lambda: broker.renew(machine))
    if asked.follow:
        from cnsmo.boot import follow

        return program.run("cnsmo-boot", lambda: follow.run(machine))
    try:
        told: dict[str, Any] = {"data": _boot(Path(first.PARAMETERS), machine)}
    except (CnsmoError, OSError) as exc:
        told = {"reason": str(exc)}
    print(json.dumps(told))
    return 1 if "reason" in told else 0


def _boot(path: Path, machine: Machine) -> dict[str, Any]:
    given = parameters(path.read_text())
    if isinstance(given, CoreParameters):
        from cnsmo.boot import core, follow

        told = core.boot(given, machine)
        follow.begin(machine)
        return told
    from cnsmo.boot import agent

    return agent.boot(given, machine)


def parameters(text: str) -> AgentParameters | CoreParameters:
    """What the user-data wrote, checked anew.

    :raises InvalidRequest: naming what is wrong; no value is shown that may be secret.
    """
    given = {name: value for name, value in json.loads(text).items() if value != ""}
    kind = ROLES.get(given.get("role", ""))
    if kind is None:
        raise InvalidRequest(f"cnsmo_role is none of {', '.join(ROLES)}")
    try:
        return kind.model_validate(given)
    except ValidationError as exc:
        raise InvalidRequest(f"the parameters cnsmo_*: {in_words(exc)}") from exc


if __name__ == "__main__":
    sys.exit(main())
