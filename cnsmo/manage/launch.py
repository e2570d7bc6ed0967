# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage cloud launch: VMs of a group, from nothing to ready."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cnsmo.manage import durations, userdata
from cnsmo.manage.cloud import CloudCommand
from cnsmo.manage.errors import NotInForce
from cnsmo.model.errors import CnsmoError, InvalidRequest

if TYPE_CHECKING:
    from cnsmo.boot.parameters import AgentParameters
    from cnsmo.cloud.deployer import Deployer, Order
    from cnsmo.cloud.launch import Missing
    from cnsmo.model.messages import TokenStatus

OWN = ("token", "name", "public", "signal", "signal_token")
"""Parameters of user-data that are not asked for: each VM has its own, or none."""
MARGIN = 600
"""Seconds that the token lives longer than it should have to."""
PULSE = 1.0
MOST = 1000


class Launch(CloudCommand):
    """Make VMs of a group that boot with CNSMO, and wait until their agents are ready.

    They are called PREFIX0, PREFIX1 and so on. Those that are there already are left alone, so
    that the same command may be given again, or with a larger --count. If one cannot be made, those
    that this launch has made are removed again.
    """

    writes = True
    examples = """
cnsmo-manage cloud launch web --count 3 --flavor m1.small --image debian-12 --network lan \\
    --core https://10.1.0.5:8743
cnsmo-manage cloud launch web --count 5 ...      # two more
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add = parser.add_argument
        add("group", metavar="GROUP", help="the group that the hosts are in")
        add("--count", type=int, default=1, metavar="N", help="how many there shall be; default: 1")
        add("--prefix", default="", help="what their names begin with; default: the group")
        add("--flavor", default="", help="name or id")
        add("--image", default="", help="name or id: Debian, Ubuntu or the like, with cloud-init")
        add("--network", default="", help="name or id")
        add("--key", default="", help="name of an SSH key of yours; CNSMO needs none")
        add(
            *("--security-group",),
            action="append",
            default=[],
            metavar="GROUP",
            help="name or id; may be repeated; default: the cloud's own",
        )
        add("--config-drive", action="store_true", help="for a cloud without metadata service")
        add("--behind-nat", action="store_true", help="nobody can call these VMs")
        for name, (metavar, told) in {**userdata.AGENT, **userdata.SOURCE}.items():
            if name not in OWN:
                option = f"--{name.replace('_', '-')}"
                add(option, dest=name, default="", metavar=metavar, help=told)
        for option, default, told in (
            ("--patience", 600, "until a VM runs; default: 10m"),
            ("--wait", 900, "until its agents are ready; default: 15m"),
        ):
            add(option, type=durations.seconds, default=default, metavar="DURATION", help=told)
        add("--no-wait", action="store_true", help="do not wait for the agents")
        add("--keep", action="store_true", help="of a launch that fails, leave what was made")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.cloud import launch

        name, deployer = self.deployment(parsed_args), self.deployer(parsed_args)
        names = self._names(parsed_args)
        draft = self._parameters(parsed_args, userdata.PLACEHOLDER)
        missing = launch.missing(deployer, name, names)
        if missing.there:
            self.note(f"There already: {', '.join(one.name for one in missing.there)}.")
        if parsed_args.dry_run:
            self._say_what(missing)
            return
        self._clear(deployer, missing)
        if missing.orders:
            self._launch(deployer, name, missing, parsed_args, draft)
        if parsed_args.no_wait:
            self.say(f"{len(names)} VMs of {parsed_args.group} run.")
        else:
            self._ready(name, names, parsed_args.wait)

    def _launch(
        self,
        deployer: Deployer,
        deployment: str,
        missing: Missing,
        args: argparse.Namespace,
        draft: AgentParameters | None,
    ) -> None:
        """Make what is missing; of a VM that cannot be, the token is no use any more."""
        from cnsmo.cloud import launch

        tokens: dict[str, TokenStatus] = {}
        one = launch.Launch(deployer, self._show)
        try:
            orders = []
            for order in missing.orders:
                said = None
                if draft is not None:
                    made = tokens[order.name] = self._token(deployment, args)
                    said = draft.model_copy(update={"token": str(made.token), "name": order.name})
                orders.append(self._order(order, args, said))
            one.run(orders, args.patience, args.keep)
        except BaseException:
            kept = {server.name for server in one.made} if args.keep else set()
            for name, token in tokens.items():
                if name not in kept:
                    self._take_back(deployment, name, token)
            raise

    def _take_back(self, deployment: str, name: str, token: TokenStatus) -> None:
        try:
            self.session.client.token_revoke(deployment, token.id)
        except CnsmoError as exc:
            self.note(f"{name}: its token {token.id} is not revoked: {exc}")

    def _names(self, args: argparse.Namespace) -> list[str]:
        from cnsmo.model.names import check_group, check_label

        if not 1 <= args.count <= MOST:
            raise InvalidRequest(f"--count: from 1 to {MOST:,}")
        names = [f"{args.prefix or args.group}{number}" for number in range(args.count)]
        try:
            check_group(args.group)
            check_label(names[-1])
        except ValueError as exc:
            raise InvalidRequest(str(exc)) from exc
        return names

    def _parameters(self, args: argparse.Namespace, token: str) -> AgentParameters | None:
        """What the VMs are told; None where they need no telling."""
        from cnsmo.boot.parameters import AgentParameters
        from cnsmo.trust import authority

        if (args.deployer or self.session.conf.cloud.deployer) != "openstack":
            return None
        if not args.core:
            raise InvalidRequest("--core: say where to join, as https://ADDRESS:8743")
        names = [name for name in (*userdata.AGENT, *userdata.SOURCE) if name not in OWN]
        given = {name: str(getattr(args, name)) for name in names if getattr(args, name)}
        if "ca" not in given:
            folder = Path(self.session.conf.join.ca_directory)
            given["ca"] = authority.load(folder).fingerprint
        given |= {"nat": "true"} if args.behind_nat else {}
        given |= {"token": token, "wait": str(int(args.wait))}
        return userdata.checked(AgentParameters, given)

    def _token(self, deployment: str, args: argparse.Namespace) -> TokenStatus:
        """For one VM: who reads its user-data can take its place, and nobody else's."""
        from cnsmo.model.messages import TokenRequest

        life = int(args.patience + args.wait + MARGIN)
        request = TokenRequest(groups=[args.group], lifetime=life, uses=1)
        return self.session.client.token_create(deployment, request)

    def _order(self, order: Order, args: argparse.Namespace, said: AgentParameters | None) -> Order:
        """The whole order, with the user-data if it needs some."""
        from cnsmo.boot import render

        text = ""
        if said is not None:
            text = render.render(said)
            render.packed(text, compress=False)
        return dataclasses.replace(
            order,
            groups=(args.group,),
            user_data=text,
            flavor=args.flavor,
            image=args.image,
            network=args.network,
            key=args.key,
            security_groups=tuple(args.security_group),
            config_drive=args.config_drive,
        )

    def _say_what(self, missing: Missing) -> None:
        for server in missing.broken:
            self.dry(f"remove {server.name}, which failed: {server.why}")
        names = ", ".join(order.name for order in missing.orders)
        self.dry(f"make {names}" if names else "make nothing: all are there")

    def _clear(self, deployer: Deployer, missing: Missing) -> None:
        """What failed an earlier time is made anew."""
        from cnsmo.cloud import launch

        for server in missing.broken:
            self.note(f"{server.name} failed: {server.why or 'the cloud does not say why'}")
        left = launch.remove(deployer, missing.broken, self._show)
        if left:
            raise CnsmoError("\n".join(left))

    def _show(self, name: str, how: str) -> None:
        self.note(f"{name}: {how}")

    def _ready(self, deployment: str, names: list[str], patience: float) -> None:
        """Wait for the agents; they tell the core, and it is asked."""
        from cnsmo.model.lifecycle import SETTLED

        end = time.monotonic() + patience
        waiting: dict[str, str] = dict.fromkeys(names, "has not joined")
        while waiting and time.monotonic() < end:
            for name, host in self.hosts(deployment).items():
                if name in waiting:
                    late = [agent for agent in host.agents if agent.state not in SETTLED]
                    if late or not host.agents:
                        said = [f"{it.service} {it.state} {it.reason}".strip() for it in late]
                        waiting[name] = ", ".join(said) or "has said nothing yet"
                    else:
                        del waiting[name]
                        self._show(name, "ready")
            if waiting:
                time.sleep(PULSE)
        if waiting:
            told = "\n".join(f"{name}: {how}" for name, how in sorted(waiting.items()))
            raise NotInForce(f"{told}\nNot ready after {durations.words(patience)}; the VMs stay.")
        self.say(f"{len(names)} hosts are ready.")
