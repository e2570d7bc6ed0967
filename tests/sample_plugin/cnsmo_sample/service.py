# SPDX-License-Identifier: Apache-2.0
"""The service ``phonebook``: every host of its groups gets a file with the addresses of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cnsmo.model.host import Host
from cnsmo.model.messages import Problem
from cnsmo.model.names import ALL, Label
from cnsmo.model.resource import View, joined, member_kind
from cnsmo.services.base import Desired, NetworkService, Unit, specs, unknown_groups
from cnsmo.services.words import Groups


class PhonebookSpec(BaseModel):
    """What the operator writes; anything else is refused, with the line where it stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: Groups = Field(default=(ALL,), min_length=1, description="Groups that are in it.")
    driver: Label = Field(default="noop", description="How it is done.")


class PhonebookAnnouncement(BaseModel):
    """What a host says about itself, from its driver's announce()."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    extension: Annotated[int, Field(ge=100, le=999)]


@dataclasses.dataclass(frozen=True)
class PhonebookDesired(Desired):
    """What shall be in the file."""

    numbers: tuple[tuple[str, int], ...]


class PhonebookService(NetworkService):
    """Who is reached under which number. Everything here is a pure function of rows."""

    name = "phonebook"
    Spec = PhonebookSpec
    Announcement = PhonebookAnnouncement

    def check(self, view: View) -> list[Problem]:
        """Mistakes that show when all hosts and tokens are seen."""
        return [
            problem
            for name, spec in specs(self, view).items()
            for problem in unknown_groups(view, f"phonebook.{name}.members", spec.members)
        ]

    def concerns(self, instance: str, spec: BaseModel, host: Host) -> bool:
        """A host is concerned when it is in one of the groups."""
        return isinstance(spec, PhonebookSpec) and host.within(spec.members)

    def units(self, view: View, host: str) -> list[Unit]:
        """One unit per phonebook that this host is in."""
        me = view.hosts.get(host)
        return [
            Unit(name=name, driver=spec.driver)
            for name, spec in specs(self, view).items()
            if me is not None and self.concerns(name, spec, me)
        ]

    def compile(self, view: View, host: str) -> Mapping[str, Desired]:
        """What each unit of this host shall look like, once it is announced."""
        desired: dict[str, Desired] = {}
        for unit in self.units(view, host):
            if view.get(member_kind(self.name), joined(unit.name, host)) is None:
                continue
            members = view.members(self.name, unit.name)
            numbers = tuple(sorted((name, row.body["extension"]) for name, row in members.items()))
            desired[unit.name] = PhonebookDesired(unit.driver, numbers=numbers)
        return desired
