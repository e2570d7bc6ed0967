# SPDX-License-Identifier: Apache-2.0
"""The program itself: help, errors, streams, several at once, and a core of its own."""

import contextlib
import importlib.metadata
import io
import os
import pty
import subprocess
import sys
import threading

import pytest

from cnsmo.manage import app
from cnsmo.manage.catalogue import Catalogue
from cnsmo.model.errors import CnsmoError
from cnsmo.model.lifecycle import State
from cnsmo.state import schema
from cnsmo.state.engine import engine_for
from tests.eventually import eventually
from tests.functional.manage.person import DOCUMENT, Person

COMMANDS = sorted(Catalogue("cnsmo.manage").commands)


@pytest.fixture
def alone(tmp_path) -> Person:
    """A person at a machine where no core runs."""
    return Person(tmp_path, embed=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(alone, command):
    said = alone.does(f"{command} --help").out
    assert said.startswith(f"usage: cnsmo-manage {command}")
    if not command.startswith("lab "):
        assert "examples:\n  " in said
        assert command in said.partition("examples:")[2]
    assert alone.does(f"help {command}").out == said
    assert max(len(line) for line in said.splitlines()) <= 100


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_writes_has_a_dry_run(alone, command):
    writes = {"create", "delete", "remove", "revoke", "rotate", "apply", "upgrade", "purge"}
    if writes & set(command.split()):
        assert "--dry-run" in alone.does(f"{command} --help").out


def test_the_help_lists_everything(alone):
    said = alone.does("--help").out
    for command in COMMANDS:
        assert f"\n  {command} " in said
    assert alone.does("help").out == alone.does("").out == said
    assert "source <(cnsmo-manage complete)" in said
    assert "host list" in alone.does("help host").out
    assert "host list" in alone.does("host --help").out
    assert "host list" in alone.fails(2, "host")


def test_completion_for_bash(alone):
    said = alone.does("complete").out
    assert "cmds_vpn='rotate show'" in said
    assert "--dry-run" in said


def test_the_version(alone):
    assert alone.does("--version").out.startswith("cnsmo-manage 0.")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hots list", "Did you mean 'host list'?"),
        ("host lst", "Did you mean"),
        ("xyzzy", "there is no command 'xyzzy'."),
        ("help xyzzy", "there is no command 'xyzzy'."),
        ("host list --nix", "unrecognized arguments: --nix"),
        ("--nix", "unknown option --nix"),
        ("host show", "required: HOST"),
        ("host list -f nix", "invalid choice: 'nix'"),
        ("vpn show x --dep lab", "unrecognized arguments: --dep"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_the_way_to_the_help(alone, line, said):
    err = alone.fails(2, line)
    assert said in err
    assert err.splitlines()[-1].startswith("See 'cnsmo-manage")


def test_what_nobody_foresaw_is_one_line_too_and_debug_shows_more(alone, monkeypatch):
    def broken(*_args):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("cnsmo.manage.schema.text", broken)
    assert alone.fails(1, "schema") == (
        "cnsmo-manage: unforeseen ZeroDivisionError: oh (--debug shows where)\n"
    )
    assert "Traceback" in alone.run("schema --debug").err


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt, 130), (BrokenPipeError, 141), (SystemExit, 1)]
)
def test_the_end_that_others_cause_is_silent(alone, monkeypatch, raised, code):
    def broken(*_args):
        raise raised

    monkeypatch.setattr("cnsmo.manage.schema.text", broken)
    said = alone.run("schema")
    assert (said.code, said.out, said.err) == (code, "", "")


def test_two_packages_with_one_command_are_an_error(monkeypatch):
    one = importlib.metadata.EntryPoint("host_list", "a:A", "g")
    other = importlib.metadata.EntryPoint("host_list", "b:B", "g")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [one, one, other])
    with pytest.raises(CnsmoError, match="a:A and b:B"):
        Catalogue("g")


def test_a_broken_plugin_does_not_take_the_help_away(alone, monkeypatch):
    real = importlib.metadata.entry_points
    broken = importlib.metadata.EntryPoint("cache_flush", "no.such.module:Flush", "cnsmo.manage")
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **named: [*real(**named), broken]
    )
    assert "cache flush" in alone.does("--help").out
    assert "host list" in alone.does("--help").out


def test_a_core_of_its_own_where_there_is_no_other(alone, conf, tmp_path):
    conf.set_override("connection", f"sqlite:///{tmp_path}/deep/er/state.sqlite", "database")
    assert "db upgrade" in alone.fails(8, "deployment list")
    assert not (tmp_path / "deep").exists()
    assert alone.does("db version -f json").json["upgrade_needed"] is True
    assert "would make the database" in alone.does("db upgrade --dry-run").out
    assert not (tmp_path / "deep").exists()
    assert "from schema (none) to" in alone.does("db upgrade").out
    assert "already" in alone.does("db upgrade").out
    assert alone.does("db version -f json").json["upgrade_needed"] is False
    alone.does("deployment create lab")
    alone.does("apply -", stdin=DOCUMENT)
    assert person_row(alone) == ("vpn", "backbone")
    assert "[bus] url" in alone.fails(2, "watch")
    assert "[bus] url" in alone.fails(2, "apply - --wait", stdin=DOCUMENT)


