# SPDX-License-Identifier: Apache-2.0
"""What travels over the bus: the payloads of every call, as models."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from cnsmo.model.host import HostFacts, ToldFacts
from cnsmo.model.lifecycle import State
from cnsmo.model.names import GrantedGroup, Label, Network, printable

MAX_REASON = 500
"""Characters of a reason; the rest is cut."""

Revision = Annotated[int, Field(ge=0, lt=2**63)]
"""Of a deployment, as the database can hold it."""


Moment = Annotated[AwareDatetime, Field(lt=datetime.datetime(9000, 1, 1, tzinfo=datetime.UTC))]
"""A time that any zone can tell."""


class Message(BaseModel):
    """Base of all payloads: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class CertificateRequest(Message):
    """A certificate signing request (PKCS #10, PEM)."""

    csr: Annotated[str, Field(max_length=4096)]


class JoinRequest(CertificateRequest):
    """An agent's process asks to become a host of the token's deployment.

    ``csr`` is by the host's key, and bound to the nonce.
    """

    token: Annotated[str, Field(max_length=200)]
    host: Label
    nonce: Annotated[str, Field(min_length=32, max_length=100)]
    """Chosen by the agent before its first try, so that a repeated try is recognised."""
    services: Annotated[list[Label], Field(max_length=32)] = []
    facts: ToldFacts


class Facts(Message):
    """What a host says anew of itself."""

    facts: ToldFacts


class Certified(Message):
    """A host's certificate and all authorities to believe, as PEM; seconds of its life.

    ``bus_authorities``: who vouches for the broker; empty: whom the host's configuration names.
    """

    certificate: str
    authorities: str
    life: float
    bus_authorities: str = ""


class JoinAnswer(Message):
    """Who the host is from now on. ``secret`` is said this one time and stored as a hash."""

    id: str
    secret: str
    deployment: str
    host: str
    groups: list[str]
    certified: Certified
    bus_url: str = ""
    """By which the host uses the bus, with its account; empty: its own ``[bus] url``."""


class Instance(Message):
    """One instance of a service."""

    service: Label
    instance: Label


class Announcement(Instance):
    """What a host tells the others about itself for one instance of a service."""

    body: dict[str, Any]


class AgentReport(Message):
    """An agent's state after it worked on ``applied_revision``."""

    service: Label
    state: State
    reason: Annotated[str, Field(max_length=MAX_REASON), AfterValidator(printable)] = ""
    applied_revision: Revision
    observation: dict[str, Any] | None = None
    """What the drivers saw, by unit, and what was left out of it."""
    made_at: Moment | None = None
    """When it was made, by the cores' clock; None: that is not known."""


class Heartbeat(Message):
    """A sign of life for the agents of one process: service -> applied revision."""

    applied: Annotated[dict[Label, Revision], Field(max_length=32)]
    made_at: Moment | None = None
    """As of a report."""


class HeartbeatAnswer(Message):
    """What the agent may have missed.

    ``head``: the deployment's revision. ``confirmed``: by service, the revision that all its
    agents that live and work have applied. ``observe_at``: an operator wants observations that
    are not older than that, by the cores' clock. ``forgotten``: services whose state the core does
    not have: report again. ``now``: what time it is, by the cores' clock.
    """

    head: int
    confirmed: dict[str, int]
    observe_at: datetime.datetime | None = None
    forgotten: list[str] = []
    now: datetime.datetime | None = None


class AgentStatus(Message):
    """An agent as the operator sees it."""

    host: str
    service: str
    state: State
    reason: str
    since: datetime.datetime | None = None
    applied_revision: int = 0
    heartbeat_age: float | None = None
    """Seconds since the last sign of life, by the core's clock."""
    observation: dict[str, Any] | None = None
    observed_age: float | None = None
    late: bool = False
    """Whether it is silent for longer than it should be, but not said to be down."""


