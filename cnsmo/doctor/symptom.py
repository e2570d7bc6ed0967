# SPDX-License-Identifier: Apache-2.0
"""Symptoms: each is a function that looks for one, found by its entry point.

The first line of its docstring says what is wrong where it finds something; the rest is the advice.
A package adds its own through the entry point groups ``cnsmo.doctor`` and ``cnsmo.doctor.host``.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib.metadata
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from cnsmo.model.errors import CnsmoError, InvalidRequest
from cnsmo.telemetry.probe import Probe

SITE, HOST = "cnsmo.doctor", "cnsmo.doctor.host"
"""Entry point groups: what a core's machine looks for, and what a VM does."""
PATIENCE = 60.0
"""Seconds for one symptom; those that ask somebody have shorter ones of their own."""
MANY = 5


class Level(enum.IntEnum):
    """How bad it is; the value is the exit code that Nagios' plugins have for it.

    https://nagios-plugins.org/doc/guidelines.html#AEN78
    """

    WELL = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3
    """Could not look."""

    @property
    def badness(self) -> int:
        """By which the worst of several is found: what is known to be wrong counts more."""
        return (Level.WELL, Level.UNKNOWN, Level.WARNING, Level.CRITICAL).index(self)


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that is wrong, in one line. Never a secret."""

    level: Level
    text: str


Look = Callable[[Any], Iterable[Finding]]


@dataclasses.dataclass(frozen=True)
class Symptom:
    """What can be looked for."""

    name: str
    look: Look

    @property
    def title(self) -> str:
        """What is wrong, where it is found."""
        return self._said[0].strip().rstrip(".")

    @property
    def advice(self) -> str:
        """What to do about it."""
        return "\n".join(self._said[1:]).strip()

    @property
    def _said(self) -> list[str]:
        return (inspect.getdoc(self.look) or self.name).splitlines()


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of looking for one symptom."""

    symptom: Symptom
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst of what was found."""
        return worst(it.level for it in self.findings)


def warning(text: str) -> Finding:
    """Something to do soon."""
    return Finding(Level.WARNING, text)


def critical(text: str) -> Finding:
    """Something to do now."""
    return Finding(Level.CRITICAL, text)


def worst(levels: Iterable[Level]) -> Level:
    """The worst of several."""
    return max(levels, key=lambda it: it.badness, default=Level.WELL)


def known(group: str) -> dict[str, Symptom]:
    """All symptoms of a group, by name.

    :raises CnsmoError: when two packages bring one of the same name.
    """
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for entry in importlib.metadata.entry_points(group=group):
        if entry.name in found and found[entry.name].value != entry.value:
            raise CnsmoError(f"two packages bring the symptom {entry.name!r}: remove one of them")
        found[entry.name] = entry
    return {name: Symptom(name, found[name].load()) for name in sorted(found)}


def chosen(group: str, only: Collection[str] = (), skipped: Collection[str] = ()) -> list[Symptom]:
    """Those symptoms of a group that are wanted; ``only``: empty for all.

    :raises InvalidRequest: when one that is named is not known.
    """
    symptoms = known(group)
    strange = sorted({*only, *skipped} - symptoms.keys())
    if strange:
        raise InvalidRequest(
            f"there is no symptom {strange[0]!r}; there are: {', '.join(symptoms)}"
        )
    return [
        it for name, it in symptoms.items() if (not only or name in only) and name not in skipped
    ]


def examine(symptoms: Iterable[Symptom], patient: object) -> Iterator[Result]:
    """Look for one after the other; one that cannot be looked for hides no other."""
    for symptom in symptoms:
        yield Result(symptom, tuple(_looked(symptom, patient)))


def _looked(symptom: Symptom, patient: object) -> list[Finding]:
    try:
        return Probe(lambda: list(symptom.look(patient)), PATIENCE).read()
    except TimeoutError:
        return [Finding(Level.UNKNOWN, f"could not look: no end within {PATIENCE:g} s")]
    except CnsmoError as exc:
        return [Finding(Level.UNKNOWN, f"could not look: {exc}")]
    except Exception as exc:  # noqa: BLE001  # of a plugin or a library; others are looked for
        return [Finding(Level.UNKNOWN, f"could not look: {type(exc).__name__}: {exc}")]


def few(names: Collection[str]) -> str:
    """Some names, and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - MANY} more" if len(listed) > MANY else ""
    return ", ".join(listed[:MANY]) + more
