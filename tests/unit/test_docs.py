# SPDX-License-Identifier: Apache-2.0
"""The documentation names nothing that does not exist, and its tables are those of the code."""

import ast
import configparser
import importlib.metadata
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from cnsmo.cmd import agent as agent_program
from cnsmo.core import specs
from cnsmo.manage.app import ManageApp
from cnsmo.model.document import parse
from cnsmo.model.lifecycle import TRANSITIONS, State
from cnsmo.services.firewall.spec import Defaults, Failsafe, FirewallSpec, PolicyTest, Rule
from cnsmo.services.loadbalancer import spec as balancer
from cnsmo.services.loadbalancer.features import Feature
from cnsmo.services.loadbalancer.service import LoadBalancerService
from cnsmo.services.loadbalancer.spec import LoadBalancerSpec
from cnsmo.services.vpn.drivers.openvpn_options import OpenvpnOptions
from cnsmo.services.vpn.drivers.wg_interface import WireguardOptions
from cnsmo.services.vpn.spec import Route, VpnSpec
from tests.unit.doc_tables import ability_table, spec_table

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "doc").glob("*.md"))]
TEXTS = {str(page.relative_to(TOP)): page.read_text() for page in PAGES}
SAMPLE = TOP / "tests" / "sample_plugin" / "cnsmo_sample"
each_page = pytest.mark.parametrize("page", TEXTS)

COMMAND = re.compile(
    r"(?:`|^\s+(?:\$ )?|^\$ |\(|\| )(cnsmo-(?:manage|agent|core)\b[^`\n|)]*)", re.M
)
OPTION = re.compile(r"\[(\w+)\] (\w+)")
PATH = re.compile(r"`((?:cnsmo|tests|doc|examples|etc|tools|benchmarks)/[\w./-]*)(?:::(\w+))?`")
INVENTED = ["cache", "flush"]
"""A command that a reader might write."""
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def blocks(text: str, language: str) -> list[str]:
    """What stands in fenced blocks of a language."""
    return [body for named, body in FENCE.findall(text) if named == language]