class HostStatus(Message):
    """A host as the operator sees it, with its agents."""

    name: str
    id: str
    groups: list[str]
    facts: HostFacts
    agents: list[AgentStatus]
    certified_until: datetime.datetime | None = None
    """When its certificate ends; None: it never had one."""
    readmit_until: datetime.datetime | None = None
    """Until when a join with another key may take its place."""
    quarantined: bool = False
    """Whether an operator has taken it out of everything."""
    tokens: list[str] = []
    """Ids of those by which it came; none: that was before they were noted."""
    bounds: list[str] = []
    """Networks in which its token says that it is; none: any."""
    disputed: dict[str, str] = {}
    """Addresses that it said to have and that are not believed, and why."""


class ProviderStatus(Message):
    """What cores keep in the cloud for an instance with a provider driver.

    ``current``: whether the state is that of what is declared now. ``detail``: for people.
    """

    service: str
    instance: str
    driver: str
    state: State
    reason: str = ""
    current: bool = True
    since: datetime.datetime
    detail: dict[str, Any] = {}


class RemovedHost(Message):
    """A host that was removed in ``revision``."""

    id: str
    host: str
    removed_at: datetime.datetime
    revision: int
    confirmed_at: datetime.datetime | None = None
    """When the last of the others was known to have applied that revision; None: not yet."""
    waiting: list[str] = []
    """Hosts that have not applied it yet."""


class DeploymentStatus(Message):
    """A deployment in a line."""

    name: str
    revision: int
    hosts: int
    services: int
    created_at: datetime.datetime
    suspected_since: datetime.datetime | None = None
    """Since when so many hosts are silent that the core suspects itself, and says of none that it
    is down."""


class TokenRequest(Message):
    """What a new join token shall grant; life time in seconds.

    ``host``, ``source``: the only name, and the network of addresses, that may use it.
    ``addresses``: networks in which the hosts may say to be; none: any.
    """

    groups: list[GrantedGroup] = []
    lifetime: Annotated[int, Field(ge=1, le=365 * 86400)] = 3600
    uses: Annotated[int, Field(ge=1, le=100_000)] = 1
    host: Label | None = None
    source: Network | None = None
    addresses: Annotated[list[Network], Field(max_length=32)] = []


class TokenStatus(Message):
    """A join token without its secret; ``token`` is filled only in the answer to its creation."""

    id: str
    groups: list[str]
    expires_at: datetime.datetime
    uses_left: int
    revoked: bool
    token: str | None = None
    host: str | None = None
    source: str | None = None
    addresses: list[str] = []


class Problem(Message):
    """One mistake in a document: where, what, and what would be right."""

    path: str
    line: int | None = None
    column: int | None = None
    message: str
    remedy: str = ""
    absent: bool = False
    """Whether it names somebody who is not there: hosts leave, and what was right may become that.
    """

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        path = f"{self.path}: " if self.path else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{where}{path}{self.message}{remedy}"


class RowChange(Message):
    """One row that a document would add, change or remove."""

    action: str
    kind: str
    name: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class Effect(Message):
    """What a plan means for some hosts, one line each, as the services tell it."""

    hosts: list[str]
    lines: list[str]


class Plan(Message):
    """What applying a document would do, computed at ``base_revision``."""

    deployment: str
    base_revision: int
    changes: list[RowChange]
    hosts: list[str]
    """Names of the hosts that would be touched."""
    effects: list[Effect] = []
    """What that comes to on them, where a service says so."""
    absent: list[Problem] = []
    """What names somebody who left since; it was declared before, and means nobody now."""
    known: list[Problem] = []
    """What is in force already and wrong since, by what hosts say of themselves."""
    revision: int | None = None
    """The revision that wrote it; None when nothing was written."""


class EventMessage(Message):
    """Something that happened in a deployment."""

    type: str
    deployment: str
    revision: int = 0
    host: str = ""
    service: str = ""
    message: str = ""
    at: datetime.datetime


class BusFinding(Message):
    """Where the broker differs from what it should be."""

    kind: str
    """What it is: account, exchange, queue, binding, permission, policy, ..."""
    name: str
    agent: str = ""
    """The id of the host to which it belongs by its name."""
    problem: str
    remedy: Literal["make", "delete", "replace"] = "make"
    mendable: bool = True
    """False for what CNSMO did not make, and so does not touch."""
