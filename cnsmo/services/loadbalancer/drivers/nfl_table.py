# SPDX-License-Identifier: Apache-2.0
"""A table as chains of rules, and as the text that nft(8) loads. Standard library only; pure.

A flow's first packet meets: ``dispatch`` (which address and port), ``allowed`` (whose), ``begin``,
``find-4`` or ``find-6`` (whose client it is already), ``pick-4`` or ``pick-6`` (whose turn it is),
and a chain of the server that it is sent to. Later packets of the flow follow it by themselves.

Each rule bears a digest of itself as its comment: so what the kernel lists, in whatever words, can
be compared with what was loaded.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from cnsmo.services.loadbalancer.drivers.nfl_pick import ADDRESS, REFUSE, pick
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Target, Wanted

FAMILY = {4: "ip", 6: "ip6"}
CLIENTS = "clients"
CLIENT_SECONDS = 3600
"""How long a client is remembered after its last new flow."""
MOST_CLIENTS = 262144
"""Clients that are remembered at once, per IP version; while it is full, new ones are not."""
TRANSLATED = "ct status dnat"


@dataclasses.dataclass(frozen=True)
class Hook:
    """Where the kernel enters a chain."""

    kind: str
    name: str
    priority: int


@dataclasses.dataclass(frozen=True)
class Chain:
    """Rules in their order, each with its comment."""

    rules: tuple[str, ...]
    hook: Hook | None = None

    @property
    def comments(self) -> tuple[str, ...]:
        """By which the rules are known."""
        return tuple(rule.rpartition(' comment "')[2].removesuffix('"') for rule in self.rules)

    @functools.cached_property
    def digest(self) -> str:
        """Of the whole chain."""
        return digest(self.comments, self.hook)


def digest(comments: Iterable[str], hook: Hook | None) -> str:
    """Of a chain, from what the kernel lists of it."""
    return _digest(repr((tuple(comments), hook)))


def mark(text: str, whose: str = "") -> str:
    """The comment of a rule; whose: for people who read the table."""
    return f"{whose} {_digest(text)}" if whose else _digest(text)


def everything(
    wanted: Wanted, present: Sequence[Target], chosen: Sequence[Target]
) -> dict[str, Chain]:
    """All chains; present: the servers, chosen: those that new flows may go to."""
    found = frame(wanted)
    for target in present:
        found |= server(wanted, target)
    return found | live(wanted, present, chosen)


def frame(wanted: Wanted) -> dict[str, Chain]:
    """The chains that do not depend on servers."""
    match = f"{_ports(wanted)} fib daddr type local"
    arrive = [f"{match} goto dispatch"]
    loopback = ["ip daddr 127.0.0.0/8 return", "ip6 daddr ::1 return"]
    answers = [
        f'oifname != "lo" meta l4proto {wanted.protocol} {TRANSLATED} '
        f"ct original proto-dst {port} goto answers"
        for port in wanted.ports
    ]
    return {
        "begin": _chain(_begin(wanted)),
        "find-4": _chain(_find(wanted, 4)),
        "find-6": _chain(_find(wanted, 6)),
        REFUSE: _chain([
            "meta l4proto tcp counter reject with tcp reset",
            "counter reject with icmpx port-unreachable",
        ]),
        "allowed": _chain(_allowed(wanted)),
        "dispatch": _chain(["jump direct", *(bind_rule(wanted, bind) for bind in wanted.binds)]),
        "prerouting": _chain(arrive, Hook("nat", "prerouting", -100)),
        "output": _chain(loopback + arrive, Hook("nat", "output", -100)),
        "postrouting": _chain(answers, Hook("nat", "postrouting", 100)),
        # What the connection tracking takes for no part of a flow would reach this host itself,
        # whose answer (a reset) would end the flow.
        "strays": _chain(
            ["ct state != invalid return", f"{match} drop", "jump strays-back"],
            Hook("filter", "prerouting", -150),
        ),
    }  # fmt: skip


def bind_rule(wanted: Wanted, bind: tuple[str, int]) -> str:
    """The rule that counts what arrives at an address and port."""
    address, port = bind
    family = FAMILY[6 if ":" in address else 4]
    where = f"{family} daddr {address} " if address else ""
    return f"{where}{wanted.protocol} dport {port} counter goto allowed"


def server(wanted: Wanted, target: Target) -> Mapping[str, Chain]:
    """The chains that send flows to a server."""
    return _server(wanted.protocol, wanted.sticky, target)


@functools.lru_cache(maxsize=16384)
def _server(protocol: str, sticky: bool, target: Target) -> Mapping[str, Chain]:
    family = FAMILY[target.version]
    place = f"[{target.address}]" if target.version == 6 else target.address
    send = f"meta l4proto {protocol} counter dnat {family} to {place}:{target.port}"
    if not sticky:
        return {target.chain: _chain([send], whose=target.name)}
    entry = f"{ADDRESS[target.version]} : {classid(target.ident)}"
    clients = f"@{CLIENTS}-{target.version}"
    return {
        target.chain: _chain(
            [f"update {clients} {{ {entry} }}", "meta priority set 0:0", send], whose=target.name
        ),
        target.first_chain: _chain(
            [
                f"delete {clients} {{ {entry} }}",
                f"add {clients} {{ {entry} }}",
                f"goto {target.chain}",
            ],
            whose=target.name,
        ),
    }


def live(wanted: Wanted, present: Sequence[Target], chosen: Sequence[Target]) -> dict[str, Chain]:
    """The chains that know which servers there are."""
    found: dict[str, Chain] = {}
    for version in (4, 6):
        mine = [it for it in chosen if it.version == version]
        found |= _replaceable(f"pick-{version}", pick(wanted, mine, version))
    ways = ", ".join(f"{classid(it.ident)} : goto {it.chain}" for it in chosen)
    known = f"meta priority vmap {{ {ways} }}" if ways and wanted.sticky else "return"
    found |= _replaceable("known", known)
    here = [it for it in present if it.port in wanted.ports]
    found["direct"] = _chain(
        _each(here, f"meta l4proto {wanted.protocol} ", "daddr", "dport", "accept")
    )
    found["answers"] = _chain(_each(present, "", "daddr", "dport", "masquerade"))
    found["strays-back"] = _chain(
        _each(present, f"meta l4proto {wanted.protocol} ", "saddr", "sport", "drop")
    )
    return found


def head(wanted: Wanted) -> str:
    """The commands that make what is not there yet, but for chains."""
    maps = (
        f"add map {wanted.table} {CLIENTS}-{version} {{ type ipv{version}_addr : classid; "
        f"size {MOST_CLIENTS}; flags dynamic,timeout; timeout {CLIENT_SECONDS}s; }}\n"
        for version in (4, 6)
    )
    return f'add table {wanted.table} {{ comment "{wanted.comment}"; }}\n' + "".join(maps)


def clear(wanted: Wanted) -> str:
    """The commands that take the table away, whether it is there or not."""
    return f"add table {wanted.table}\ndelete table {wanted.table}\n"


def load(table: str, chains: Mapping[str, Chain]) -> str:
    """The commands that make chains hold these rules, whatever they hold now."""
    lines = []
    for name, chain in chains.items():
        hook = chain.hook
        lines.append(
            f"add chain {table} {name} {{ type {hook.kind} hook {hook.name} "
            f"priority {hook.priority}; policy accept; }}"
            if hook
            else f"add chain {table} {name}"
        )
    for name, chain in chains.items():
        lines.append(f"flush chain {table} {name}")
        lines += [f"add rule {table} {name} {each}" for each in chain.rules]
    return "".join(f"{line}\n" for line in lines)


def unload(table: str, names: Iterable[str]) -> str:
    """The commands that delete chains, whether they are there or not.

    Emptied first: of a server's two chains one leads to the other.
    """
    known = sorted(names)
    lines = [
        f"{verb} chain {table} {name}" for verb in ("add", "flush", "delete") for name in known
    ]
    return "".join(f"{line}\n" for line in lines)


def classid(ident: int) -> str:
    """A number of 32 bits as nft(8) writes it where a packet's priority is meant."""
    return f"{ident >> 16:x}:{ident & 0xFFFF:x}"


