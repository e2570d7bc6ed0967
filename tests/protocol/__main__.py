# SPDX-License-Identifier: Apache-2.0
"""The model check of the sync protocol within larger bounds: python -m tests.protocol [BOUNDS]."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator

from tests.protocol.explorer import Explorer
from tests.protocol.world import Bounds, World

FULL = (
    Bounds(changes=0, moves=0, spare=1),
    Bounds(changes=1, moves=1, spare=0),
    Bounds(changes=0, moves=0, spare=2, settled=True),
    Bounds(changes=4, moves=0, spare=0, settled=True),
)
"""What is explored when no bounds are given; the largest last."""


def chosen() -> Iterator[Bounds]:
    """The bounds that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.protocol", description=__doc__)
    for field in ("changes", "moves", "spare"):
        parser.add_argument(f"--{field}", type=int, help="how many may happen, at most")
    parser.add_argument("--settled", action="store_true", help="begin when hosts are ready")
    given = vars(parser.parse_args())
    if not any(given.values()):
        yield from FULL
    else:
        yield Bounds(**{name: value or 0 for name, value in given.items()})


def explore(bounds: Bounds) -> bool:
    """Explore, and tell how it went; returns whether all is as it should be."""
    print(", ".join(f"{name} {value}" for name, value in dataclasses.asdict(bounds).items()))
    world = World(bounds)
    found = Explorer(world, lambda line: print(f"  {line}", file=sys.stderr, flush=True)).run()
    print(found)
    print(f"{world.overwritten} steps in which a late report replaced a later one", flush=True)
    return not found.problem


if __name__ == "__main__":
    right = [explore(bounds) for bounds in chosen()]
    sys.exit(not all(right))
