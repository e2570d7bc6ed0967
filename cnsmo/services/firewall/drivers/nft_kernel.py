# SPDX-License-Identifier: Apache-2.0
"""Our table as the kernel has it: loaded, changed, read back and brought to a form to compare."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from cnsmo.model.errors import DriverError
from cnsmo.services.base import System
from cnsmo.services.firewall.drivers.nft_render import TABLE
from cnsmo.services.kit.nft_values import span

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
    """What is there. ``objects``: chains, sets and rules in their order, each with a digest."""

    objects: tuple[tuple[str, str, str, str], ...]
    counted: tuple[Counted, ...]
    sets: Mapping[str, tuple[str, ...]]


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


def delete_table(system: System) -> None:
    """Take our table away; fine when it is gone already."""
    load_text(system, f"add table {TABLE}\ndelete table {TABLE}\n")


def parse(entries: Iterable[Mapping[str, Any]]) -> Table:
    """What ``nft -j list table`` says. Handles, counters and elements are no part of a digest."""
    objects: list[tuple[str, str, str, str]] = []
    counted: list[Counted] = []
    sets: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        ((kind, body),) = entry.items()
        if kind == "metainfo":
            continue
        body = {key: value for key, value in body.items() if key != "handle"}
        chain, name = str(body.get("chain", "")), str(body.get("name", body.get("comment", "")))
        if kind == "set":
            items = body.pop("elem", ())
            if not body.get("timeout"):
                sets[name] = tuple(_element(item) for item in items)
        if kind == "rule":
            body["expr"], counts = _without_counts(body["expr"])
            if name:
                counted.append(Counted(chain, name, *counts))
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
        objects.append((kind, chain, name, digest))
    return Table(tuple(objects), tuple(counted), sets)


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
