# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage loadbalancer: who serves, how well, and what an operator says of single hosts."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnsmo.manage import fresh
from cnsmo.manage.cells import State
from cnsmo.manage.command import Command, ListCommand
from cnsmo.manage.hosts import agent_of, seen
from cnsmo.manage.views import present
from cnsmo.model.errors import InvalidRequest, NotFound
from cnsmo.model.suggest import did_you_mean

if TYPE_CHECKING:
    from cnsmo.model.messages import HostStatus
    from cnsmo.model.resource import View
    from cnsmo.services.loadbalancer.desired import LoadBalancerDesired, Pool

SERVICE = "loadbalancer"
_BALANCERS = "Name", "Carrier", "State", "Listen", "Servers up", "Sessions", "VIP", "Reason"
_SERVERS = (
    *("Carrier", "Pool", "Server", "Address", "State", "Why", "Weight"),
    *("Sessions", "Total", "Rate", "Errors"),
)
_COLOURS = {"up": "green", "open": "green", "down": "red", "drain": "yellow", "leaving": "yellow",
            "full": "yellow"}  # fmt: skip


class Show(ListCommand):
    """Show all load balancers with their carriers, or the frontends and servers of one.

    Without NAME a line for each carrier: its agent's state, where it listens, how many servers are
    up, whether it holds the VIP. With NAME, as each carrier sees them, a line for each place where
    it listens (without a pool and a server), which says whether it holds the VIP, and one for each
    server: its state and the check's result that it comes from, weight, connections now and in all,
    the rate of new ones per second, and errors. 'leaving' is a server that left its group
    and finishes what it has.
    """

    in_deployment = True
    examples = """
cnsmo-manage loadbalancer show
cnsmo-manage loadbalancer show www
cnsmo-manage loadbalancer show www -f json --patience 0
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "name", metavar="NAME", nargs="?", help="show what this one consists of"
        )
        parser.add_argument(
            "--patience",
            type=float,
            default=fresh.PATIENCE,
            metavar="SECONDS",
            help="how long to wait for the carriers' observations; 0: show what is known; "
            f"default: {fresh.PATIENCE:g}",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], list[Any]]:
        from cnsmo.services.loadbalancer.service import LoadBalancerService

        deployment, client = self.deployment(parsed_args), self.session.client
        hosts = fresh.observed(client, deployment, parsed_args.patience)
        view = present(client, deployment)
        name, service = parsed_args.name, LoadBalancerService()
        _known(view, name)
        carried = [
            (host, instance, balancer)
            for host in hosts
            for instance, balancer in sorted(service.balancers(view, host.name).items())
            if name in (None, instance)
        ]
        if name is None:
            lines = [self._line(*each) for each in carried]
            return _BALANCERS, sorted(lines, key=lambda line: line[:2])
        self._doubts = [doubt for each in carried for doubt in _doubts(*each)]
        return _SERVERS, [
            line for each in carried for line in (*self._fronts(*each), *self._servers(*each))
        ]

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Any]
    ) -> int:
        people = parsed_args.formatter == "table" and not parsed_args.columns
        if not people:
            return super().produce_output(parsed_args, column_names, data)
        lines = list(data)
        if parsed_args.name is None:
            shown = [line[:-1] for line in lines]
            code = super().produce_output(parsed_args, _BALANCERS[:-1], shown)
            remarks = [f"{line[1]}: {line[-1]}" for line in lines if line[-1]]
        else:
            code = super().produce_output(parsed_args, _SERVERS, lines)
            remarks = self._doubts
        for remark in dict.fromkeys(remarks):  # an agent's reason is of all its balancers
            self.say(remark)
        return code

    def empty(self, args: argparse.Namespace) -> str:
        if args.name:
            return f"{args.name} has no servers yet, or no carrier."
        return "No load balancer is declared, or none has a carrier yet."

    def _line(self, host: HostStatus, name: str, balancer: LoadBalancerDesired) -> tuple[Any, ...]:
        agent, told = agent_of(host, SERVICE), _seen(host, name)
        pools = (told.get("servers") or {}).values()
        servers = [found for pool in pools for found in pool.values()]
        up = sum(found.get("state") == "up" for found in servers)
        fronts = (told.get("frontends") or {}).values()
        return (
            name,
            host.name,
            State(str(agent.state), self.style) if agent else None,
            ", ".join(_place(bind.address, bind.port) for bind in balancer.binds),
            f"{up}/{sum(len(pool.servers) for pool in balancer.pools)}" if told else None,
            sum(front.get("sessions") or 0 for front in fronts) if told else None,
            _vip(balancer, told),
            (agent.reason or None) if agent else "runs no agent of the service loadbalancer",
        )

    def _fronts(
        self, host: HostStatus, name: str, balancer: LoadBalancerDesired
    ) -> Iterator[tuple[Any, ...]]:
        """Where a carrier listens."""
        told = _seen(host, name)
        fronts = told.get("frontends") or {}
        wanted = [_place(bind.address, bind.port) for bind in balancer.binds]
        for place in dict.fromkeys([*wanted, *fronts]):
            found: Mapping[str, Any] = fronts.get(place) or {}
            state = str(found.get("state") or "open") if found else "unknown"
            vip = _vip(balancer, told)
            figures = (found.get(key) for key in ("sessions", "total", "rate", "errors"))
            yield (host.name, None, None, place, self._state(state), vip and f"VIP {vip}", None,
                   *figures)  # fmt: skip

    def _state(self, state: str) -> str:
        colour = _COLOURS.get(state)
        return self.style.paint(state, colour) if colour else state

    def _servers(
        self, host: HostStatus, name: str, balancer: LoadBalancerDesired
    ) -> Iterator[tuple[Any, ...]]:
        pools = _seen(host, name).get("servers") or {}
        for pool in balancer.pools:
            found: Mapping[str, Any] = pools.get(pool.name) or {}
            for server in sorted({*found, *(server.name for server in pool.servers)}):
                yield self._server(host.name, pool, server, found.get(server) or {})

    def _server(
        self, carrier: str, pool: Pool, server: str, told: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        wanted = next((each for each in pool.servers if each.name == server), None)
        return (
            carrier,
            pool.name,
            server,
            _place(wanted.address, wanted.port) if wanted else None,
            self._state(str(told.get("state") or "unknown")),
            told.get("why") or None,
            told.get("weight", wanted.weight if wanted else None),
            *(told.get(key) for key in ("sessions", "total", "rate", "errors")),
        )


class _Adjust(Command):
    """Base of the commands that say something of one host, in one balancer or in all it serves."""

    in_deployment = True
    writes = True

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST", help="a host that serves")
        parser.add_argument(
            "--name", metavar="NAME", help="in this load balancer; default: in all it serves"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        deployment, client = self.deployment(parsed_args), self.session.client
        view, host, patch = present(client, deployment), parsed_args.host, self._patch(parsed_args)
        taken_back = not any(patch.values())
        names = _served(view, host, parsed_args.name, or_adjusted=taken_back)
        words = [self._words(host, name, parsed_args) for name in names]
        if parsed_args.dry_run:
            for what in words:
                self.dry(what)
            return
        revision = client.adjust(deployment, SERVICE, names, host, patch)
        for what in words:
            self.say(f"{what[0].upper()}{what[1:]} in revision {revision}.")

    def _patch(self, args: argparse.Namespace) -> dict[str, Any]:
        """What is said; null takes back what was."""
        raise NotImplementedError

    def _words(self, host: str, name: str, args: argparse.Namespace) -> str:
        raise NotImplementedError


class Drain(_Adjust):
    """Let a host get no new connections; those that are there stay until they end.

    It stays so, whatever is applied, until 'loadbalancer ready' takes it back.
    """

    examples = """
