# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage userdata: what to give to a cloud so that a VM boots as a core, or with agents."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cnsmo.manage import durations
from cnsmo.manage.command import Command
from cnsmo.model.errors import InvalidRequest

if TYPE_CHECKING:
    from cnsmo.boot.parameters import AgentParameters, CoreParameters

P = TypeVar("P", "AgentParameters", "CoreParameters")

SOURCE = {
    "requirements": (
        "PLACE",
        "URL or path of the requirements file to install from; default: none",
    ),
    "requirements_sha256": ("DIGEST", "its SHA-256"),
    "wheelhouse": ("PLACE", "URL or path of a directory of wheels, instead of an index"),
    "index": ("URL", "package index to use; default: that of the image"),
    "signal": ("URL", "whom to tell the outcome"),
    "signal_token": ("TOKEN", "to be sent with it, as X-Auth-Token"),
}
AGENT = {
    "core": ("URL", "where to join: https://ADDRESS:PORT of cnsmo-core"),
    "ca": ("FINGERPRINT", "of the core's authority; default: of the authority that is here"),
    "token": ("TOKEN", "a join token; default: made now, for the groups"),
    "services": ("LIST", "SERVICE or SERVICE/DRIVER, with commas; default: all"),
    "name": ("NAME", "in the deployment; default: the VM's host name"),
    "site": ("SITE", "default: the availability zone"),
    "public": ("ADDRESS", "where other sites reach it, with commas; default: what the cloud says"),
}
CORE = {
    "deployment": ("NAME", "the first deployment, made at the first boot"),
    "address": ("HOST", "where agents reach the core; default: the VM's own address"),
    "volume": ("DEVICE", "block device, or id of the volume, for the core's state"),
}

PLACEHOLDER = "t-none.none"


class _UserdataCommand(Command):
    """Renders cloudinit/ROLE.yaml."""

    texts: Mapping[str, tuple[str, str]]
    """Parameters that are options: NAME to (metavar, help)."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        for name, (metavar, told) in {**self.texts, **SOURCE}.items():
            option = f"--{name.replace('_', '-')}"
            parser.add_argument(option, dest=name, default="", metavar=metavar, help=told)
        parser.add_argument(
            "--wait",
            type=durations.seconds,
            default=900,
            metavar="DURATION",
            help="how long the VM has until it is ready; default: 15m",
        )
        parser.add_argument(
            "--with",
            dest="parts",
            action="append",
            default=[],
            metavar="FILE",
            help="more user-data for the same VM; makes a MIME message of several parts",
        )
        parser.add_argument("--mime", action="store_true", help="make a MIME message anyway")
        parser.add_argument("--gzip", action="store_true", help="compress it; needs --output")
        parser.add_argument(
            "-o", "--output", metavar="FILE", help="write it there (mode 0600), not to the terminal"
        )
        return parser

    def given(self, args: argparse.Namespace) -> dict[str, str]:
        """The parameters that were said, by name."""
        found = {name: str(getattr(args, name)) for name in (*self.texts, *SOURCE, "wait")}
        return {name: value for name, value in found.items() if value}

    def others(self, args: argparse.Namespace) -> list[str]:
        """The other parts of the user-data; asked for before anything is made.

        :raises InvalidRequest: when one cannot be read, or what is asked for cannot be had.
        """
        if args.gzip and not args.output:
            raise InvalidRequest("--gzip: say with --output FILE where to write it")
        return [self._read(name) for name in args.parts]

    def deliver(
        self,
        args: argparse.Namespace,
        parameters: AgentParameters | CoreParameters,
        others: Sequence[str],
    ) -> None:
        """Render, and give it to who asked."""
        from cnsmo.boot import render

        text = render.render(parameters)
        if others or args.mime:
            text = render.multipart(text, others)
        made = render.packed(text, args.gzip)
        if not args.output:
            self.app.stdout.write(text)
            return
        self._write(args.output, made)
        self.note(f"{args.output}: {len(made):,} bytes. Treat it as a secret.")

    def _read(self, name: str) -> str:
        try:
            return (self.app.cwd / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidRequest(f"--with {name}: {getattr(exc, 'strerror', exc)}") from exc

    def _write(self, name: str, made: bytes) -> None:
        from cnsmo.files import write_file

        path: Path = self.app.cwd / name
        try:
            write_file(path, made)
        except OSError as exc:
            raise InvalidRequest(f"--output {name}: {exc.strerror}") from exc


class Agent(_UserdataCommand):
    """Print the user-data of VMs whose agents join a core.

    Without --token a token is made for the groups. Any cloud that starts VMs with cloud-init takes
    it; Heat takes cloudinit/agent.yaml itself, with the same parameters as server metadata.
    """

    in_deployment = True
    writes = True
    texts = AGENT
    examples = """
