# SPDX-License-Identifier: Apache-2.0
"""What a core says of itself when all cores are asked who is there. No secret, and no password."""

from __future__ import annotations

from cnsmo.model.messages import Message


class AgentSeen(Message):
    """What an agent's calls said beside what they asked.

    ``skew``: seconds that its clock is ahead of the core's. ``rpc``, ``release``: its version of
    the calls, and of the program; empty: it did not say.
    """

    deployment: str
    host: str
    skew: float | None = None
    rpc: str = ""
    release: str = ""


class Presence(Message):
    """A core process.

    ``clock``: its time, in seconds of the epoch. ``database``: what tells one database from
    another. ``settings``: what all cores should have alike, in words; secrets as digests that are
    of no use. ``agents``: those that this core heard of late.
    """

    core: str
    host: str
    pid: int
    release: str
    clock: float
    database: str
    settings: dict[str, str]
    agents: list[AgentSeen]

    @property
    def name(self) -> str:
        """Which one it is, for people."""
        return f"{self.host} (pid {self.pid})"
