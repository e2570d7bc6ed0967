# SPDX-License-Identifier: Apache-2.0
"""The commands of tools/openstack-lab."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from openstacklab import plumbing
from openstacklab.lab import Lab
from openstacklab.place import Options, Place
from openstacklab.processes import LabError


def main() -> int:
    """One command."""
    args = _parser().parse_args()
    place = Place(args.directory.resolve())
    lab = Lab(place, say)
    try:
        match args.command:
            case "start":
                lab.start(Options(virt=args.virt, octavia=args.octavia))
                say(f"export OS_CLIENT_CONFIG_FILE={place.path('clouds.yaml')} OS_CLOUD=lab")
            case "stop":
                lab.stop()
            case "cli":
                os.environ |= {"OS_CLIENT_CONFIG_FILE": str(place.path("clouds.yaml"))}
                os.environ.setdefault("OS_CLOUD", "lab")
                os.environ["NO_PROXY"] = "*"
                os.execv(lab.processes.bin / "openstack", ["openstack", *args.words])
            case "exec":
                os.execvp("ip", lab.processes.inside(*args.words))
            case _:
                return _status(lab, place)
    except LabError as exc:
        sys.stderr.write(f"openstack-lab: {exc}\n")
        return 1
    return 0


def _status(lab: Lab, place: Place) -> int:
    found = lab.status()
    for name, alive in found.items():
        say(f"{name:16} {'running' if alive else 'ENDED'}")
    if not found or not plumbing.there(place):
        say(f"no lab is in {place.directory}")
        return 3
    return 0 if all(found.values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="openstack-lab", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp/cnsmo-openstack"))
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="from nothing")
    start.add_argument("--virt", choices=["fake", "libvirt"], default="fake")
    start.add_argument("--octavia", action="store_true", help="its API and worker, no amphorae")
    commands.add_parser("stop", help="end it, and leave nothing")
    commands.add_parser("status", help="which daemons run; exit code 3 without a lab")
    for name, told in (
        ("exec", "run a program in the lab's network"),
        ("cli", "the command openstack, with the packages of the lab"),
    ):
        commands.add_parser(name, help=told).add_argument("words", nargs=argparse.REMAINDER)
    return parser


def say(text: str) -> None:
    """A line for the person."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
