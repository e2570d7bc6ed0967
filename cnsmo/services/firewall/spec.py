# SPDX-License-Identifier: Apache-2.0
"""What the operator writes for a firewall."""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cnsmo.model.names import ALL, Label
from cnsmo.services.base import mistake
from cnsmo.services.firewall.desired import DEFAULT, Action, Direction
from cnsmo.services.firewall.terms import (
    ANY,
    ICMP,
    ICMP_TYPES,
    ICMPV6,
    ICMPV6_TYPES,
    WITH_PORTS,
    IcmpTypes,
    Log,
    Ports,
    Protocol,
    RateText,
    Term,
    Terms,
    is_network,
    protocol_number,
)
from cnsmo.services.words import DriverName, Groups, Via, as_list

MOST_RULES = 20_000
"""In one direction of one instance."""


class Mode(enum.StrEnum):
    """Whether an instance decides."""

    ENFORCE = "enforce"
    """It does."""
    AUDIT = "audit"
    """It counts and logs what it would do."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class Flow(_Model):
    """What every rule can say about a packet's protocol."""

    protocol: Protocol = Field(ANY, description="tcp, udp, sctp, icmp, icmpv6, esp, a number, any.")
    ports: Ports = Field((), description="Destination: numbers, ranges (8000-8100), service names.")

    @property
    def number(self) -> int | None:
        """IANA's number of the protocol; None: any."""
        return protocol_number(self.protocol)


class Rule(Flow):
    """Who may talk to whom; of an instance's rules the first that matches decides."""

    source: Terms = Field(
        (ANY,),
        alias="from",
        description="any, a group, a host, a network, vpn:NAME; or a list of them.",
    )
    target: Terms = Field(
        (ANY,),
        alias="to",
        description="The same; inbound, it says on which hosts or addresses the rule holds.",
    )
    icmp: IcmpTypes = Field((), description="Types by name, as echo-request, or by number.")
    via: Via | None = Field(
        None, description="underlay, or the name of a VPN: packets of that network only."
    )
    action: Action = Field(Action.ACCEPT, description="accept, drop or reject.")
    log: Log = Field(None, description="true, or at most so many lines: 10/minute.")
    limit: RateText | None = Field(
        None, description="Per source, as 10/second; what exceeds it does not match."
    )
    name: Label | None = Field(None, description="Shown instead of the rule's number.")

    @model_validator(mode="after")
    def _consistent(self) -> Rule:
        number = self.number
        if self.ports and number not in WITH_PORTS:
            raise mistake("ports", "only tcp, udp and sctp have ports", "write protocol: tcp")
        if self.icmp:
            _check_icmp(self.icmp, number)
        if not self.versions:
            raise mistake(
                "from", "the rule can match neither IPv4 nor IPv6: its parts are of different ones"
            )
        return self

    @functools.cached_property
    def versions(self) -> tuple[int, ...]:
        """The IP versions that it can match."""
        found = {ICMP: {4}, ICMPV6: {6}}.get(self.number or -1, {4, 6})
        return tuple(sorted(found & _versions(self.source) & _versions(self.target)))


def _check_icmp(names: tuple[str, ...], number: int | None) -> None:
    if number not in (ICMP, ICMPV6):
        raise mistake("icmp", "needs protocol: icmp or icmpv6")
    table = ICMP_TYPES if number == ICMP else ICMPV6_TYPES
    for name in names:
        if not name.isdigit() and name not in table:
            raise mistake(
                "icmp", f"{name} is no type of this protocol", f"it has: {', '.join(table)}"
            )


def _versions(terms: tuple[str, ...]) -> set[int]:
    if not all(is_network(term) for term in terms):
        return {4, 6}
    return {6 if ":" in term else 4 for term in terms}


class Failsafe(Flow):
    """A port that is open before any rule, whatever the rules say."""

    protocol: Protocol = Field("tcp", description="tcp, udp or sctp.")
    ports: Ports = Field(min_length=1, description="Numbers, ranges or service names.")
    source: Terms = Field((ANY,), alias="from", description="Who may use it.")

    @model_validator(mode="after")
    def _consistent(self) -> Failsafe:
        if self.number not in WITH_PORTS:
            raise mistake("protocol", "only tcp, udp and sctp have ports", "write protocol: tcp")
        return self


