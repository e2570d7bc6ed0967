# SPDX-License-Identifier: Apache-2.0
"""How an agent's process stands, in a file: for who waits on the same machine, as its boot does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from oslo_log import log
from pydantic import BaseModel, ValidationError

from cnsmo.files import write_file
from cnsmo.model.errors import CnsmoError
from cnsmo.model.lifecycle import State

LOG = log.getLogger(__name__)
EVERY_SERVICE = "all"
"""The role of a process that hosts all of the host's services."""


def place(folder: Path, role: str) -> Path:
    """Where the process with that role says how it stands, in its state's directory."""
    return folder / f"notice-{role}.json"


class ServiceNotice(BaseModel):
    """What was reported of a service; None: nothing yet."""

    state: State | None = None
    reason: str = ""


class Told(BaseModel):
    """``code``, ``message``: of the error that keeps the process from its work; empty: none."""

    code: str = ""
    message: str = ""
    services: dict[str, ServiceNotice] = {}

    @property
    def ready(self) -> bool:
        """Whether every service is ready."""
        states = {notice.state for notice in self.services.values()}
        return not self.code and states == {State.READY}

    @property
    def reason(self) -> str:
        """Why it is not, in words."""
        waiting = {
            name: notice for name, notice in self.services.items()
            if notice.state is not State.READY
        }  # fmt: skip
        found = (
            f"{name} is {notice.state}: {notice.reason}".rstrip(": ")
            for name, notice in waiting.items()
            if notice.state is not None
        )
        return self.message or "; ".join(found) or "its agent has not reported yet"


class Notice:
    """The file of one process. What cannot be written is not told: the work goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._told = Told()

    def begin(self, services: Iterable[str]) -> None:
        """Nothing is known yet."""
        self._tell(Told(services={name: ServiceNotice() for name in services}))

    def service(self, name: str, state: State, reason: str) -> None:
        """The core was told this of a service."""
        services = self._told.services | {name: ServiceNotice(state=state, reason=reason)}
        self._tell(Told(services=services))

    def trouble(self, exc: CnsmoError) -> None:
        """The process cannot work, now or any more."""
        self._tell(self._told.model_copy(update={"code": exc.code, "message": str(exc)}))

    def _tell(self, told: Told) -> None:
        if told == self._told:
            return
        self._told = told
        try:
            write_file(self.path, told.model_dump_json())
        except OSError as exc:
            LOG.warning("%s cannot be written: %s", self.path, exc.strerror)


def read(path: Path) -> Told | None:
    """What a process told last; None when it did not, or nothing that can be read."""
    try:
        return Told.model_validate_json(path.read_text())
    except (OSError, UnicodeDecodeError, ValidationError):
        return None
