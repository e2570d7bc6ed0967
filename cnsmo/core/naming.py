# SPDX-License-Identifier: Apache-2.0
"""Which names newcomers may have: none by which policies would take them for somebody else.

Policies name hosts and groups, often by a bare word; a host's name is its own choice. So no host is
named like a group, no group like a host; and whom a document names, nobody becomes by chance.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from cnsmo.model.errors import Conflict
from cnsmo.model.messages import TokenRequest
from cnsmo.model.names import ALL
from cnsmo.model.reading import read
from cnsmo.model.resource import HOST
from cnsmo.services import registry
from cnsmo.services.base import Mentions
from cnsmo.services.firewall.terms import ANY
from cnsmo.state import identities, tokens
from cnsmo.state.writer import Writer

Key = tuple[int, str, str, datetime.datetime]
REMEMBERED = 4096
"""Instances whose names are kept; there are a few in each deployment."""


class Naming:
    """Asked inside the writes that let somebody in. Remembers what it parsed: a document may be
    long, and it changes seldom."""

    def __init__(self) -> None:
        self._known: dict[Key, Mentions] = {}

    def refuse_host(self, writer: Writer, name: str, bound: bool) -> None:
        """Refuse a newcomer that would be taken for somebody else.

        bound: whether an operator made its token for this very name.

        :raises Conflict: naming the remedy.
        """
        named, where = self._mentioned(writer), f"deployment {writer.deployment!r}"
        if name in named.groups | _groups(writer):
            raise Conflict(
                f"{name!r} is the name of a group in {where}, and so of no host: choose another "
                "name ([host] name)"
            )
        if not bound and name in named.hosts | named.words:
            raise Conflict(
                f"what is declared in {where} names {name!r}: only a token that is bound to this "
                f"name lets a host take it ('cnsmo-manage token create --host {name}'); or choose "
                "another name ([host] name)"
            )

    def refuse_token(self, writer: Writer, request: TokenRequest) -> None:
        """Refuse a token by which a group or a host would be taken for the other.

        :raises Conflict: naming which.
        """
        named = self._mentioned(writer)
        for group in request.groups:
            former = group in named.words and identities.was_host(writer, group)
            if writer.get(HOST, group) or group in named.hosts or former:
                raise Conflict(
                    f"{group!r} is the name of a host in deployment {writer.deployment!r}, or a "
                    "document names one so: choose another name for the group"
                )
        if request.host in named.groups | _groups(writer) | set(request.groups):
            raise Conflict(
                f"{request.host!r} is the name of a group in deployment {writer.deployment!r}: "
                "choose another name for the host"
            )

    def _mentioned(self, writer: Writer) -> Mentions:
        """Whom all that is declared names."""
        found = list(self._of_instances(writer))
        return Mentions(
            hosts=frozenset().union(*(it.hosts for it in found)),
            groups=frozenset().union(*(it.groups for it in found)),
            words=frozenset().union(*(it.words for it in found)),
        )

    def _of_instances(self, writer: Writer) -> Iterator[Mentions]:
        if len(self._known) > REMEMBERED:
            self._known.clear()
        for kind, name, written in writer.stamps(registry.services()):
            key = (writer.deployment_id, kind, name, written)
            if key not in self._known:
                service, row = registry.service(kind), writer.get(kind, name)
                body = row.body if row else {}
                self._known[key] = service.mentions(read(service.Spec, body))
            yield self._known[key]


def _groups(writer: Writer) -> set[str]:
    """All groups that a host holds or a token grants; and words that mean more than one host."""
    held = (group for row in writer.rows(HOST) for group in row.body.get("groups", ()))
    return {ALL, ANY, *held, *tokens.granted(writer.connection, writer.deployment_id)}
