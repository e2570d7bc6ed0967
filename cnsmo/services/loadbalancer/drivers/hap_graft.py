# SPDX-License-Identifier: Apache-2.0
"""The servers that are wanted, in the structure that runs; pure.

HAProxy may refuse another structure: a port is taken, a certificate is none that it likes. Then who
leaves shall leave all the same, and who comes shall serve, in the pools that are as they were.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from cnsmo.services.loadbalancer.drivers.hap_plan import Key
from cnsmo.services.loadbalancer.drivers.hap_render import Backend, Config
from cnsmo.services.loadbalancer.drivers.hap_server import BACKUP, HapServer
from cnsmo.services.loadbalancer.drivers.hap_stat import Seen

_SECTION = re.compile(r"^(?=backend )", re.MULTILINE)
_SERVER, _COMMON, _ORDERED = "server ", "default-server ", "balance first"


def graft(
    running: str, fingerprint: str, wanted: Config, seen: Iterable[Seen], leaving: Collection[Key]
) -> Config | None:
    """What runs, but with the servers that are wanted in each pool whose structure stays. A pool
    that is to be another one, or none, keeps its servers as they are.

    running: the file, as Config.text() made it. leaving: of those who were told to leave already.

    :return: None where the file is not of that fingerprint, and so not what runs.
    """
    head, *sections = _SECTION.split(running)
    if f' {fingerprint}"\n' not in head:
        return None
    known = {it.name: it for it in wanted.backends}
    there = [it for it in seen if it.key not in leaving]
    return Config(head, tuple(_backend(it, known, there) for it in sections), fingerprint)


def _backend(section: str, known: dict[str, Backend], seen: Iterable[Seen]) -> Backend:
    first, *lines = (line.strip() for line in section.splitlines() if line.strip())
    name = first.removeprefix("backend ")
    structure = tuple(line for line in lines if not line.startswith(_SERVER))
    if name in known and known[name].lines == structure:
        return known[name]
    common = next((it.removeprefix(_COMMON) for it in structure if it.startswith(_COMMON)), "")
    places = {line.split()[1]: at for at, line in enumerate(lines) if line.startswith(_SERVER)}
    mine = [it for it in seen if it.pool == name]
    mine.sort(key=lambda it: places.get(it.name, len(lines)))
    ordered = _ORDERED in structure
    return Backend(name, structure, common, tuple(_as_it_is(it, ordered) for it in mine))


def _as_it_is(known: Seen, ordered: bool) -> HapServer:
    return HapServer(
        pool=known.pool,
        name=known.name,
        host=known.name.partition("_")[0],
        address=known.address,
        port=known.port,
        ident=0 if ordered else known.ident,
        weight=known.weight,
        backup=known.name.endswith(BACKUP),
        stopped=known.stopped,
        checked=known.checking,
        ordered=ordered,
    )
