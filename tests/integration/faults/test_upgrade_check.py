# SPDX-License-Identifier: Apache-2.0
"""cnsmo-status upgrade check, as whoever upgrades runs it: what would go wrong is said before."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cnsmo.bus.clients import CoreClient
from cnsmo.model.messages import Heartbeat
from cnsmo.state import schema, sealing
from cnsmo.state.engine import engine_for, transaction
from cnsmo.state.tables import RESOURCES
from cnsmo.state.vault import Vault
from cnsmo.trust import authority
from tests.integration.fleet import Fleet

SUCCESS, WARNING, FAILURE = range(3)
Told = dict[str, tuple[int, str]]


def check(config: Path) -> tuple[int, Told]:
    """Exit code; of each check, its result and what it said."""
    command = [sys.executable, "-m", "cnsmo.cmd.status", f"--config-file={config}"]
    done = subprocess.run(
        [*command, "upgrade", "check", "--json"], capture_output=True, text=True, timeout=110
    )
    told = json.loads(done.stdout)["checks"]
    return done.returncode, {it["check"]: (it["result"], it["details"] or "") for it in told}


class Place:
    """A site with an SQLite database and a configuration."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = engine_for(f"sqlite:///{path}/state.sqlite")
        self.options = {"database": f"connection = {self.engine.url}", "join": "listen ="}

    def check(self) -> tuple[int, Told]:
        config = self.path / "cnsmo.conf"
        config.write_text("".join(f"[{it}]\n{text}\n" for it, text in self.options.items()))
        return check(config)

    def writes(self, *statements: sa.Executable) -> None:
        with transaction(self.engine) as connection:
            for statement in statements:
                connection.execute(statement)

    def declares(self, kind: str, name: str, **body: Any) -> None:
        now = sa.func.now()
        self.writes(
            sa.insert(RESOURCES).values(
                deployment_id=1, kind=kind, name=name, owner="operator", author="", revision=1,
                deleted=False, body=body, updated_at=now,
            )
        )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    schema.upgrade(made.engine)
    vault = Vault(tmp_path / "secrets.json")
    vault.create()
    sealing.check(made.engine, vault)
    made.writes(
        sa.text(
            "INSERT INTO deployments (id, name, revision, purged, created_at, chain)"
            " VALUES (1, 'shop', 1, 0, '2026-11-23 00:00:00', '')"
        )
    )
    return made


def test_a_site_that_is_ready_is_told_so(place: Place) -> None:
    place.declares("vpn", "backbone", cidr="10.66.0.0/16", driver="noop")
    code, told = place.check()
    assert (code, {result for result, _text in told.values()}) == (SUCCESS, {SUCCESS})
    assert len(told) == 6


def ahead(place: Place) -> None:
    place.writes(sa.text("UPDATE alembic_version SET version_num = '999'"))


def behind(place: Place) -> None:
    place.writes(sa.text("UPDATE alembic_version SET version_num = '002'"))


def another_key(place: Place) -> None:
    (place.path / "secrets.json").unlink()
    Vault(place.path / "secrets.json").create()


def no_authority(place: Place) -> None:
    place.options["join"] = f"ca_directory = {place.path}/ca"


def a_mistyped_option(place: Place) -> None:
    place.options["core"] = "down_aftr = 5"


def a_service_that_is_gone(place: Place) -> None:
    place.declares("cache", "www", size=3)


def a_driver_that_is_gone(place: Place) -> None:
    place.declares("vpn", "backbone", cidr="10.66.0.0/16", driver="tinc")


def what_is_not_right_any_more(place: Place) -> None:
    place.declares("vpn", "backbone", cidr="10.66.0.0/16", driver="noop", colour="red")


def a_broker_that_is_gone(place: Place) -> None:
    place.options["bus"] = "broker = kafka"


FAULTS: list[tuple[Callable[[Place], None], str, int, str]] = [
    (ahead, "Database schema", FAILURE, "has schema 999"),
    (behind, "Database schema", WARNING, "run 'cnsmo-manage db upgrade'"),
    (another_key, "Key of the database", FAILURE, "is not the one"),
    (no_authority, "Certificate authority", FAILURE, "'cnsmo-manage ca init' makes it"),
    (a_mistyped_option, "Settings", WARNING, "[core] down_aftr"),
    (a_service_that_is_gone, "Services and drivers", FAILURE, "no service 'cache' is installed"),
    (a_driver_that_is_gone, "Services and drivers", FAILURE, "no driver 'tinc' is installed"),
    (what_is_not_right_any_more, "Services and drivers", FAILURE, "shop: vpn.backbone: colour"),
    (a_broker_that_is_gone, "Services and drivers", FAILURE, "no driver 'kafka' is installed"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda it: it[0].__name__)
def test_it_tells_of(place: Place, fault: tuple[Callable[[Place], None], str, int, str]) -> None:
    bring_about, name, code, words = fault
    bring_about(place)
    found, told = place.check()
    assert (found, told[name][0]) == (code, code)
    assert words in told[name][1]
    others = {it: result for it, result in told.items() if it != name}
    assert {result for result, _text in others.values()} <= {SUCCESS}, others


def test_a_database_that_is_not_there_is_not_made(place: Place) -> None:
    place.options["database"] = f"connection = sqlite:///{place.path}/none.sqlite"
    code, told = place.check()
    assert (code, told["Database schema"][0]) == (FAILURE, FAILURE)
    assert not (place.path / "none.sqlite").exists()


def test_an_authority_that_is_there_is_enough(place: Place) -> None:
    no_authority(place)
    directory = place.path / "ca"
    authority.create(directory, authority.datetime.datetime.now(authority.datetime.UTC))
    assert place.check()[0] == SUCCESS


@pytest.mark.parametrize(
    ("rpc", "code", "words"),
    [("1.0", SUCCESS, ""), ("2.0", FAILURE, "upgrade them first: shop/web1"),
     ("", WARNING, "upgrade them soon: shop/web1")],
)  # fmt: skip
def test_agents_of_another_age(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, rpc: str, code: int, words: str
) -> None:
    agent = fleet.agent("web1", heartbeat=1)
    fleet.until_ready("web1")
    agent.stop()
    known = json.loads((agent.state_dir / "identity.json").read_text())
    client = CoreClient(fleet.conf, 10)
    client.identify(known["id"], known["secret"])
    said = {**client.context, **({"agent_rpc": rpc} if rpc else {})}
    monkeypatch.setattr(client, "_said", lambda: said)
    client.heartbeat(Heartbeat(applied={"vpn": 1}))
    found, told = check(fleet._config("status", {}))
    assert (found, told["Calls of agents"][0]) == (code, code)
    assert words in told["Calls of agents"][1]


def test_nobody_can_say_where_no_core_runs(fleet: Fleet) -> None:
    fleet.programs[0].kill()
    _code, told = check(fleet._config("status", {}))
    result, text = told["Calls of agents"]
    assert (result, "no core is there" in text) == (WARNING, True)