class Defaults(_Model):
    """What becomes of a flow that no rule matches; of several instances, the strictest holds."""

    inbound: Action = Field(Action.DROP, description="Of flows to the host.")
    outbound: Action = Field(Action.ACCEPT, description="Of flows that the host begins.")

    def of(self, direction: Direction) -> Action:
        """That of a direction."""
        return self.inbound if direction is Direction.INBOUND else self.outbound


class PolicyTest(_Model):
    """A flow with the verdict that it must meet, else the document is refused."""

    source: Term = Field(
        alias="from", description="A host, a group (each of its hosts), an address."
    )
    target: Term = Field(alias="to", description="The same.")
    protocol: Protocol = Field("tcp", description="As in rules.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Destination; needed for tcp, udp and sctp."
    )
    via: Via | None = Field(
        None,
        description="Over which network; left out: the VPN that both are in, else the underlay.",
    )
    expect: Action = Field(description="What has to become of it.")

    @model_validator(mode="after")
    def _consistent(self) -> PolicyTest:
        if self.protocol == ANY:
            raise mistake("protocol", "a flow has one protocol", "write tcp, udp, icmp, ...")
        needs = self.number in WITH_PORTS
        if needs != (self.port is not None):
            raise mistake("port", "is needed for tcp, udp and sctp, and for nothing else")
        return self

    @property
    def number(self) -> int:
        """IANA's number of the protocol."""
        return protocol_number(self.protocol) or 0


class FirewallSpec(_Model):
    """A policy for the firewall in each host of some groups."""

    inbound: tuple[Rule, ...] = Field((), max_length=MOST_RULES, description="Who may reach them.")
    outbound: tuple[Rule, ...] = Field(
        (), max_length=MOST_RULES, description="Whom they may reach."
    )
    default: Defaults = Field(Defaults(), description="For what no rule matches.")
    mode: Mode = Field(Mode.ENFORCE, description="audit: count and log, and decide nothing.")
    hosts: Groups = Field((ALL,), min_length=1, description="Groups whose hosts it holds for.")
    priority: int = Field(
        100, ge=0, le=65535, description="Instances with a lower one come first; then by name."
    )
    failsafe: Annotated[tuple[Failsafe, ...], BeforeValidator(as_list)] = Field(
        (Failsafe(ports=(22,)),),
        max_length=100,
        description="Inbound ports that no rule can close.",
    )
    confirm: int = Field(
        30, ge=1, le=3600,
        description="Seconds in which a host must reach the core after a change; else it reverts.",
    )  # fmt: skip
    log: Log = Field(None, description="Log what the default drops: true, or 10/minute.")
    cut: bool = Field(True, description="End flows that a change does not allow any more.")
    tests: tuple[PolicyTest, ...] = Field(
        (), max_length=1000, description="Flows and the verdicts they must meet."
    )
    driver: DriverName = Field("nftables", description="Which driver realises it.")

    @model_validator(mode="after")
    def _consistent(self) -> FirewallSpec:
        for key, rules in (("inbound", self.inbound), ("outbound", self.outbound)):
            names = [rule.name for rule in rules if rule.name is not None]
            for name in names:
                if name.isdigit():
                    raise mistake(key, f"{name} cannot be a rule's name: it looks like a number")
                if name == DEFAULT:
                    raise mistake(key, f"{name} cannot be a rule's name: it is that of no rule")
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise mistake(key, f"two rules are called {twice}")
        return self

    def labelled(self, name: str, direction: Direction) -> Iterator[tuple[str, Rule]]:
        """The rules of a direction in their order, each after its label; name: the instance's."""
        rules = self.inbound if direction is Direction.INBOUND else self.outbound
        for number, rule in enumerate(rules, 1):
            yield f"{name}/{direction}/{rule.name or number}", rule
