# SPDX-License-Identifier: Apache-2.0
"""Our table as the kernel has it: loaded, changed, read back and brought to a form to compare."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from oslo_log import log

from cnsmo.model.errors import DriverError, ProgramError
from cnsmo.services.base import System
from cnsmo.services.firewall.drivers import guard
from cnsmo.services.firewall.drivers.guard import BASES, SLOTS, TABLE
from cnsmo.services.kit.nft_values import span

LOG = log.getLogger(__name__)
_REFERENCE = re.compile(r'("(?:target": "|@)[^"]*)\.[ab]"')
"""In JSON: where a chain or a set is named by its slot."""
_CHAIN = re.compile(r"(?m)^\tchain (\S+) \{")
SECONDS = 30.0
"""10,000 rules take a quarter of a second; a machine may be a hundred times busier."""


@dataclasses.dataclass(frozen=True)
class Counted:
    """A rule with a name, and what its counter says. Several may have one name."""

    chain: str
    name: str
    packets: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Table:
    """What is in force, names without the ends that stages give them.

    ``objects``: chains and sets by name, rules in their order, each with a digest. ``slot``: the
    end of the names. ``swept``: nothing of another slot is there.
    """

    objects: tuple[tuple[str, str, str, str], ...]
    counted: tuple[Counted, ...]
    sets: Mapping[str, tuple[str, ...]]
    slot: str = SLOTS[0]
    swept: bool = True


def read_table(system: System) -> Table | None:
    """Our table; None when there is none.

    :raises ProgramError: when nft(8) cannot be run.
    """
    done = system.run("nft", "-j", "list", "table", *TABLE.split(), ok=(0, 1), timeout=SECONDS)
    return parse(json.loads(done.stdout)["nftables"]) if done.code == 0 else None


def check_text(system: System, text: str) -> None:
    """Ask the kernel whether it would take a ruleset.

    :raises ProgramError: with what nft(8) says of it.
    """
    system.run("nft", "-c", "-f", "-", stdin=text, timeout=SECONDS)


def load_text(system: System, text: str) -> None:
    """Carry out commands, all or none.

    :raises ProgramError: when one is refused.
    """
    system.run("nft", "-f", "-", stdin=text, timeout=SECONDS)


def stage(system: System, text: str, used: str | None = None) -> tuple[str, str]:
    """Load a ruleset beside the one in force. What is refused leaves nothing behind.

    used: the slot that is thought to be in force; None: nobody knows.

    :return: what bring_in() needs.
    :raises ProgramError: when it is refused.
    """
    nft = _nft(system)
    try:
        return (used and _staged_beside(nft, text, used)) or guard.stage(nft, text)
    except ProgramError:
        sweep(system)
        raise


def _staged_beside(nft: guard.Nft, text: str, used: str) -> tuple[str, str] | None:
    """The same without a look at what is there; None where that is something else than thought.

    A chain that is there already, in force or left over, is refused, and all with it.
    """
    free = guard.free_slot(used)
    staged, switch = guard.parts(text)
    created = [f"create chain {TABLE} {name}\n" for name in _CHAIN.findall(staged)]
    commands = f"add table {TABLE}\n{''.join(created)}{staged}"
    try:
        nft("-f", "-", stdin=guard.in_slot(commands, free))
    except ProgramError as exc:
        LOG.info("a ruleset cannot be staged without a look: %s", exc)
        return None
    return free, guard.in_slot(switch, free)


def bring_in(system: System, switch: str) -> None:
    """Bring in force what was staged. What was in force until then is swept later.

    :raises ProgramError: when it is refused; what was in force still is.
    """
    load_text(system, switch)


def replace(system: System, text: str) -> str:
    """Bring a whole ruleset in force; where its parts are refused, in one transaction.

    :return: the slot that it is in.
    :raises ProgramError: when that is refused, too.
    """
    try:
        slot, switch = stage(system, text)
        bring_in(system, switch)
        sweep(system, slot)
    except (ProgramError, ValueError) as exc:
        LOG.info("a ruleset cannot be staged, it is loaded at once: %s", exc)
        load_text(system, text)
        return SLOTS[0]
    return slot


def sweep(system: System, slot: str | None = None) -> None:
    """Delete what does not belong to a slot, or to that in force; where it fails, say so."""
    nft = _nft(system)
    try:
        guard.sweep(nft, slot or guard.slot_in_force(nft))
    except ProgramError as exc:
        LOG.warning("what is not in force any more cannot be deleted: %s", exc)


def _nft(system: System) -> guard.Nft:
    def run(*args: str, stdin: str | None = None) -> str:
        return system.run("nft", *args, stdin=stdin, timeout=SECONDS).stdout

    return run


def delete_table(system: System) -> None:
    """Take our table away; fine when it is gone already."""
    load_text(system, f"add table {TABLE}\ndelete table {TABLE}\n")


def parse(entries: Iterable[Mapping[str, Any]]) -> Table:
    """What ``nft -j list table`` says. Handles, counters and elements are no part of a digest."""
    entries = [entry for entry in entries if "metainfo" not in entry]
    slot = _slot(entries)
    objects: list[tuple[str, str, str, str]] = []
    counted: list[Counted] = []
    sets: dict[str, tuple[str, ...]] = {}
    swept = True
    for entry in entries:
        ((kind, body),) = entry.items()
        body = {key: value for key, value in body.items() if key != "handle"}
        if _of_another(kind, body, slot):
            swept = False
            continue
        for key in ("chain",) if kind == "rule" else ("name",):
            body[key] = str(body[key]).removesuffix(f".{slot}")
        chain, name = str(body.get("chain", "")), str(body.get("name", body.get("comment", "")))
        if kind == "set":
            items = body.pop("elem", ())
            if not body.get("timeout"):
                sets[name] = tuple(_element(item) for item in items)
        if kind == "rule":
            body["expr"], counts = _without_counts(body["expr"])
            if name:
                counted.append(Counted(chain, name, *counts))
        shown = _REFERENCE.sub(r'\1"', json.dumps(body, sort_keys=True))
        digest = hashlib.sha256(shown.encode()).hexdigest()[:16]
        objects.append((kind, chain, name, digest))
    objects.sort(key=lambda it: (it[0], it[1], "" if it[0] == "rule" else it[2]))
    return Table(tuple(objects), tuple(counted), sets, slot, swept)


def _slot(entries: Iterable[Mapping[str, Any]]) -> str:
    """The slot in force: the one that the chains that hook in lead to."""
    for entry in entries:
        rule = entry.get("rule", {})
        for each in rule.get("expr", ()) if rule.get("chain") in BASES else ():
            target = str(each["jump"]["target"]) if "jump" in each else ""
            if target[-2:-1] == "." and target[-1] in SLOTS:
                return target[-1]
    return SLOTS[0]


def _of_another(kind: str, body: Mapping[str, Any], slot: str) -> bool:
    """Whether something was staged and is not in force. What hooks in always is."""
    name = str(body.get("chain" if kind == "rule" else "name", ""))
    others = tuple(f".{other}" for other in SLOTS if other != slot)
    return name.endswith(others) and "hook" not in body


def _without_counts(expressions: Iterable[Any]) -> tuple[list[Any], tuple[int, int]]:
    """A rule's expressions with the counter at zero; packets and bytes that it had."""
    found, counts = [], (0, 0)
    for each in expressions:
        counter = each.get("counter") if isinstance(each, dict) else None
        if isinstance(counter, dict):
            counts = (int(counter["packets"]), int(counter["bytes"]))
            found.append({"counter": None})
        else:
            found.append(each)
    return found, counts


def _element(item: Any) -> str:
    """An element as nft(8) takes it, an address in the form in which we render it."""
    if isinstance(item, str):
        return _canonical(item)
    if isinstance(item, dict):
        if "prefix" in item:
            return _canonical(f"{item['prefix']['addr']}/{item['prefix']['len']}")
        if "range" in item:
            return "-".join(map(str, item["range"]))
        if "concat" in item:
            return " . ".join(_element(part) for part in item["concat"])
        if "elem" in item:
            return _element(item["elem"]["val"])
    return str(item)


def _canonical(address: str) -> str:
    try:
        return span(address, 6 if ":" in address else 4)[2]
    except DriverError:
        return address  # somebody else's: no address