def person_row(person):
    (row,) = person.does("service list -f json").json
    return row["service"], row["name"]


def test_a_database_that_cannot_be_made(alone, conf, tmp_path):
    (tmp_path / "file").write_text("")
    conf.set_override("connection", f"sqlite:///{tmp_path}/file/x.sqlite", "database")
    assert "cannot be made" in alone.fails(2, "db upgrade")
    conf.set_override("connection", "nonsense", "database")
    assert "is no URL" in alone.fails(2, "db upgrade")
    assert "is no URL" in alone.fails(2, "deployment list")


def test_a_database_of_another_release(alone, conf, tmp_path):
    url = f"sqlite:///{tmp_path}/old.sqlite"
    engine = engine_for(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE x (y int)")
    engine.dispose()
    conf.set_override("connection", url, "database")
    assert "db upgrade" in alone.fails(8, "deployment list")
    assert "db upgrade" in alone.fails(8, "db purge -d lab")
    assert f"to schema {schema.newest()}" in alone.does("db upgrade --dry-run").out


def test_what_was_deleted_is_forgotten_on_command(person, puppet):
    puppet("web1")
    person.does("host remove web1")
    assert "forget 2 rows of lab" in person.does("db purge --older-than 0 --dry-run").out
    assert "0 rows forgotten, deleted more than 30 days ago" in person.does("db purge").out
    assert "2 rows forgotten" in person.does("db purge --older-than 0").out
    assert "0 rows forgotten" in person.does("db purge --older-than 0").out
    person.fails(4, "db purge -d nix")


def test_a_broker_that_is_not_there_is_named_at_once(alone, conf):
    conf.set_override("url", "rabbit://guest:secret@127.0.0.1:9/", "bus")
    said = alone.fails(7, "deployment list")
    assert "127.0.0.1:9: Connection refused" in said
    assert "secret" not in said
    assert "127.0.0.1:9" in alone.fails(7, "watch --timeout 1s")
    conf.set_override("url", "nonsense", "bus")
    assert "[bus] url leads to no broker" in alone.fails(2, "deployment list")


def test_a_process_that_has_its_configuration_takes_no_other(person):
    assert "has its configuration" in person.fails(2, "--config-file /nix deployment list")


def test_several_commands_at_once_in_one_process(person, puppet):
    puppet("web1")
    said = {}

    def ask(number: int) -> None:
        said[number] = person.run(f"host list -f json {'-c name' if number % 2 else '-c site'}")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, answer in said.items():
        assert answer.json == [{"name": "web1"} if number % 2 else {"site": "default"}]


def hear(screen: int, heard: list[bytes]) -> None:
    """Read what a terminal is told, until nobody writes to it any more."""
    with os.fdopen(screen, "rb", buffering=0) as stream, contextlib.suppress(OSError):
        while told := stream.read(4096):
            heard.append(told)


def test_a_terminal_gets_colour_and_a_bar(person, puppet, thread):
    puppet("web1").reports(State.CONFIGURING, "so it is")
    person.writes(DOCUMENT)
    ours, theirs = pty.openpty()
    heard: list[bytes] = []
    thread(hear, ours, heard).name = "screen"
    with os.fdopen(theirs, "w") as terminal:
        code = app.run(
            ["apply", "lab.yaml", "--wait", "1s"],
            io.StringIO(),
            terminal,
            terminal,
            env={"TERM": "xterm"},
            cwd=person.cwd,
        )
    eventually(lambda: b"not in force" in b"".join(heard))
    said = b"".join(heard).decode()
    assert code == 9
    assert "\033[32m  + vpn backbone\033[0m" in said
    assert "In force:" in said
    assert "waiting for web1" in said
    assert "\033[31mcnsmo-manage:\033[0m not in force" in said


def test_nothing_is_forwarded_where_no_lab_is_up(monkeypatch, tmp_path):
    monkeypatch.setenv("CNSMO_LAB", str(tmp_path / "none"))
    assert app.forward(["host", "list"]) is None


def test_the_program_starts_quickly_and_says_nothing_else():
    code = "import sys; from cnsmo.cmd.manage import main; sys.argv = ['', '--help']; main()"
    code += "; print([name for name in ('oslo_messaging', 'sqlalchemy', 'pydantic', 'rich', "
    code += "'eventlet') if sys.modules.get(name)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", "imported for a help text"
    assert done.stderr == ""


def test_the_program_reads_the_configuration_it_is_given(tmp_path):
    file = tmp_path / "c.conf"
    file.write_text(f"[database]\nconnection = sqlite:///{tmp_path}/state.sqlite\n")

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cnsmo.cmd.manage", f"--config-file={file}", *argv],
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("db", "upgrade").returncode == 0
    made = run("deployment", "create", "lab")
    assert (made.returncode, made.stdout, made.stderr) == (0, "Deployment lab made.\n", "")
    missing = run("--config-file=/nix", "deployment", "list")
    assert missing.returncode == 2
    assert missing.stderr.startswith("cnsmo-manage: configuration: ")
    assert (tmp_path / "state.sqlite").stat().st_mode & 0o077 == 0
