# SPDX-License-Identifier: Apache-2.0
"""From the desired state to the text that nft(8) loads; pure.

As it is, a text is one transaction that replaces the table: what a machine that starts needs. Over
a table in force its parts are loaded one by one, see guard.

The structure (chains, rules, which sets there are) and the sets' elements are kept apart: members
that come and go change elements only, and those are changed one by one.

In each direction: what comes over the loopback is accepted; then sources that pose as a VPN's are
dropped, even inside of flows; what belongs to a flow is accepted; so is the agent's way to the
core; then the parts follow. A part is a chain that finds the realm by the interface, and a chain
for each realm.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping

from cnsmo.services.firewall.desired import (
    SPOOFED,
    UNDERLAY,
    Action,
    Direction,
    FirewallDesired,
    Kind,
    Part,
)
from cnsmo.services.firewall.drivers import nft_text as text
from cnsmo.services.firewall.drivers.guard import BASES, STAGE, SWITCH, TABLE, in_slot
from cnsmo.services.firewall.drivers.nft_line import (
    REJECT,
    Extras,
    chain,
    default_rules,
    rules_of,
)
from cnsmo.services.kit import nft_values as values

CORE = "agent-core"
NAMESERVERS = "agent-dns"
POOLS = "vpn-pools"
HOOKS = dict(zip((Direction.INBOUND, Direction.OUTBOUND), BASES, strict=True))
FINGERPRINT = "# fingerprint "
"""First words of a ruleset's text: which structure it is."""


@dataclasses.dataclass(frozen=True)
class Ways:
    """How the agent reaches the core, by IP version.

    ``core``: addresses and TCP ports. ``nameservers``: None: no name has to be resolved.
    """

    core: Mapping[int, tuple[tuple[str, int], ...]] = dataclasses.field(default_factory=dict)
    nameservers: Mapping[int, tuple[str, ...]] | None = None


@dataclasses.dataclass(frozen=True)
class Place:
    """Whose lines a chain holds."""

    part: Kind
    instance: str
    direction: Direction
    realm: str


@dataclasses.dataclass(frozen=True)
class Structure:
    """A ruleset without elements: what stands before them, and what brings all in force.

    ``places``: of its chains that hold lines, by name.
    """

    stage: str
    switch: str
    fingerprint: str
    places: Mapping[str, Place]


@dataclasses.dataclass(frozen=True)
class Ruleset:
    """A whole ruleset; ``sets``: the elements, in one form each, sorted, by name of the set."""

    structure: Structure
    sets: Mapping[str, tuple[str, ...]]

    @property
    def text(self) -> str:
        """What ``nft -f`` loads in one transaction, whatever was there before."""
        filled = [add_elements(name, items) for name, items in self.sets.items() if items]
        return "".join((self.structure.stage, *filled, SWITCH, self.structure.switch))


class Renderer:
    """Renders the rulesets of one host; a structure that is asked for again is not made again."""

    def __init__(self, label: str) -> None:
        self._comment = values.label_comment(label)
        self._checked = {version: text.Checked(version) for version in (4, 6)}
        self._plan: _Plan | None = None
        self._structure: Structure | None = None

    def render(self, desired: FirewallDesired, ways: Ways) -> Ruleset:
        """The whole ruleset.

        :raises DriverError: when a value cannot be rendered.
        """
        sets = {
            text.set_name(name): self._checked[int(name[-1])].elements(tuple(items))
            for name, items in desired.sets.items()
        }
        shapes = {name: "/" in "".join(items) for name, items in sets.items()}
        for version in (4, 6):
            core = sorted(ways.core.get(version, ()))
            sets[f"{CORE}-{version}"] = tuple(_endpoint(*each, version) for each in core)
            if ways.nameservers is not None:
                servers = ways.nameservers.get(version, ())
                sets[f"{NAMESERVERS}-{version}"] = values.elements(servers, version)
            pools = [it for it in desired.pools if (":" in it) == (version == 6)]
            sets[f"{POOLS}-{version}"] = values.elements(pools, version)
        plan = _Plan(
            self._comment,
            desired.parts,
            dict(desired.interfaces),
            shapes,
            pools=sets[f"{POOLS}-4"] + sets[f"{POOLS}-6"],
            resolves=ways.nameservers is not None,
        )
        if self._structure is None or plan != self._plan:
            self._plan, self._structure = plan, plan.structure()
        return Ruleset(self._structure, sets)


