# SPDX-License-Identifier: Apache-2.0
"""The doctor where a core runs: each symptom is brought about, found, and nothing else is."""

import datetime
import importlib.metadata
import json
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from oslo_config import cfg

from cnsmo.core.server import CoreServer
from cnsmo.doctor import symptom
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import Heartbeat
from cnsmo.state import sealing
from cnsmo.state.engine import engine_for, transaction
from cnsmo.state.tables import IDENTITIES, RESOURCES
from cnsmo.state.vault import Vault
from cnsmo.trust import authority, certificates, keys
from cnsmo.trust.authority import Authority, Kept
from tests.eventually import eventually
from tests.functional.manage.person import DOCUMENT, Person, Puppet, Said

WELL, WARNING, CRITICAL, UNKNOWN = range(4)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def database(conf: cfg.ConfigOpts) -> Iterator[Callable[[sa.Executable], None]]:
    """Writes past the cores."""
    engine = engine_for(conf.database.connection)

    def write(statement: sa.Executable) -> None:
        with transaction(engine) as connection:
            connection.execute(statement)

    yield write
    engine.dispose()


def doctor(person: Person, *names: str) -> Said:
    """Look for these, or for all."""
    return person.run("doctor -f json", *(f"--only={name}" for name in names))


def found(person: Person, name: str) -> tuple[int, str]:
    """Exit code, and what was found of one symptom."""
    said = doctor(person, name)
    (looked,) = said.json["symptoms"]
    assert bool(looked["advice"]) == bool(looked["findings"]), "advice comes with what it is for"
    return said.code, "; ".join(it["text"] for it in looked["findings"])


def test_a_site_that_is_well_is_well(person: Person, hosts: Callable[..., None]) -> None:
    hosts("web1")
    person.does("apply -", stdin=DOCUMENT)
    person.does("host list")
    eventually(lambda: person.run("doctor").code == WELL)
    said = doctor(person)
    assert (said.code, said.json["status"]) == (WELL, "ok")
    assert len(said.json["symptoms"]) == len(symptom.known(symptom.SITE)) >= 19
    assert [it for it in said.json["symptoms"] if it["findings"]] == []
    assert person.does("doctor").out == f"CNSMO OK: {len(said.json['symptoms'])} well\n"


def test_every_symptom_has_a_title_and_an_advice() -> None:
    for group in (symptom.SITE, symptom.HOST):
        for it in symptom.known(group).values():
            assert 10 < len(it.title) < 100, it.name
            assert len(it.advice) > 60, it.name


def test_symptoms_are_listed_chosen_and_left_out(person: Person) -> None:
    listed = person.does("doctor --list").out
    assert "migration-behind" in listed
    assert "certificate-ends" in person.does("doctor --list --host").out
    told = person.does("doctor --only broker-away --only core-away -f json").json
    assert [it["symptom"] for it in told["symptoms"]] == ["broker-away", "core-away"]
    skipped = person.run("doctor --skip hints-not-arriving -f json").json["symptoms"]
    assert "hints-not-arriving" not in {it["symptom"] for it in skipped}


def test_what_cannot_be_looked_for_is_no_finding(person: Person) -> None:
    assert "there is no symptom 'plague'" in person.fails(UNKNOWN, "doctor --only plague")
    assert "unrecognized" in person.fails(UNKNOWN, "doctor --fast")


def test_a_symptom_that_fails_hides_no_other(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_site: Any) -> Any:
        raise KeyError("surprise")

    monkeypatch.setattr("cnsmo.doctor.bus.broker_away", fail)
    said = doctor(person, "broker-away", "core-away")
    assert said.code == UNKNOWN
    broker, core = said.json["symptoms"]
    assert "could not look: KeyError" in broker["findings"][0]["text"]
    assert core["status"] == "ok"


def test_the_worst_decides_and_people_get_the_advice(
    person: Person, database: Callable[..., None], conf: cfg.ConfigOpts
) -> None:
    Path(conf.join.ca_directory, authority.FILE).chmod(0o640)
    database(sa.text("UPDATE alembic_version SET version_num = '001'"))
    said = person.run("doctor --only file-modes --only migration-behind --only broker-away")
    assert said.code == CRITICAL
    assert said.out.startswith("CNSMO CRITICAL: 1 critical, 1 to look after, 1 well\n")
    assert "warning file-modes: a group can use" in said.out
    assert "\n    A core of this release does not start on it." in said.out


