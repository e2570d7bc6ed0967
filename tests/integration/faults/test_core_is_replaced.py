# SPDX-License-Identifier: Apache-2.0
"""A site loses its core with its database: another one goes on from a backup, with live agents."""

import io
import json
import shutil
from pathlib import Path

from oslo_config import cfg

from cnsmo.manage.app import run
from cnsmo.state import schema, sealing
from cnsmo.state.backup import LEAP
from cnsmo.state.engine import engine_for
from cnsmo.state.vault import Vault
from tests.integration.fleet import SHOP, Agent, Fleet

ANOTHER = SHOP.replace("driver:", "listen_port: 9, driver:")
AFTER = SHOP.replace("driver:", "listen_port: 11, driver:")


def manage(*words: str) -> str:
    """A command that succeeds, with the configuration of this process."""
    out, err = io.StringIO(), io.StringIO()
    code = run(words, io.StringIO(), out, err)
    assert code == 0, err.getvalue()
    return out.getvalue()


def port(agent: Agent) -> int:
    """The port that an agent's driver was told for the VPN."""
    return int(json.loads(agent.remembered.read_text())["listen_port"])


def use(fleet: Fleet, conf: cfg.ConfigOpts, url: str, vault: Vault) -> None:
    """Let cores and commands of this test work on that database, with that key."""
    fleet.settings["database"] = {"connection": url}
    fleet.settings["secrets"] = {"key_file": str(vault.path)}
    conf.set_override("connection", url, "database")
    conf.set_override("key_file", str(vault.path), "secrets")
    engine = engine_for(url)
    schema.upgrade(engine)
    sealing.check(engine, vault)
    engine.dispose()


def test_agents_go_on_with_another_core_on_another_database(
    bare_fleet: Fleet, conf: cfg.ConfigOpts, migrated_postgresql: str, tmp_path: Path
) -> None:
    fleet, old_key = bare_fleet, bare_fleet.vault
    use(fleet, conf, f"sqlite:///{tmp_path}/old.sqlite", old_key)
    first = fleet.core().says("core answers")
    fleet.operator.deployment_create("shop")
    agents = [fleet.agent(f"web{n}", heartbeat=1, rpc_timeout=2) for n in range(2)]
    saved_at = fleet.apply(SHOP).revision or 0
    fleet.until_ready("web0", "web1", revision=saved_at)
    before = port(agents[0])
    manage("backup", "shop", str(tmp_path / "shop.backup"))
    later = fleet.apply(ANOTHER).revision or 0
    fleet.until_ready("web0", "web1", revision=later)  # they are ahead of the backup
    assert {port(agent) for agent in agents} == {9}
    pids = [agent.process.pid for agent in agents]
    first.kill()
    (tmp_path / "old.sqlite").unlink()

    key = Vault(Path(shutil.copytree(conf.join.ca_directory, tmp_path / "new")) / "secrets.json")
    key.create()
    use(fleet, conf, migrated_postgresql, key)
    said = manage("restore", str(tmp_path / "shop.backup"), "--key", str(old_key.path))
    assert "with 2 hosts, is restored as revision" in said
    fleet.core("second").says("core answers")
    fleet.until_ready("web0", "web1", revision=LEAP)
    assert {port(agent) for agent in agents} == {before}
    done = fleet.apply(AFTER).revision or 0
    assert done > LEAP + saved_at
    fleet.until_ready("web0", "web1", revision=done)
    assert [agent.process.pid for agent in agents] == pids
    assert {port(agent) for agent in agents} == {11}
    newcomer = fleet.agent("web2", heartbeat=1)
    fleet.until_ready("web0", "web1", "web2")
    assert newcomer.peers == {"web0", "web1"}
    fleet.until(lambda: agents[0].peers == {"web1", "web2"}, "the newcomer is a peer")
    assert "was changed" not in manage("audit", "verify")