cnsmo-manage loadbalancer drain web1
cnsmo-manage loadbalancer drain web1 --name www --dry-run
"""

    def _patch(self, args: argparse.Namespace) -> dict[str, Any]:
        return {"drain": True}

    def _words(self, host: str, name: str, args: argparse.Namespace) -> str:
        return f"drain {host} in {name}"


class Ready(_Adjust):
    """Let a host that was drained serve again; also one that left the pool since."""

    examples = """
cnsmo-manage loadbalancer ready web1
"""

    def _patch(self, args: argparse.Namespace) -> dict[str, Any]:
        return {"drain": None}

    def _words(self, host: str, name: str, args: argparse.Namespace) -> str:
        return f"let {host} serve again in {name}"


class Weight(_Adjust):
    """Give a host another weight than the document does; without a number, the document's again."""

    examples = """
cnsmo-manage loadbalancer weight web1 10
cnsmo-manage loadbalancer weight web1            # as the document says
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "weight", metavar="N", nargs="?", type=int, help="0 to 256; 0: no new connections"
        )
        return parser

    def _patch(self, args: argparse.Namespace) -> dict[str, Any]:
        from cnsmo.services.loadbalancer.desired import HEAVIEST

        if args.weight is not None and not 0 <= args.weight <= HEAVIEST:
            raise InvalidRequest(f"{args.weight} is no weight: write 0 to {HEAVIEST}")
        return {"weight": args.weight}

    def _words(self, host: str, name: str, args: argparse.Namespace) -> str:
        weight = "the document's weight" if args.weight is None else f"weight {args.weight}"
        return f"give {host} {weight} in {name}"


def _known(view: View, name: str | None) -> None:
    names = [row.name for row in view.rows(SERVICE)]
    if name is not None and name not in names:
        raise NotFound(f"no load balancer {name!r} is declared; {did_you_mean(name, names)}")


def _served(view: View, host: str, name: str | None, or_adjusted: bool) -> list[str]:
    """The load balancers in which a host serves, or the one that is asked for.

    or_adjusted: those as well in which something is said of it still, though it left the pool.

    :raises NotFound: when it serves in none.
    """
    from cnsmo.model.reading import read
    from cnsmo.model.resource import adjustment_kind, joined
    from cnsmo.services.loadbalancer.compile import serves
    from cnsmo.services.loadbalancer.spec import LoadBalancerSpec

    if host not in view.everybody:
        raise NotFound(f"there is no host {host!r}; {did_you_mean(host, view.everybody)}")
    _known(view, name)
    found = [
        row.name
        for row in view.rows(SERVICE)
        if name in (None, row.name)
        if (or_adjusted and view.get(adjustment_kind(SERVICE), joined(row.name, host)))
        or any(
            serves(pool, view.everybody[host])
            for pool in read(LoadBalancerSpec, row.body).pools.values()
        )
    ]
    if not found:
        raise NotFound(f"{host} does not serve in {name or 'any load balancer'}")
    return found


def _seen(host: HostStatus, name: str) -> Mapping[str, Any]:
    """What the carrier's agent told of a load balancer."""
    return seen(agent_of(host, SERVICE), name) or {}


def _doubts(host: HostStatus, name: str, balancer: LoadBalancerDesired) -> list[str]:
    """What the carrier's agent says is wrong, and what it will as soon as it has looked."""
    agent = agent_of(host, SERVICE)
    reason = agent.reason if agent else "runs no agent of the service loadbalancer"
    news = [f"{name}: {problem}" for problem in balancer.problems]
    told = [what for what in news if what not in (reason or "")]
    return [f"{host.name}: {what}" for what in (reason, *told) if what]


def _vip(balancer: LoadBalancerDesired, told: Mapping[str, Any]) -> str | None:
    if balancer.vip is None:
        return None
    address = balancer.vip.address.partition("/")[0]
    return f"{address} (holds it)" if told.get("vip") else address


def _place(address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address or "*"
    return f"{host}:{port}"