def test_a_migration_that_is_behind(person: Person, database: Callable[..., None]) -> None:
    database(sa.text("UPDATE alembic_version SET version_num = '002'"))
    code, text = found(person, "migration-behind")
    assert (code, "has schema 002" in text) == (CRITICAL, True)


def test_a_database_that_is_not_there(person: Person, conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    conf.set_override("connection", f"sqlite:///{tmp_path}/none/state.sqlite", "database")
    code, text = found(person, "database-away")
    assert (code, "there is no database" in text) == (CRITICAL, True)
    code, text = found(person, "agents-behind")
    assert (code, "could not look: there is no database" in text) == (UNKNOWN, True)
    assert not (tmp_path / "none").exists()


def test_a_key_that_is_another_databases(
    person: Person, conf: cfg.ConfigOpts, tmp_path: Path
) -> None:
    other = Vault(tmp_path / "other.json")
    conf.set_override("key_file", str(other.path), "secrets")
    assert found(person, "secrets-key")[0] == CRITICAL
    other.create()
    code, text = found(person, "secrets-key")
    assert (code, "is not the one that this database is sealed with" in text) == (CRITICAL, True)
    other.path.chmod(0o644)
    assert "can be read by others" in found(person, "secrets-key")[1]


def test_values_that_somebody_else_sealed(
    person: Person, puppet: Callable[..., Puppet], database: Callable[..., None]
) -> None:
    puppet("web1")
    database(sa.update(IDENTITIES).values(secret_hash="forged"))
    code, text = found(person, "secrets-key")
    assert (code, text.startswith("1 values are sealed by others")) == (CRITICAL, True)


def test_a_rotation_that_has_not_ended(
    person: Person, conf: cfg.ConfigOpts, core: CoreServer
) -> None:
    sealing.rotate(core.core.store.engine, core.core.vault, keep=True)
    code, text = found(person, "secrets-key")
    assert (code, "was begun, and has not ended" in text) == (WARNING, True)


@pytest.mark.parametrize(
    ("mode", "code"), [(0o600, WELL), (0o640, WARNING), (0o604, CRITICAL)], ids=oct
)
def test_files_that_others_can_read(
    person: Person, conf: cfg.ConfigOpts, mode: int, code: int
) -> None:
    path = Path(conf.join.ca_directory, authority.FILE)
    path.chmod(mode)
    known, text = found(person, "file-modes")
    assert known == code
    assert (str(path) in text) == bool(code)


def test_a_configuration_with_a_password_that_everybody_can_read(
    person: Person, conf: cfg.ConfigOpts, tmp_path: Path
) -> None:
    path = tmp_path / "cnsmo.conf"
    path.write_text("[bus]\nurl = rabbit://me:pass@127.0.0.1:1/x\n")
    path.chmod(0o644)
    conf([], project="cnsmo", default_config_files=[str(path)], default_config_dirs=[])
    code, text = found(person, "file-modes")
    assert (code, text) == (CRITICAL, f"everybody can use {path} (mode 0644)")
    path.write_text("[core]\ndown_after = 50\n")
    assert found(person, "file-modes")[0] == WELL


def test_an_authority_that_is_gone(person: Person, conf: cfg.ConfigOpts) -> None:
    assert found(person, "authority-away") == (WELL, "")
    Path(conf.join.ca_directory, authority.FILE).unlink()
    code, text = found(person, "authority-away")
    assert (code, "there is no certificate authority" in text) == (CRITICAL, True)


def test_a_core_that_lets_nobody_join(person: Person, core: CoreServer) -> None:
    assert core._join
    core._join.stop()
    code, text = found(person, "authority-away")
    core._join = None
    assert (code, "no core lets hosts join" in text) == (CRITICAL, True)


def test_a_core_by_another_authority(person: Person, core: CoreServer, conf: Any) -> None:
    """The file was replaced, and the core still serves what is none of it."""
    directory = Path(conf.join.ca_directory)
    assert core._join
    core._join._identity.context()
    core._join._identity._stamp = lambda: core._join._identity._loaded  # type: ignore[union-attr]
    Authority.new(datetime.datetime.now(datetime.UTC)).save(directory)
    code, text = found(person, "authority-away")
    assert (code, "certificate verify failed" in text) == (CRITICAL, True)


def short_lived(life: datetime.timedelta) -> Authority:
    key = keys.new_key()
    made = certificates.self_signed(key, datetime.datetime.now(datetime.UTC), life)
    return Authority(Kept(key=keys.key_pem(key), certificate=certificates.pem(made)))


@pytest.mark.parametrize(("days", "code"), [(90, WELL), (30, WARNING), (5, CRITICAL)])
def test_an_authority_that_ends(person: Person, conf: cfg.ConfigOpts, days: int, code: int) -> None:
    short_lived(days * DAY).save(Path(conf.join.ca_directory))
    known, text = found(person, "certificate-ends")
    assert known == code
    assert ("the certificate authority ends on" in text) == bool(code)


def test_a_core_whose_certificate_is_not_renewed(
    conf: cfg.ConfigOpts, door: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "CORE_LIFE", 3 * DAY)
    core = CoreServer(conf)
    core.start()
    code, text = found(Person(tmp_path), "certificate-ends")
    core.stop()
    assert (code, "the certificate of this core ends on" in text) == (WARNING, True)


@pytest.mark.parametrize(("days", "code"), [(60, WELL), (15, WARNING), (-1, CRITICAL)])
def test_a_host_whose_certificate_was_not_renewed(
    person: Person,
    puppet: Callable[..., Puppet],
    database: Callable[..., None],
    days: int,
    code: int,
) -> None:
    puppet("web1")
    ends = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + days * DAY
    database(sa.update(IDENTITIES).values(expires_at=ends))
    known, text = found(person, "certificate-ends")
    assert (known, "lab/web1" in text) == (code, bool(code))


@pytest.mark.parametrize(("minutes", "code"), [(1, WELL), (5, WARNING), (60, CRITICAL)])
def test_an_agent_that_is_behind_for_long(
    person: Person,
    puppet: Callable[..., Puppet],
    database: Callable[..., None],
    minutes: int,
    code: int,
) -> None:
    web1 = puppet("web1")
    web1.reports()
    before = web1.client.sync(0).head
    person.does("apply -", stdin=DOCUMENT)
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=minutes)
    database(sa.update(RESOURCES).values(updated_at=then.replace(tzinfo=None)))
    web1.client.heartbeat(Heartbeat(applied={"vpn": before}))
    known, text = found(person, "agents-behind")
    assert (known, "lab/web1/vpn" in text) == (code, bool(code))
    web1.client.heartbeat(Heartbeat(applied={"vpn": web1.client.sync(0).head}))
    assert found(person, "agents-behind") == (WELL, "")


