# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage firewall explain and test: what becomes of a flow, by what the agents enforce."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cnsmo.manage import document
from cnsmo.manage.cells import Names, plain_address
from cnsmo.manage.command import ListCommand
from cnsmo.model.errors import InvalidDocument, NotFound

if TYPE_CHECKING:
    from cnsmo.model.document import Document
    from cnsmo.model.resource import View
    from cnsmo.services.firewall.flows import Judged

WIDTH = 80
_PAIRS = (
    *("From", "From address", "To", "To address", "Over", "Protocol", "Port"),
    *("Verdict", "Rule", "Host", "Direction", "Why", "Audits"),
)
_TESTS = (
    *("Line", "Policy", "Number", "From", "To", "Flow", "Over"),
    *("Expect", "Verdict", "Rule", "Host", "Result"),
)
_TEST_PATH = re.compile(r"firewall\.[^.]+\.tests\.\d+")
PASS, FAIL, NOBODY = "pass", "FAIL", "nobody"
"""How a test ends; nobody: no two hosts of today can make its flow, so that it proves nothing."""


class Explain(ListCommand):
    """Explain what becomes of a flow: the verdict, the rule that says so, and where.

    SRC and DST are a host, a group (each of its hosts) or an address; PROTO is tcp when left out.
    Nothing is sent: the answer comes from the rules that the hosts' agents enforce, made from the
    same rows in the same way. A flow is judged by the outbound rules of its source, then by the
    inbound rules of its target; addresses outside the deployment have no firewall of ours. It
    travels over the first VPN that both ends are in, else over the underlay, unless --via says
    which. An ICMP flow is an echo request; a rule with a limit counts as not exceeded.
    """

    in_deployment = True
    examples = """
cnsmo-manage firewall explain web1 db1 tcp 5432
cnsmo-manage firewall explain 192.0.2.7 web tcp https        # each host of the group web
cnsmo-manage firewall explain web1 db1 icmp --via underlay
cnsmo-manage firewall explain all all tcp 22 -f json
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add = parser.add_argument
        add("source", metavar="SRC", help="who begins: a host, a group, an address")
        add("target", metavar="DST", help="whom it calls: the same")
        add("protocol", metavar="PROTO", nargs="?", default="tcp",
            help="tcp, udp, icmp, ..., or a number; default: tcp")  # fmt: skip
        add("port", metavar="PORT", nargs="?", help="where the protocol has ports: number or name")
        add("--via", metavar="NETWORK", help="underlay, or the name of a VPN")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], list[Any]]:
        from cnsmo.manage import firewall_words as words
        from cnsmo.manage.firewall_why import Reasons
        from cnsmo.manage.views import present
        from cnsmo.services.firewall.service import FirewallService

        deployment = self.deployment(parsed_args)
        flow = words.flow(parsed_args.protocol, parsed_args.port)
        view = present(self.session.client, deployment)
        self._flow = flow.label
        source, target = (
            words.side(view, word) for word in (parsed_args.source, parsed_args.target)
        )
        via = words.network(view, parsed_args.via)
        self._reasons = Reasons(view)
        site = FirewallService().site(view)
        self._judged = list(site.judge(source, target, flow, via))
        self._owners = {word: words.owner(site, word) for word in (source, target)}
        return _PAIRS, [
            (
                found.source.host or None,
                str(found.source.address),
                found.target.host or None,
                str(found.target.address),
                found.realm or "underlay",
                flow.label.partition("/")[0],
                flow.port,
                str(found.verdict.action),
                found.verdict.rule,
                found.at or None,
                str(found.direction) if found.at else None,
                self._reasons.why(found),
                Names(found.verdict.audits),
            )
            for found in self._judged
        ]

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Any]
    ) -> int:
        people = parsed_args.formatter == "table" and not parsed_args.columns
        if not people or not self._judged:
            code = super().produce_output(parsed_args, column_names, data)
        elif len(self._judged) == 1:
            code = 0
            found = self._judged[0]
            self.say(f"{found.way}: {self._verdict(found)}")
            self._tell([found])
        else:
            code = self._table(parsed_args)
        for line in self._remarks(parsed_args) if people else ():
            self.say(line)
        return code

    def empty(self, args: argparse.Namespace) -> str:
        both = f"{args.source} and {args.target}"
        if args.via not in (None, "underlay"):
            return f"{both} are not both in the VPN {args.via.removeprefix('vpn:')}."
        if args.source == args.target:
            return f"{args.source} is one host: what does not leave it is not judged."
        return f"{both} have no addresses of the same IP version."

    def _table(self, args: argparse.Namespace) -> int:
        self.say(self.style.paint(self._flow, "bold"))
        rows = [
            (
                found.source.host or str(found.source.address),
                found.target.host or str(found.target.address),
                found.realm or "underlay",
                self._verdict(found),
                found.verdict.rule,
                f"{found.at} {found.direction}" if found.at else None,
            )
            for found in self._judged
        ]
        code = super().produce_output(args, ("From", "To", "Over", "Verdict", "Rule", "At"), rows)
        self._tell(self._judged)
        return code

    def _tell(self, judged: Sequence[Judged]) -> None:
        """Each rule once, in its words."""
        told: dict[tuple[str, str], None] = {}
        for found in judged:
            where = _where(found) if len(judged) == 1 else ""
            told[f"by {found.verdict.rule}{where}:", self._reasons.why(found)] = None
            for rule in found.verdict.audits:
                told[f"{rule}, on trial, would not let it pass:", self._reasons.audit(rule)] = None
        for head, text in told:
            self.say(f"  {head}")
            self.say(textwrap.fill(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6))

    def _verdict(self, found: Judged) -> str:
        action = str(found.verdict.action)
        return self.style.paint(action, "green" if action == "accept" else "red")

    def _remarks(self, args: argparse.Namespace) -> Iterator[str]:
        for word, host in self._owners.items():
            if host:
                address = word.partition("/")[0]
                yield f"{address} is an address of {host}: say {host}, and its rules are asked, too"
        if args.port is None and args.protocol.isdigit() and self._flow.isdigit():
            yield f"{self._flow} is the number of a protocol here; for a port: tcp {self._flow}"


class Test(ListCommand):
    """Run the tests that stand in a document against its policy; nothing is changed.

    The document is checked as 'plan' does, and a wrong one is refused in the same words. Then each
    of its tests is judged on its own: today's hosts with the document's policy. 'plan' and 'apply'
    refuse a document of which one test fails; so does this command, with exit code 1. 'nobody': no
    two hosts of today can make this flow, so that the test proves nothing.
    """

    examples = """