def add_elements(name: str, items: tuple[str, ...]) -> str:
    """The command that puts elements into a set."""
    return f"add element {TABLE} {text.slotted(name)} {{ {', '.join(items)} }}\n"


@dataclasses.dataclass(frozen=True)
class Delta:
    """What differs between the elements of two rulesets of one structure, by name of the set."""

    gone: Mapping[str, tuple[str, ...]]
    come: Mapping[str, tuple[str, ...]]

    def text(self, slot: str) -> str:
        """The commands, for one transaction; what goes makes room for what comes."""
        commands = [
            f"delete element {TABLE} {text.slotted(name)} {{ {', '.join(items)} }}\n"
            for name, items in self.gone.items()
        ]
        commands += [add_elements(name, items) for name, items in self.come.items()]
        return in_slot("".join(commands), slot)

    @property
    def told(self) -> list[str]:
        """The same for people, one line for each set."""
        return [
            f"set {name}: {len(self.come.get(name, ()))} added, "
            f"{len(self.gone.get(name, ()))} removed"
            for name in sorted({*self.gone, *self.come})
        ]


def difference(old: Mapping[str, tuple[str, ...]], new: Mapping[str, tuple[str, ...]]) -> Delta:
    """From the elements of some sets to others of the same sets."""
    gone, come = {}, {}
    for name, items in new.items():
        earlier = old.get(name, ())
        if earlier == items:
            continue
        known = set(earlier)
        changed = known.symmetric_difference(items)
        if less := tuple(sorted(changed & known)):
            gone[name] = less
        if more := tuple(sorted(changed - known)):
            come[name] = more
    return Delta(gone, come)


