# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage ca: the certificate authority. These go to its file directly; no core is asked."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsmo.manage import durations
from cnsmo.manage.cells import Moment, Names
from cnsmo.manage.command import Command, ShowCommand

if TYPE_CHECKING:
    from cnsmo.trust.authority import Authority


class _CaCommand(ShowCommand):
    """Shows an authority, whatever it did to it."""

    def _directory(self) -> Path:
        return Path(self.session.conf.join.ca_directory)

    def _shown(
        self, args: argparse.Namespace, ca: Authority
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        former = [
            f"{fingerprint} (until {until:%Y-%m-%d %H:%M} UTC)"
            if args.formatter == "table"
            else fingerprint
            for fingerprint, until in ca.former(_now())
        ]
        columns: tuple[str, ...] = ("Fingerprint", "Expires", "Also believed", "Directory")
        values: tuple[Any, ...] = (
            ca.fingerprint,
            Moment(ca.certificate.not_valid_after_utc),
            Names(former, lines=True),
            str(self._directory()),
        )
        if args.formatter != "table":
            columns, values = (*columns, "Certificates"), (*values, ca.bundle(_now()))
        return columns, values


class Init(_CaCommand):
    """Make the certificate authority by which VMs know the core, and the core knows VMs.

    Run it once, as the user that runs cnsmo-core. The fingerprint goes into the VMs' user-data
    ([agent] ca_fingerprint). The directory holds the key: back it up, and show it to nobody.
    """

    writes = True
    examples = """
cnsmo-manage ca init
cnsmo-manage ca init -f value -c fingerprint
"""

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        from cnsmo.model.errors import Conflict
        from cnsmo.trust import authority

        if parsed_args.dry_run:
            if (self._directory() / authority.FILE).exists():
                raise Conflict(authority.taken(self._directory()))
            self.note("Dry run: nothing was made; the fingerprint is another each time.")
            return ("Directory",), (str(self._directory()),)
        return self._shown(parsed_args, authority.create(self._directory(), _now()))


class Show(_CaCommand):
    """Show the certificate authority: the fingerprint is what user-data pins."""

    examples = """
cnsmo-manage ca show
cnsmo-manage ca show -f value -c fingerprint
"""

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        from cnsmo.trust import authority

        return self._shown(parsed_args, authority.load(self._directory()))


class Rotate(_CaCommand):
    """Replace the certificate authority by a new one; the old one is believed for a while still.

    In that time certificates of both are good, hosts renew theirs, and VMs that pin either
    fingerprint can join. Running cores notice by themselves. Was the old key stolen? Then
    '--overlap 0s': hosts go on working until they renew, and VMs that pin the old fingerprint
    cannot join any more.
    """

    writes = True
    examples = """
cnsmo-manage ca rotate
cnsmo-manage ca rotate --overlap 30d --dry-run
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--overlap",
            type=durations.seconds,
            metavar="DURATION",
            help="as 30d; default: the life of a host's certificate ([join] certificate_life)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        from cnsmo.trust import authority

        seconds = parsed_args.overlap
        if seconds is None:
            seconds = self.session.conf.join.certificate_life
        old = authority.load(self._directory())
        if parsed_args.dry_run:
            told = durations.words(seconds)
            self.note(f"Dry run: nothing was replaced; this one would be believed for {told} more.")
            return self._shown(parsed_args, old)
        overlap = datetime.timedelta(seconds=seconds)
        return self._shown(parsed_args, authority.rotate(self._directory(), _now(), overlap))


class Broker(Command):
    """Make a certificate for the broker, by which hosts know it, and the list of whom it believes.

    Writes broker.key, broker.pem and authorities.pem, each for the owner of the files alone: give
    them to the broker's account. It is good for 30 days: run it again each week, and after 'ca
    rotate', and tell RabbitMQ to read them anew (rabbitmqctl eval 'ssl:clear_pem_cache().'). The
    broker that cnsmo-boot makes has all that by itself.
    """

    writes = True
    examples = """
cnsmo-manage ca broker broker.example.net /etc/rabbitmq/cnsmo
cnsmo-manage ca broker 10.1.0.5 /etc/rabbitmq/cnsmo --dry-run
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "address", metavar="ADDRESS", help="where agents find the broker: an address or a name"
        )
        parser.add_argument(
            "directory", metavar="DIRECTORY", type=Path, help="where the files go; made if need be"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.files import write_file
        from cnsmo.model.errors import InvalidRequest
        from cnsmo.trust import authority, broker

        ca = authority.load(Path(self.session.conf.join.ca_directory))
        try:
            made = broker.files(ca, parsed_args.address, _now())
        except ValueError as exc:
            raise InvalidRequest(
                f"{ascii(parsed_args.address)} is neither an address nor a name: {exc}"
            ) from exc
        paths = [parsed_args.directory / name for name in made]
        listed = ", ".join(map(str, paths))
        if parsed_args.dry_run:
            self.dry(f"write {listed}")
            return
        for path, text in zip(paths, made.values(), strict=True):
            write_file(path, text)
        self.say(f"Wrote {listed}.")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
