# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage bus: what the broker has, against what it should have."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from cnsmo.manage.command import ListCommand

COLUMNS = "Kind", "Name", "Host ID", "Problem", "Remedy"
UNTOUCHED = "yours: not made by CNSMO"


class Audit(ListCommand):
    """Find accounts, exchanges and queues at the broker without an agent, and the reverse.

    The cores look by themselves, every [bus] audit_interval, and put right what they made. What
    CNSMO did not make is only shown. Where [bus] broker is 'none' there is nothing to find.
    """

    examples = """
cnsmo-manage bus audit
cnsmo-manage bus audit --fix
cnsmo-manage bus audit -f json
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--fix", action="store_true", help="put right what is found, except what is not ours"
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]:
        found = self.session.client.bus_audit(parsed_args.fix)
        done = {"make": "made anew", "delete": "deleted", "replace": "made anew"}
        todo = {"make": "make it", "delete": "delete it", "replace": "make it anew"}
        words = done if parsed_args.fix else todo
        return COLUMNS, [
            (
                finding.kind,
                finding.name,
                finding.agent or None,
                finding.problem,
                words[finding.remedy] if finding.mendable else UNTOUCHED,
            )
            for finding in found
        ]

    def empty(self, args: argparse.Namespace) -> str:
        return "The broker has what it should have, and nothing else."
