# SPDX-License-Identifier: Apache-2.0
"""A VM becomes a core: state, authority, broker, the core itself, and the first deployment."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

import yaml

from cnsmo.boot import broker, volume
from cnsmo.boot.machine import Machine, say
from cnsmo.boot.parameters import CoreParameters
from cnsmo.conf import STATE_DIR
from cnsmo.conf.join import OPTS
from cnsmo.model.errors import ProgramError, Unavailable
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
    machine.folder(STATE_DIR, "root", 0o755)  # an agent here has its directory there, too
    machine.folder(CORE_DIR, ACCOUNT)
    fingerprint = _authority(machine)
    address = given.address or own_address(machine)
    machine.configure(broker.prepare(address, machine, float(given.wait)), ACCOUNT)
    _manage(machine, "db", "upgrade")
    machine.enable(UNIT, broker.RENEWAL)
    listed = _await_core(machine, float(given.wait))
    url = f"https://{f'[{address}]' if ':' in address else address}:{JOIN_PORT}"
    tokens = _tokens(given, machine, {str(row["name"]) for row in listed})
    _apply(machine)
    return {"core": url, "ca": fingerprint, "tokens": tokens}


def _authority(machine: Machine) -> str:
    """The fingerprint of the authority, which is made if need be, for the core's account."""
    machine.folder(CA_DIR, ACCOUNT)
    try:
        return authority.loads(machine.read(CA_DIR / authority.FILE)).fingerprint
    except FileNotFoundError:
        made = authority.Authority.new(datetime.datetime.now(datetime.UTC))
        machine.write(CA_DIR / authority.FILE, made.dumps(), ACCOUNT)
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


def _await_core(machine: Machine, patience: float) -> list[dict[str, Any]]:
    """The deployments that it tells of, once it answers."""
    until = time.monotonic() + patience
    while True:
        try:
            return list(json.loads(_manage(machine, "deployment", "list", "-f", "json")))
        except ProgramError as exc:
            if time.monotonic() > until:
                raise Unavailable(
                    f"the core does not answer after {patience:.0f} s: {exc}"
                ) from exc
        time.sleep(LOOK)


def _apply(machine: Machine) -> None:
    """Apply the document that came with the user-data, if one did that says something."""
    document = machine.path(DOCUMENT)
    if document.exists() and yaml.safe_load(machine.read(DOCUMENT)):
        machine.write(DOCUMENT, machine.read(DOCUMENT), ACCOUNT)  # which reads it
        say(f"applying {DOCUMENT}")
        _manage(machine, "apply", str(DOCUMENT))


def _tokens(given: CoreParameters, machine: Machine, there: set[str]) -> dict[str, str]:
    """The deployment, which may be there, and a token for each group."""
    if not given.deployment:
        return {}
    if given.deployment not in there:
        _manage(machine, "deployment", "create", given.deployment)
    made = {}
    for grant in given.groups.split(",") if given.groups else ():
        group, _, uses = grant.partition("=")
        words = ("-d", given.deployment, "--group", group, "--uses", uses)
        shown = ("--lifetime", f"{given.token_life}s", "-f", "value", "-c", "token")
        made[group] = _manage(machine, "token", "create", *words, *shown).strip()
        say(f"made a token for {uses} hosts of the group {group}")
    return made