def table(text: str, head: str) -> list[list[str]]:
    """The cells of all tables whose first column has that title."""
    found = []
    for block in re.findall(rf"^\| {re.escape(head)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.M):
        for line in block.splitlines():
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            found.append([cell.strip() for cell in cells])
    return found


# --- what is named exists -----------------------------------------------------------------


def known_options(program: str) -> set[str]:
    """The command line options of a daemon."""
    conf = cfg.ConfigOpts()
    if program == "cnsmo-agent":
        conf.register_cli_opts(agent_program.CLI)
    return {"--config-file", "--config-dir", "--help", "--version"} | {
        f"--{name.replace('_', '-')}" for name in conf
    }


def wrong_with(line: str) -> str:
    """What is wrong with a command line of the documentation; "" when nothing is."""
    words = shlex.split(line.partition(" > ")[0], comments=True)
    program, words = words[0], words[1:]
    words = words[: words.index("--")] if "--" in words else words
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    if program != "cnsmo-manage":
        return ", ".join(given - known_options(program))
    app = ManageApp(io.StringIO(), io.StringIO(), io.StringIO(), {}, None, False)
    if not words or words[0].startswith("-") or words[0] in ("help", "COMMAND"):
        return ""
    commands = app.command_manager.commands
    name = next((n for n in (" ".join(words[:2]), words[0]) if n in commands), None)
    if name is None and words[:2] == INVENTED:
        return ""
    if name is None:
        return f"there is no command {' '.join(words[:2])}"
    factory = app.command_manager.find_command(name.split())[0]
    parser = factory(app, None).get_parser(name)
    known = {option for action in parser._actions for option in action.option_strings}
    return ", ".join(sorted(given - known - {"--config-file", "--config-dir"}))


@each_page
def test_every_command_exists_with_the_options_that_it_is_given(page: str) -> None:
    lines = {match.group(1).strip() for match in COMMAND.finditer(TEXTS[page])}
    wrong = {line: wrong_with(line) for line in sorted(lines)}
    assert {line: what for line, what in wrong.items() if what} == {}


def test_commands_are_found_on_the_pages() -> None:
    found = COMMAND.findall(TEXTS["doc/operator.md"])
    assert "cnsmo-manage vpn rotate backbone --dry-run" in [line.strip() for line in found]
    assert wrong_with("cnsmo-manage host lsit") == "there is no command host lsit"
    assert wrong_with("cnsmo-manage apply x.yaml --wiat") == "--wiat"


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """All options that can stand in a configuration file, by group."""
    found: dict[str, set[str]] = {}
    for entry in importlib.metadata.entry_points(group="oslo.config.opts"):
        if entry.name in ("cnsmo", "oslo.db", "oslo.log", "oslo.messaging"):
            for group, opts in entry.load()():
                found.setdefault(str(group), set()).update(opt.dest for opt in opts)
    return found


@each_page
def test_every_option_exists(page: str, options: dict[str, set[str]]) -> None:
    named = set(OPTION.findall(TEXTS[page]))
    for block in blocks(TEXTS[page], "ini"):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(block)
        named |= {(group, name) for group in parser.sections() for name in parser[group]}
    named = {(group, name) for group, name in named if group not in ("Service",)}
    wrong = {pair for pair in named if pair[1] not in options.get(pair[0], ())}
    assert wrong == set()


@each_page
def test_every_link_leads_somewhere(page: str) -> None:
    here = (TOP / page).parent
    targets = [link for link in LINK.findall(TEXTS[page]) if "://" not in link]
    assert [link for link in targets if not (here / link.partition("#")[0]).exists()] == []


@each_page
def test_every_file_and_every_test_that_is_named_exists(page: str) -> None:
    wrong = []
    for name, test in PATH.findall(TEXTS[page]):
        path = TOP / name
        if not path.exists() or (test and f"def {test}(" not in path.read_text()):
            wrong.append(f"{name}::{test}" if test else name)
    assert wrong == []


def claims() -> list[tuple[str, str]]:
    """Each claim of the page about security that stands in a table, and what proves it."""
    found = []
    for head, body in re.findall(
        r"^\|(.*proven by) \|\n\|[-|]+\|\n((?:\|.*\n)+)", TEXTS["doc/security.md"], re.M
    ):
        assert head
        for line in body.splitlines():
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            found.append((cells[0].strip(), cells[-1].strip()))
    return found


def collected() -> dict[str, set[str]]:
    """Tests by their file, of all that pytest collects."""
    return {
        str(path.relative_to(TOP)): set(re.findall(r"^\s*def (test_\w+)\(", path.read_text(), re.M))
        for path in [*(TOP / "tests").rglob("test_*.py"), TOP / CONTRACT]
    }


CONTRACT = "tests/functional/vpn/contract.py"
"""Its class is collected where a driver derives from it."""


def is_collected(name: str, tests: dict[str, set[str]]) -> bool:
    """Whether a test, a file of tests, or a test of a file (``file::test``) is there."""
    file, _colons, test = name.rpartition("::")
    if test.endswith(".py"):
        return any(it.endswith(f"/{test}") or it == test for it in tests)
    return any(test in tests[it] for it in tests if it.endswith(file))


def test_every_claim_about_security_names_a_test_that_is_collected() -> None:
    tests = collected()
    named = {claim: re.findall(r"`([^`]+)`", proof) for claim, proof in claims()}
    wrong = {
        claim: [name for name in names if not is_collected(name, tests)]
        for claim, names in named.items()
    }
    assert len(claims()) > 40
    assert [claim for claim, names in named.items() if not names] == []
    assert {claim: names for claim, names in wrong.items() if names} == {}


@pytest.mark.parametrize("name", ["test_nothing.py", "test_nothing", "test_docs.py::test_nothing"])
def test_a_test_that_is_not_there_would_be_found(name: str) -> None:
    assert not is_collected(name, collected())


@each_page
def test_every_document_that_is_shown_is_right(page: str) -> None:
    for text in blocks(TEXTS[page], "yaml"):
        _specs, problems = specs.validate(parse(text))
        assert problems == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {link.partition("#")[0] for link in LINK.findall(TEXTS["README.md"])}
    assert set(TEXTS) - {"README.md"} <= reached


@each_page
def test_lines_fit_beside_each_other(page: str) -> None:
    prose = FENCE.sub("", TEXTS[page])
    assert [
        line
        for line in prose.splitlines()
        if len(line) > 120 and not line.startswith(("|", "    "))
    ] == []


# --- what is shown is what the code has ---------------------------------------------------


def test_the_life_cycle_is_that_of_the_model() -> None:
    rows = [row for row in table(TEXTS["doc/operator.md"], "state") if len(row) == 2]
    told = {State(before): after for before, after in rows}
    for state, followers in TRANSITIONS.items():
        if followers:
            assert {State(word) for word in told[state].split(", ")} == followers, state
        else:
            assert told[state].startswith("nothing")
    meanings = [row[0] for row in table(TEXTS["doc/operator.md"], "state") if len(row) == 3]
    assert meanings == [str(state) for state in State]


KEYS = {
    "doc/vpn.md": (VpnSpec, Route, WireguardOptions, OpenvpnOptions),
    "doc/firewall.md": (FirewallSpec, Rule, Failsafe, Defaults, PolicyTest),
    "doc/loadbalancer.md": (
        LoadBalancerSpec,
        balancer.Pool,
        balancer.Check,
        balancer.Tls,
        balancer.Timeouts,
        balancer.ProxyProtocol,
        balancer.Headers,
        balancer.Route,
    ),
}


@pytest.mark.parametrize(
    ("page", "model"), [(page, model) for page, models in KEYS.items() for model in models]
)
def test_tables_of_keys_are_those_of_the_models(page: str, model: type) -> None:
    wanted = spec_table(model)
    assert wanted in TEXTS[page], f"{page} needs this table:\n{wanted}"


def test_what_balancers_drivers_can_is_what_they_say() -> None:
    wanted = ability_table(LoadBalancerService().abilities(), Feature)
    assert wanted in TEXTS["doc/loadbalancer.md"], (
        f"doc/loadbalancer.md needs this table:\n{wanted}"
    )


def texts_of_the_code() -> str:
    """All texts in the code, a line each; ``{}`` where something is filled in."""
    return "\n".join(
        text
        for path in (TOP / "cnsmo").rglob("*.py")
        for text in _texts(ast.parse(path.read_text()))
    )


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_message_of_the_troubleshooting_is_one_of_the_code() -> None:
    rows = table(TEXTS["doc/operator.md"], "message")
    assert len(rows) > 20
    said = texts_of_the_code()
    wrong = []
    for message, _remedy in rows:
        pattern = ".*".join(re.escape(part) for part in message.strip("`").split("…"))
        if not re.search(pattern, said):
            wrong.append(message)
    assert wrong == []


def test_code_in_the_authors_page_is_that_of_the_sample() -> None:
    sources = [_lines(path.read_text()) for path in SAMPLE.glob("*.py")]
    for block in blocks(TEXTS["doc/authors.md"], "python"):
        assert any(_lines(block) in source for source in sources), block
    points = (SAMPLE.parent / "cnsmo_sample-1.0.dist-info" / "entry_points.txt").read_text()
    for line in re.findall(r"^    (\w+ = cnsmo_sample\S+)$", TEXTS["doc/authors.md"], re.M):
        assert line in points


def _lines(text: str) -> str:
    """Without blank lines and indentation, which the formatter of the page chooses."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


# --- dependencies -------------------------------------------------------------------------


def explained(head: str = "package") -> set[str]:
    """The packages that doc/dependencies.md explains."""
    cells = [row[0] for row in table(TEXTS["doc/dependencies.md"], head)]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def needed() -> set[str]:
    """What setup.cfg, tools/ and bindep.txt ask for."""
    setup = configparser.ConfigParser()
    setup.read(TOP / "setup.cfg")
    listed = setup["options"]["install_requires"].splitlines()
    for name in setup["options.extras_require"]:
        listed += setup["options.extras_require"].get(name).splitlines()
    listed += (TOP / "tools" / "requirements.txt").read_text().splitlines()
    listed += (TOP / "bindep.txt").read_text().splitlines()
    names = (re.match(r"[A-Za-z0-9][\w.-]*", line) for line in listed)
    return {name.group() for name in names if name}


def test_every_dependency_is_explained_and_nothing_else_is() -> None:
    assert needed() - explained() == set()
    assert explained() - needed() == set()