cnsmo-manage userdata agent --core https://198.51.100.10:8743 --group web --uses 5 -o web.yaml
cnsmo-manage userdata agent --core https://core.example.net:8743 --ca FINGERPRINT --token TOKEN
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add = parser.add_argument
        add(
            *("-g", "--group"),
            action="append",
            default=[],
            metavar="GROUP",
            help="a group for the VMs; may be repeated",
        )
        add("--uses", type=int, default=1, metavar="N", help="for how many VMs; default: 1")
        add(
            "--lifetime",
            type=durations.seconds,
            default=3600,
            metavar="DURATION",
            help="how long VMs can join with it; default: 1h",
        )
        add("--behind-nat", action="store_true", help="nobody can call these VMs")
        add("--leave", action="store_true", help="a VM that is shut down leaves the deployment")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.boot.parameters import AgentParameters

        given, others = self.given(parsed_args), self.others(parsed_args)
        if not parsed_args.core:
            raise InvalidRequest("--core: say where to join, as https://ADDRESS:8743")
        given |= {"nat": "true"} if parsed_args.behind_nat else {}
        given |= {"leave": "shutdown"} if parsed_args.leave else {}
        if parsed_args.token and parsed_args.group:
            raise InvalidRequest("--group: what groups a token grants was said when it was made")
        if "ca" not in given:
            given["ca"] = self._fingerprint()
        if "token" not in given:
            # What is wrong is found before a token is made for it.
            checked(AgentParameters, given | {"token": PLACEHOLDER})
            given["token"] = self._token(parsed_args)
        self.deliver(parsed_args, checked(AgentParameters, given), others)

    def _fingerprint(self) -> str:
        from cnsmo.trust import authority

        return authority.load(Path(self.session.conf.join.ca_directory)).fingerprint

    def _token(self, args: argparse.Namespace) -> str:
        from cnsmo.model.messages import TokenRequest

        if args.dry_run:
            self.note(f"Dry run: no token was made; {PLACEHOLDER} stands in its place.")
            return PLACEHOLDER
        request = TokenRequest(groups=args.group, lifetime=args.lifetime, uses=args.uses)
        return str(self.session.client.token_create(self.deployment(args), request).token)


class Core(_UserdataCommand):
    """Print the user-data of a VM that becomes a core, with a broker and a database of its own.

    With --deployment and --group it also makes the first deployment and tokens for it, which go to
    whom --signal names.
    """

    texts = CORE
    examples = """
cnsmo-manage userdata core --deployment shop --group web=5 --group edge=1 -o core.yaml
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            *("-g", "--group"),
            action="append",
            default=[],
            metavar="GROUP=USES",
            help="make a token for so many VMs of a group; may be repeated",
        )
        parser.add_argument(
            "--lifetime",
            type=durations.seconds,
            default=7200,
            metavar="DURATION",
            help="how long these tokens can be used; default: 2h",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.boot.parameters import CoreParameters

        given = self.given(parsed_args)
        given["groups"] = ",".join(parsed_args.group)
        given["token_life"] = str(int(parsed_args.lifetime))
        if given["groups"] and "deployment" not in given:
            raise InvalidRequest("--group: say with --deployment of which one")
        self.deliver(parsed_args, checked(CoreParameters, given), self.others(parsed_args))


def checked(kind: type[P], given: Mapping[str, str]) -> P:
    """Parameters that a VM would take, too.

    :raises InvalidRequest: naming the options that are wrong.
    """
    from pydantic import ValidationError

    from cnsmo.model.wording import in_words

    try:
        return kind.model_validate(dict(given))
    except ValidationError as exc:
        told = in_words(exc).replace("signal_token", "signal-token")
        raise InvalidRequest(f"--{told}") from exc