cnsmo-manage firewall test shop.yaml
cnsmo-manage firewall test shop.yaml && cnsmo-manage apply shop.yaml --wait
cnsmo-manage firewall test shop.yaml -f json | jq '.[] | select(.result == "FAIL")'
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="FILE", help="the document; - reads stdin")
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        return super().run(parsed_args) or int(bool(self._failed))

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], list[Any]]:
        text = document.read(parsed_args.file, self.app.cwd, self.app.stdin)
        with document.located(parsed_args.file):
            parsed, view = self._checked(text, parsed_args.file)
        self._failed: list[str] = []
        self._results: list[str] = []
        return _TESTS, list(self._run(parsed, view, document.shown(parsed_args.file)))

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Any]
    ) -> int:
        people = parsed_args.formatter == "table"
        if people and not parsed_args.columns:
            shown = ("Line", "From", "To", "Flow", "Expect", "Verdict", "Result")
            at = [list(column_names).index(name) for name in shown]
            column_names, data = shown, [self._painted([row[i] for i in at]) for row in data]
        code = super().produce_output(parsed_args, column_names, data)
        for line in self._failed if people else ():
            self.say(line)
        if people and self._results:
            many = f"{len(self._results)} test{'' if len(self._results) == 1 else 's'}"
            counts = [(result, self._results.count(result)) for result in (PASS, FAIL, NOBODY)]
            self.say(f"{many}: " + ", ".join(f"{n} {word}" for word, n in counts if n))
        return code

    def empty(self, args: argparse.Namespace) -> str:
        return f"{document.shown(args.file)} has no tests."

    def _checked(self, text: str, name: str) -> tuple[Document, View]:
        """The document, and the deployment as it would be.

        :raises InvalidDocument: where something else is wrong than a test's verdict.
        """
        from cnsmo.core import specs
        from cnsmo.core.declare import planned
        from cnsmo.manage.views import present
        from cnsmo.model.document import invalid, parse

        parsed = parse(text)
        wanted, problems = specs.validate(parsed)
        if problems:
            raise invalid(problems)
        try:
            self.session.client.plan(text)
        except InvalidDocument as exc:
            if not all(_TEST_PATH.fullmatch(found["path"]) for found in exc.details["problems"]):
                raise
        except NotFound as exc:
            raise NotFound(
                f"{document.shown(name)}: {exc}, 'cnsmo-manage deployment create' makes one"
            ) from exc
        return parsed, planned(present(self.session.client, parsed.deployment), wanted)

    def _run(self, parsed: Document, view: View, file: str) -> Iterator[tuple[Any, ...]]:
        from cnsmo.model.reading import read
        from cnsmo.services.firewall.flows import Flow
        from cnsmo.services.firewall.service import FirewallService
        from cnsmo.services.firewall.spec import FirewallSpec

        site = FirewallService().site(view)
        for row in view.rows("firewall"):
            for at, test in enumerate(read(FirewallSpec, row.body).tests):
                line, column = _place(parsed, row.name, at)
                found = site.run(test)
                result = NOBODY if found is None else PASS
                if found is not None and found.verdict.action is not test.expect:
                    result = FAIL
                    place = ":".join(str(part) for part in (file, line, column) if part)
                    words = f"{found.label}; {test.expect} is expected"
                    self._failed.append(f"{place}: firewall.{row.name}.tests.{at}: {words}")
                self._results.append(result)
                yield (
                    line,
                    row.name,
                    at + 1,
                    plain_address(test.source),
                    plain_address(test.target),
                    Flow(test.number, test.port).label,
                    (found.realm or "underlay") if found else None,
                    str(test.expect),
                    str(found.verdict.action) if found else None,
                    found.verdict.rule if found else None,
                    (found.at or None) if found else None,
                    result,
                )

    def _painted(self, row: list[Any]) -> list[Any]:
        colours = {PASS: "green", FAIL: "red", NOBODY: "yellow"}
        return [*row[:-1], self.style.paint(row[-1], colours[row[-1]])]


def _place(parsed: Document, instance: str, at: int) -> tuple[int | None, int | None]:
    return parsed.lines.get(("firewall", instance, "tests", at), (None, None))


def _where(found: Judged) -> str:
    if not found.at:
        return ""
    known = str(found.direction) in found.verdict.rule
    return f" on {found.at}" if known else f", {found.direction} on {found.at}"
