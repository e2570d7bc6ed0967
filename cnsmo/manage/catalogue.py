# SPDX-License-Identifier: Apache-2.0
"""All commands, found by their entry points; only the one that runs is imported."""

from __future__ import annotations

import importlib.metadata

from cliff import commandmanager

from cnsmo.model.errors import CnsmoError


class Catalogue(commandmanager.CommandManager):
    """Commands by name; two of one name are an error, not a matter of luck."""

    def load_commands(self, namespace: str) -> None:
        """Note the commands of an entry point group: ``host_list`` is ``host list``."""
        self.group_list.append(namespace)
        for entry in importlib.metadata.entry_points(group=namespace):
            name = entry.name.replace("_", " ")
            known = self.commands.get(name)
            if known is not None and known.value != entry.value:
                raise CnsmoError(
                    f"two packages bring the command {name!r}: {known.value} and {entry.value}; "
                    "remove one of them"
                )
            self.commands[name] = entry

    def nouns(self) -> dict[str, list[str]]:
        """Commands by their first word."""
        found: dict[str, list[str]] = {}
        for name in sorted(self.commands):
            found.setdefault(name.split()[0], []).append(name)
        return found