def _endpoint(address: str, port: int, version: int) -> str:
    return f"{values.span(address, version)[2]} . {values.number('port', port, 1, 65535)}"


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Everything that a structure is made of. ``shapes``: sets, and whether they hold networks."""

    comment: str
    parts: tuple[Part, ...]
    interfaces: Mapping[str, str]
    shapes: Mapping[str, bool]
    pools: tuple[str, ...]
    resolves: bool

    def structure(self) -> Structure:
        """Render it."""
        extras = Extras()
        places: dict[str, Place] = {}
        chains: list[str] = []
        jumps: dict[Direction, list[str]] = {direction: [] for direction in Direction}
        for index, part in enumerate(self.parts):
            if part.direction not in HOOKS or part.kind not in tuple(Kind):
                raise values.wrong("part", (part.kind, part.direction))
            name = f"{part.direction}-{index}"
            chains += self._part(part, name, places, extras)
            jumps[part.direction].append(f"jump {text.slotted(name)}")
        body = "\n".join([*self._sets(), *extras.meters, _REJECT, *extras.logs, *chains])
        table = f'table {TABLE} {{\n\tcomment "{self.comment}"\n{body}\n}}\n'
        switch = "".join(self._base(direction, rules) for direction, rules in jumps.items())
        # What nft(8) does not list still is structure: the pools decide who is dropped.
        digest = hashlib.sha256(repr((table, switch, self.pools)).encode()).hexdigest()
        start = f"{FINGERPRINT}{digest}\nadd table {TABLE}\ndelete table {TABLE}\n{STAGE}"
        return Structure(start + table, switch, digest, places)

    def _base(self, direction: Direction, jumps: list[str]) -> str:
        """A chain that hooks in, filled anew.

        Its policy changes a moment after its rules do: it must not matter to any packet.
        """
        name, policy = HOOKS[direction], self._policy(direction)
        head = f"type filter hook {name} priority filter; policy {policy};"
        rules = [*(self._first(direction) + jumps if jumps else ()), policy]
        return (
            f"add chain {TABLE} {name} {{ {head} }}\nflush chain {TABLE} {name}\n"
            f"table {TABLE} {{\n{chain(name, rules, head)}\n}}\n"
        )

    def _part(
        self, part: Part, name: str, places: dict[str, Place], extras: Extras
    ) -> Iterator[str]:
        """The chain that finds the realm, after those of the realms."""
        ways = []
        for realm in (*self.interfaces, UNDERLAY):
            inner = f"{name}-vpn-{text.realm_name(realm)}" if realm else f"{name}-underlay"
            places[inner] = Place(part.kind, part.instance, part.direction, realm)
            rules = [
                rule
                for line in part.realms.get(realm, ())
                for rule in rules_of(line, part.kind, part.direction, self.shapes, extras)
            ]
            if part.default is not None:
                rules += default_rules(
                    part.default, part.kind, part.direction, part.instance, part.log
                )
            yield chain(inner, rules)
            if realm:
                ways.append(
                    f"{values.interface(self.interfaces[realm])} : goto {text.slotted(inner)}"
                )
        if unknown := set(part.realms) - set(self.interfaces) - {UNDERLAY}:
            raise values.wrong("realm without an interface", sorted(unknown)[0])
        key = "iifname" if part.direction is Direction.INBOUND else "oifname"
        finder = [f"{key} vmap {{ {', '.join(ways)} }}"] if ways else []
        yield chain(name, [*finder, f"goto {text.slotted(name + '-underlay')}"])

    def _policy(self, direction: Direction) -> str:
        closed = any(
            part.kind is Kind.ENFORCE
            and part.direction is direction
            and part.default in (Action.DROP, Action.REJECT)
            for part in self.parts
        )
        return "drop" if closed else "accept"

    def _first(self, direction: Direction) -> list[str]:
        """What stands before all parts."""
        flows = "ct state established,related accept"
        if direction is Direction.INBOUND:
            return ["iif lo accept", *self._spoofed(), flows, *_ANSWERS]
        rules = ["oif lo accept", flows]
        for version, family in ((4, "ip"), (6, "ip6")):
            core = text.slotted(f"{CORE}-{version}")
            rules.append(f"{family} daddr . tcp dport @{core} accept")
            if self.resolves:
                servers = f"{family} daddr @{text.slotted(f'{NAMESERVERS}-{version}')}"
                rules += [f"{servers} {protocol} dport 53 accept" for protocol in ("udp", "tcp")]
        return rules

    def _spoofed(self) -> list[str]:
        """Nobody has a VPN's address but on that VPN."""
        if not self.pools:
            return []
        names = ", ".join(values.interface(name) for name in self.interfaces.values())
        outside = f"iifname != {{ {names} }} " if names else ""
        return [
            f"{outside}{family} saddr @{text.slotted(f'{POOLS}-{version}')} counter drop "
            f'comment "{SPOOFED}"'
            for version, family in ((4, "ip"), (6, "ip6"))
        ]

    def _sets(self) -> Iterator[str]:
        for name, networks in self.shapes.items():
            yield _set(name, f"ipv{name[-1]}_addr", networks)
        for version in (4, 6):
            address = f"ipv{version}_addr"
            yield _set(f"{CORE}-{version}", f"{address} . inet_service", False)
            yield _set(f"{POOLS}-{version}", address, True)
            if self.resolves:
                yield _set(f"{NAMESERVERS}-{version}", address, False)


_ANSWERS = tuple(
    f"{family} saddr . tcp sport @{text.slotted(f'{CORE}-{version}')} "
    "tcp flags & (syn | ack) != syn accept"
    for version, family in ((4, "ip"), (6, "ip6"))
)
"""What the core says over connections that the kernel does not know: they began before it watched
any flow, and the agent may only ever listen on them. None can be opened so."""


def _set(name: str, kind: str, networks: bool) -> str:
    flags = "\t\tflags interval\n" if networks else ""
    return f"\tset {text.slotted(name)} {{\n\t\ttype {kind}\n{flags}\t}}"


_REJECT = chain(
    REJECT, ["meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited"]
)
