# SPDX-License-Identifier: Apache-2.0
"""A VM becomes a core: state, authority, broker, the core itself, and the first deployment."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

from cnsmo.boot import broker, volume
from cnsmo.boot.machine import Machine, say
from cnsmo.boot.parameters import CoreParameters
from cnsmo.conf import STATE_DIR
from cnsmo.conf.join import OPTS
from cnsmo.model.errors import NotFound, ProgramError, Unavailable
from cnsmo.trust import authority

UNIT = "cnsmo-core.service"
ACCOUNT = "cnsmo"
CORE_DIR = STATE_DIR / "core"
DOCUMENT = Path("/etc/cnsmo/document.yaml")
CA_DIR = CORE_DIR / "ca"
JOIN_PORT = next(option.default for option in OPTS if option.name == "port")
LOOK = 1.0
"""Seconds between two questions whether the core answers."""


def boot(given: CoreParameters, machine: Machine) -> dict[str, Any]:
    """Make this VM a core; return when it answers.

    :return: for who waits: where to join, the authority's fingerprint, tokens by group.
    :raises CnsmoError: with the reason, when it cannot be.
    """
    if given.volume:
        volume.mount(given.volume, machine)
    machine.run("systemd-sysusers", str(machine.prefix / "lib" / "sysusers.d" / "cnsmo.conf"))
    for folder in (STATE_DIR, CORE_DIR):
        machine.folder(folder, ACCOUNT)
    fingerprint = _authority(machine)
    address = given.address or own_address(machine)
    machine.configure(broker.prepare(address, machine), ACCOUNT)
    _manage(machine, "db", "upgrade")
    machine.enable(UNIT, broker.RENEWAL)
    _await_core(machine, float(given.wait))
    url = f"https://{f'[{address}]' if ':' in address else address}:{JOIN_PORT}"
    tokens = _tokens(given, machine)
    _apply(machine)
    return {"core": url, "ca": fingerprint, "tokens": tokens}


def _authority(machine: Machine) -> str:
    """The fingerprint of the authority, which is made if need be.

    By the account of the core, which keeps its key.
    """
    try:
        return authority.load(machine.path(CA_DIR)).fingerprint
    except NotFound:
        made = authority.Authority.new(datetime.datetime.now(datetime.UTC))
        made.save(machine.path(CA_DIR))
        machine.own(CA_DIR, ACCOUNT)
        return made.fingerprint


def own_address(machine: Machine) -> str:
    """The first address of the interface that the default route leads to.

    :raises Unavailable: when there is none.
    """
    for family in ("-4", "-6"):
        for route in json.loads(
            machine.run("ip", "-j", family, "route", "show", "default") or "[]"
        ):
            shown = machine.run("ip", "-j", "addr", "show", "dev", route["dev"], "scope", "global")
            for link in json.loads(shown):
                for info in link.get("addr_info", ()):
                    return str(info["local"])
    raise Unavailable("this VM has no address: say with cnsmo_address where agents reach it")


def _manage(machine: Machine, *words: str) -> str:
    """Run cnsmo-manage as the core's account."""
    program = str(machine.prefix / "bin" / "cnsmo-manage")
    return machine.run("runuser", "-u", ACCOUNT, "--", program, *words)


def _await_core(machine: Machine, patience: float) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            _manage(machine, "deployment", "list", "-f", "json")
        except ProgramError as exc:
            if time.monotonic() > until:
                raise Unavailable(
                    f"the core does not answer after {patience:.0f} s: {exc}"
                ) from exc
        else:
            return
        time.sleep(LOOK)


def _apply(machine: Machine) -> None:
    """Apply the document that came with the user-data, if one did."""
    document = machine.path(DOCUMENT)
    if document.exists():
        machine.own(DOCUMENT, ACCOUNT)
        say(f"applying {DOCUMENT}")
        _manage(machine, "apply", str(DOCUMENT))


def _tokens(given: CoreParameters, machine: Machine) -> dict[str, str]:
    """The deployment, and a token for each group."""
    if not given.deployment:
        return {}
    listed = json.loads(_manage(machine, "deployment", "list", "-f", "json"))
    if given.deployment not in {row["name"] for row in listed}:
        _manage(machine, "deployment", "create", given.deployment)
    made = {}
    for grant in given.groups.split(",") if given.groups else ():
        group, _, uses = grant.partition("=")
        words = ("-d", given.deployment, "--group", group, "--uses", uses)
        shown = ("--lifetime", f"{given.token_life}s", "-f", "value", "-c", "token")
        made[group] = _manage(machine, "token", "create", *words, *shown).strip()
        say(f"made a token for {uses} hosts of the group {group}")
    return made