def test_agents_in_trouble(person: Person, puppet: Callable[..., Puppet]) -> None:
    puppet("web1").reports(State.ERROR, "no way")
    puppet("web2").reports()
    assert found(person, "agents-in-trouble") == (WARNING, "error: lab/web1/vpn")


def test_an_agent_whose_clock_is_off(
    person: Person, puppet: Callable[..., Puppet], monkeypatch: pytest.MonkeyPatch
) -> None:
    web1 = puppet("web1")
    said = web1.client._said
    monkeypatch.setattr(web1.client, "_said", lambda: {**said(), "agent_clock": time.time() + 10})
    web1.reports()
    code, text = found(person, "agents-clock")
    assert (code, text) == (WARNING, "clocks that are off: lab/web1 by +10 s")


def test_nobody_believes_what_an_agent_says_of_its_clock(
    person: Person, puppet: Callable[..., Puppet], monkeypatch: pytest.MonkeyPatch
) -> None:
    web1 = puppet("web1")
    said = web1.client._said
    for clock in ("now", None, [], 1e400, -1e400, {"a": 1}, "x" * 9999):
        monkeypatch.setattr(
            web1.client, "_said", lambda it=clock: {**said(), "agent_clock": it, "agent_rpc": it}
        )
        web1.reports()
    assert found(person, "agents-clock") == (WELL, "")


def test_an_agent_that_does_not_hear_hints(person: Person, puppet: Callable[..., Puppet]) -> None:
    """A puppet listens to nobody; its heartbeats do not say that it looked."""
    web1 = puppet("web1")
    web1.reports()
    code, text = found(person, "hints-not-arriving")
    assert (code, text) == (WARNING, "lab: not heard within 4 s by web1")


def test_a_plugins_symptom_is_looked_for(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = types.SimpleNamespace(name="sleepy", value="a.package:sleepy", load=lambda: sleepy)
    known = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda group: [*known(group=group), *[mine] * (group == symptom.SITE)],
    )
    told = json.loads(person.run("doctor --only sleepy -f json").out)["symptoms"][0]
    assert (told["title"], told["advice"]) == ("It sleeps", "Wake it.")


def sleepy(_site: Any) -> Iterator[symptom.Finding]:
    """It sleeps.

    Wake it.
    """
    yield symptom.warning("snoring")
