# SPDX-License-Identifier: Apache-2.0
"""What all VPNs made by hand have in common: nodes, files ready in advance, a daemon per node."""

from __future__ import annotations

import abc
import dataclasses
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.inside import Inside
from cnsmo.lab.vm import Vm


@dataclasses.dataclass(frozen=True)
class Node:
    """A member; several that are never up together may live in one VM. ``number``: from 1."""

    name: str
    number: int
    vm: Vm

    @property
    def underlay(self) -> str:
        """Where its VM is reached."""
        return str(self.vm.seat.address.ip)


class Overlay(abc.ABC):
    """One VPN. The first node is special where a design has one (hub, lighthouse)."""

    name: ClassVar[str]
    network: ClassVar[int]
    """Its addresses are 10.<network>.0.<number>/16."""

    def __init__(self, directory: Path, nodes: Sequence[Node]) -> None:
        """directory: exists, for nobody else."""
        self.directory = directory
        self.nodes = tuple(nodes)

    @abc.abstractmethod
    def prepare(self) -> None:
        """Write all keys and files."""

    @abc.abstractmethod
    def launch(self, node: Node) -> Inside:
        """Start the daemon of a node; returns at once."""

    def address(self, node: Node) -> str:
        """Where the node is reached inside the VPN."""
        return f"10.{self.network}.0.{node.number}"

    def _start(self, node: Node, *args: str) -> Inside:
        return Inside(node.vm, *args, log=self.directory / f"{node.name}.log")

    def _write(self, name: str, text: str, mode: int = 0o600) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def _run(self, *args: str, stdin: str = "") -> str:
        done = subprocess.run(
            args, input=stdin, capture_output=True, text=True, cwd=self.directory, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{args}: {done.stderr or done.stdout}")
        return done.stdout
