# SPDX-License-Identifier: Apache-2.0
"""Whatever real processes do, at debug: no log, no argument, no open file has a secret."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from cnsmo.state import sealing
from tests.hunt import Hunt, open_to_others
from tests.integration.fleet import PATIENCE, Agent, Fleet

LOUD = {
    "debug": True,
    "default_log_levels": "=DEBUG,".join(
        ("amqp", "kombu", "sqlalchemy", "alembic", "oslo.messaging", "oslo_messaging", "oslo", "")
    ).rstrip(","),
}


@pytest.fixture
def hunt() -> Hunt:
    return Hunt()


@pytest.fixture
def loud(bare_fleet: Fleet) -> Fleet:
    """A fleet all of whose programs tell everything that they can."""
    bare_fleet.settings["DEFAULT"] = LOUD
    bare_fleet.core(down_after=600).says("core answers")
    bare_fleet.operator.deployment_create("shop")
    return bare_fleet


def everything(fleet: Fleet, hunt: Hunt) -> list[Agent]:
    """Join, declare, renew, report, be refused, rotate keys, be removed, leave."""
    tokens = [fleet.token() for _ in range(3)]
    wrong = f"{tokens[0].partition('.')[0]}.{'guess' * 6}"
    hunt.know("token", wrong.partition(".")[2])
    for token in tokens:
        hunt.know("token", token, token.partition(".")[2])
    fleet.apply()
    agents = [fleet.agent(f"web{number}", token=token) for number, token in enumerate(tokens)]
    fleet.until_ready("web0", "web1", "web2")
    assert fleet.agent("thief", token=wrong).ends() == 6
    fleet.operator.renew("shop", "vpn", "backbone")
    sealing.rotate(sa.create_engine(fleet.database), fleet.vault)
    hunt.know_all(*(agent.state_dir for agent in agents))
    fleet.operator.host_remove("shop", "web0")
    assert agents[0].ends() == 10
    assert agents[1].stop() == 0
    agents[1].start().says("core")
    fleet.until_ready("web1", "web2", revision=fleet.operator.deployment_show("shop").revision)
    return agents


def manage(fleet: Fleet, *words: str) -> str:
    """What a command says, with all that it can."""
    config = fleet.directory / "core.conf"
    done = subprocess.run(
        [sys.executable, "-m", "cnsmo.cmd.manage", "--debug", "--config-file", config, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return done.stdout + done.stderr


def test_no_secret_is_told_by_any_process_at_debug(loud: Fleet, hunt: Hunt) -> None:
    hunt.know_file(loud.vault.path)
    with hunt:
        agents = everything(loud, hunt)
        said = "".join(
            manage(loud, *line.split())
            for line in ("host list", "audit list -f json", "secrets show", "ca show", "token list",
                         "deployment export shop", "audit verify", "watch --timeout 1s")
        )  # fmt: skip
    hunt.know_file(loud.vault.path)
    hunt.know_all(Path(loud.conf.join.ca_directory), *(agent.state_dir for agent in agents))
    hunt.know("broker-password", loud.vhost.password)
    database = sa.make_url(loud.database)
    hunt.know("database-password", str(database.password or ""))
    assert hunt.words >= {
        "token", "agent-secret", "nonce", "key", "authority", "secrets", "broker-password",
    }  # fmt: skip
    logs = sorted(loud.directory.glob("*.log"))
    assert len(logs) >= 5
    assert "DEBUG" in logs[0].read_text()
    assert hunt.found_in_logs(logs) == {}
    assert hunt.found_in(said) == set()
    assert hunt.seen("cnsmo.cmd.agent")
    assert hunt.found_in_processes() == set()
    state = [agent.state_dir for agent in agents]
    assert open_to_others(*state, Path(loud.conf.join.ca_directory), loud.vault.path) == {}


PROGRAMS = ("agent", "core", "manage", "hub")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_makes_files_for_its_owner_alone_before_it_does_anything(program: str) -> None:
    code = (
        "import os, sys; os.umask(0)\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] not in (*sys.stdlib_module_names, 'cnsmo'):\n"
        "            old = os.umask(0); os.umask(old)\n"
        "            print(oct(old), name); sys.meta_path.remove(self)\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"import cnsmo.cmd.{program}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0o77 "), done.stdout
