# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks [--smoke] [--only NAME] [--sizes N,N] [--out FILE.json]``: measure, and
show a table."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import logging
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

import cnsmo.cmd  # noqa: F401  chooses the threading backend
from benchmarks import catalogue, table
from benchmarks.figures import Figure
from benchmarks.run import Run
from benchmarks.scale import FULL, SMOKE
from cnsmo import conf

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit code is 0 even when a target is missed: the table says so."""
    asked = _parser().parse_args(argv)
    logging.getLogger("amqp").setLevel(logging.ERROR)  # it warns of every channel that is closed
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    conf.register()
    conf.CONF([], project="cnsmo", default_config_files=[], default_config_dirs=[])
    names = asked.only or list(catalogue.BENCHMARKS)
    figures: dict[str, list[Figure]] = {}
    machine = _machine()
    try:
        scale = SMOKE if asked.smoke else FULL
        if asked.sizes:
            scale = dataclasses.replace(scale, fleet_sizes=asked.sizes)
        with Run(scale, asked.keep) as run:
            for name in names:
                with run.benchmark(name):
                    figures[name] = catalogue.BENCHMARKS[name](run)
    except KeyboardInterrupt:
        print("stopped; everything is taken down", file=sys.stderr)
        return 130
    finally:
        _show(figures, machine, asked.out)
    return 0


def _show(figures: dict[str, list[Figure]], machine: dict[str, Any], out: Path | None) -> None:
    console = Console()
    width = console.width if console.is_terminal else max(console.width, 170)
    Console(width=width).print(
        f"{machine['processors']} processors, load {machine['load']:.1f} before the start, "
        f"kernel {machine['kernel']}, Python {machine['python']}, {machine['at']}",
        table.table(figures),
        sep="\n",
        highlight=False,
    )
    if out is not None:
        out.write_text(json.dumps(table.document(figures, machine), indent=1) + "\n")


def _machine() -> dict[str, Any]:
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="the smallest scale: does it work?")
    parser.add_argument(
        "--only", action="append", choices=list(catalogue.BENCHMARKS), help="may be repeated"
    )
    parser.add_argument("--sizes", type=_sizes, help="numbers of agents of 'fleet', as 100,300")
    parser.add_argument("--keep", action="store_true", help="leave logs in /tmp/cnsmo-bench-*")
    parser.add_argument("--out", type=Path, help="write all samples there, as JSON")
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _interrupt(*_args: object) -> None:
    """Stop measuring; taking everything down is not interrupted a second time."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