def _replaceable(name: str, text: str) -> dict[str, Chain]:
    """A rule with a map is in a chain of its own, whose name says what is in it.

    Rules are replaced at once for a packet that is just being looked at, maps are not: it still
    sees the old rule, and finds its map empty. So the old chain has to stay for a while.
    """
    if "vmap" not in text:
        return {name: _chain([text])}
    inner = f"{name}-{_digest(text)[:8]}"
    return {name: _chain([f"goto {inner}"]), inner: _chain([text])}


def _begin(wanted: Wanted) -> list[str]:
    """A flow begins with the packet that opens it; the middle of one that is over is refused."""
    opening = f"tcp flags & (fin|syn|rst|ack) != syn goto {REFUSE}"
    ways = ["meta nfproto ipv4 goto find-4", "goto find-6"]
    return [opening, *ways] if wanted.protocol == "tcp" else ways


def _find(wanted: Wanted, version: int) -> list[str]:
    """Where a client was sent before. The packet's priority carries the server's number from one
    map to the next: of all that a rule can write to, it matters least, and it is zero again after.
    """
    if not wanted.sticky:
        return [f"goto pick-{version}"]
    return [
        "meta priority set 0:0",
        f"meta priority set {ADDRESS[version]} map @{CLIENTS}-{version}",
        "jump known",
        f"goto pick-{version}",
    ]


def _allowed(wanted: Wanted) -> list[str]:
    if wanted.allow is None:
        return ["goto begin"]
    rules = [
        f"{ADDRESS[version]} {{ {', '.join(networks)} }} goto begin"
        for version, networks in zip((4, 6), wanted.allow, strict=True)
        if networks
    ]
    return [*rules, f"goto {REFUSE}"]


def _ports(wanted: Wanted) -> str:
    return f"{wanted.protocol} dport {{ {', '.join(map(str, wanted.ports))} }}"


def _each(
    targets: Iterable[Target], before: str, address: str, port: str, verdict: str
) -> list[str]:
    """A rule for each IP version about packets to or from these servers."""
    rules = []
    for version, family in FAMILY.items():
        places = sorted({f"{it.address} . {it.port}" for it in targets if it.version == version})
        if places:
            match = f"{family} {address} . th {port} {{ {', '.join(places)} }}"
            rules.append(f"{before}{match} {verdict}")
    return rules


def _chain(rules: Iterable[str], hook: Hook | None = None, whose: str = "") -> Chain:
    return Chain(tuple(f'{each} comment "{mark(each, whose)}"' for each in rules), hook)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
