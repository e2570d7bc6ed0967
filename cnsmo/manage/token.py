# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage token: who holds a join token may become a host, in the groups that it grants."""

from __future__ import annotations

import argparse
import datetime
from typing import TYPE_CHECKING, Any

from cnsmo.manage import durations
from cnsmo.manage.cells import Moment, Names
from cnsmo.manage.command import Command, ListCommand, ShowCommand
from cnsmo.model.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from cnsmo.model.messages import TokenStatus

YEAR = 365 * 86400
MAX_USES = 100_000


class Create(ShowCommand):
    """Make a join token.

    Put it into /etc/cnsmo/join.token on the VM, or into its user-data. Its text is shown this one
    time. Groups are granted by the token alone; a host cannot claim others. Every host is in the
    group 'all'.
    """

    in_deployment = True
    writes = True
    examples = """
cnsmo-manage token create --group web
cnsmo-manage token create --group web --group edge --uses 20 --lifetime 7d
cnsmo-manage token create --host web1 --source 10.1.0.0/24
cnsmo-manage token create --group web --addresses 10.1.0.0/24 --addresses 203.0.113.0/28
cnsmo-manage token create -f value -c token > join.token
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "-g",
            "--group",
            action="append",
            default=[],
            metavar="GROUP",
            help="a group for the hosts that join with it; may be repeated",
        )
        parser.add_argument(
            "--lifetime",
            type=durations.seconds,
            default=3600,
            metavar="DURATION",
            help="how long it can be used: as 30m, 1h, 7d; default: 1h, at most a year",
        )
        parser.add_argument(
            "--uses",
            type=int,
            default=1,
            metavar="N",
            help=f"how many hosts can join with it; default: 1, at most {MAX_USES:,}",
        )
        parser.add_argument(
            "--host", metavar="NAME", help="bind it to a host of that name; default: any"
        )
        parser.add_argument(
            "--source",
            metavar="NETWORK",
            help="bind it to the addresses of a network, as 10.1.0.0/24, from which the core must "
            "see the host come; default: any",
        )
        parser.add_argument(
            "--addresses",
            action="append",
            default=[],
            metavar="NETWORK",
            help="a network in which the hosts may say to be; others' firewalls and balancers "
            "believe no other address of theirs; may be repeated; default: any",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        from pydantic import ValidationError

        from cnsmo.model.messages import TokenRequest
        from cnsmo.model.wording import in_words

        if not 1 <= parsed_args.lifetime <= YEAR:
            raise InvalidRequest("--lifetime: from 1 second to 365 days")
        if not 1 <= parsed_args.uses <= MAX_USES:
            raise InvalidRequest(f"--uses: from 1 to {MAX_USES:,}")
        try:
            request = TokenRequest(
                groups=parsed_args.group,
                lifetime=parsed_args.lifetime,
                uses=parsed_args.uses,
                host=parsed_args.host,
                source=parsed_args.source,
                addresses=parsed_args.addresses,
            )
        except ValidationError as exc:
            option = str(exc.errors()[0]["loc"][0]).replace("groups", "group")
            raise InvalidRequest(f"--{option}: {in_words(exc)}") from exc
        name, client = self.deployment(parsed_args), self.session.client
        columns = "Deployment", "Groups", "Uses", "Expires", "Host", "Source", "Addresses"
        if parsed_args.dry_run:
            client.deployment_show(name)
            expires = datetime.datetime.now(datetime.UTC)
            expires += datetime.timedelta(seconds=request.lifetime)
            self.note("Dry run: no token was made; it would be like this.")
            bound = request.host, request.source, Names(request.addresses)
            return columns, (name, Names(request.groups), request.uses, Moment(expires), *bound)
        made = client.token_create(name, request)
        if parsed_args.formatter == "table":
            self.note("The token is shown this once. On the VM it goes into /etc/cnsmo/join.token.")
        return (*columns, "ID", "Token"), (
            name,
            Names(made.groups),
            made.uses_left,
            Moment(made.expires_at),
            made.host,
            made.source,
            Names(made.addresses),
            made.id,
            made.token,
        )


class List(ListCommand):
    """List the join tokens of a deployment; never their texts, which nobody has."""

    in_deployment = True
    examples = """
cnsmo-manage token list
"""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Any]]:
        rows = []
        for token in self.session.client.token_list(self.deployment(parsed_args)):
            groups, expires = Names(token.groups), Moment(token.expires_at)
            bound = token.host, token.source, Names(token.addresses)
            rows.append((token.id, groups, token.uses_left, expires, *bound, _status(token)))
        columns = ("ID", "Groups", "Uses left", "Expires", "Host", "Source", "Addresses", "Status")
        return columns, rows

    def empty(self, args: argparse.Namespace) -> str:
        return "There is no token yet: 'cnsmo-manage token create' makes one."


class Revoke(Command):
    """Make a join token worthless; hosts that joined with it stay."""

    in_deployment = True
    writes = True
    examples = """
cnsmo-manage token revoke t-1a2b3c4d    # the ID that 'token list' shows
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("id", metavar="ID", help="the token's ID, not its text")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        name, client = self.deployment(parsed_args), self.session.client
        ident = parsed_args.id.partition(".")[0]
        if parsed_args.dry_run:
            if ident not in {token.id for token in client.token_list(name)}:
                raise NotFound(f"deployment {name!r} has no token {ident!r}")
            self.dry(f"revoke the token {ident} of {name}")
            return
        client.token_revoke(name, ident)
        self.say(f"Token {ident} revoked.")


def is_valid(token: TokenStatus) -> bool:
    """Whether a host could join with it now."""
    return _status(token) == "valid"


def _status(token: TokenStatus) -> str:
    if token.revoked:
        return "revoked"
    if token.uses_left < 1:
        return "used up"
    return "expired" if token.expires_at <= datetime.datetime.now(datetime.UTC) else "valid"
