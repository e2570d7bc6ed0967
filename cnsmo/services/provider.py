# SPDX-License-Identifier: Apache-2.0
"""The contract of a provider driver: it realises an instance in the cloud's own network services.

It needs no agent on any host: a core runs it, and so any of several cores, at times two at once.
Agents leave instances with such a driver alone.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel

from cnsmo.model.host import Host
from cnsmo.model.messages import Problem
from cnsmo.model.resource import View


def provider_kind(service: str) -> str:
    """Kind of the rows that tell what a provider driver keeps for an instance, and its state."""
    return f"{service}.provider"


@dataclasses.dataclass(frozen=True)
class Claim:
    """Whose the things are that a driver makes. ``mark``: by chance, and in all their tags."""

    deployment: str
    service: str
    instance: str
    mark: str

    @property
    def tag(self) -> str:
        """What all things bear that were made for the instance; nothing else does."""
        return f"cnsmo-{self.mark}"

    def name(self, what: str = "") -> str:
        """What people see in the cloud."""
        return "-".join(filter(None, ("cnsmo", self.deployment, self.instance, what)))


@dataclasses.dataclass(frozen=True)
class Kept:
    """What apply() brought about. ``changes``: one line each. ``problems``: what does not work as
    declared. ``again``: seconds after which to look, though nothing was declared. ``detail``: for
    people."""

    changes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    again: float | None = None
    detail: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class ProviderDriver(abc.ABC):
    """Entry point groups ``cnsmo.SERVICE.drivers``, beside the drivers that run on hosts.

    It holds no state; what it made it finds again by its tag. Where two cores made the same thing
    twice, whoever comes next leaves one of them.
    """

    name: ClassVar[str]

    def __init__(self, cloud: Any) -> None:
        """cloud: openstacksdk's connection."""
        self.cloud = cloud

    @classmethod
    @abc.abstractmethod
    def refused(cls, path: str, spec: BaseModel) -> list[Problem]:
        """What a document asks for that the cloud cannot do; path: the instance's. Pure."""

    @abc.abstractmethod
    def apply(self, claim: Claim, view: View, spec: BaseModel) -> Kept:
        """Make the cloud equal to what is declared; idempotent, and repairs what others changed.

        :raises CnsmoError: when it could not; what was there before still works.
        """

    @abc.abstractmethod
    def remove(self, claim: Claim) -> list[str]:
        """Take away all that bears the claim's tag; idempotent.

        :return: a line for each thing.
        :raises CnsmoError: when something stays.
        """


def refusal(path: str, message: str, remedy: str = "") -> Problem:
    """One thing that a provider cannot do."""
    return Problem(path=path, message=message, remedy=remedy)


def without_server(hosts: Mapping[str, Host]) -> list[str]:
    """A line for the hosts of which nobody knows which VM of the cloud they are."""
    lost = sorted(name for name, host in hosts.items() if not host.instance_id)
    if not lost:
        return []
    shown = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    return [f"which VM of the cloud is {shown}? 'cnsmo-manage cloud sync' finds out"]
