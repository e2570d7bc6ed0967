# SPDX-License-Identifier: Apache-2.0
"""A deployment in a file: all of it, from any kind of database into any other, or not at all."""

import dataclasses
import datetime
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from oslo_config import cfg

from cnsmo.core.context import Core
from cnsmo.core.membership import Membership
from cnsmo.model.audit import Act
from cnsmo.model.errors import Conflict, Denied, InvalidRequest, NotFound, Removed
from cnsmo.model.messages import JoinAnswer, TokenRequest
from cnsmo.model.resource import OPERATOR
from cnsmo.state import backup, backup_file, schema, sealing, tokens
from cnsmo.state.audit_trail import AuditTrail
from cnsmo.state.backup import LEAP, Restored
from cnsmo.state.backup_file import BackupReader
from cnsmo.state.engine import engine_for, transaction
from cnsmo.state.tables import AGENTS, AUDIT, IDENTITIES, METADATA
from cnsmo.state.vault import Vault
from cnsmo.state.writer import Writer
from tests.integration.state import processes
from tests.joining import join_request, make_authority

ANNA = Act.of_operator("anna@desk", "restore")


@dataclasses.dataclass
class Site:
    """A database with a key of its own, and a core on it."""

    core: Core
    kind: str

    @property
    def engine(self) -> sa.Engine:
        return self.core.store.engine

    @property
    def vault(self) -> Vault:
        return self.core.vault

    def token(self, **request: Any) -> str:
        wanted = TokenRequest(**{"uses": 100, **request})
        done = self.core.write("shop", ANNA, lambda writer: tokens.create(writer, wanted))
        return str(done.value.token)

    def put(self, name: str, **body: Any) -> int:
        def work(writer: Writer) -> None:
            writer.put("thing", name, body, OPERATOR)

        return self.core.store.write("shop", "anna", work).revision

    def join(self, token: str, host: str) -> JoinAnswer:
        return Membership(self.core).join(join_request(token, host))

    def knows(self, answer: JoinAnswer) -> bool:
        try:
            self.core.identities.authenticate(answer.id, answer.secret)
        except Denied:
            return False
        return True

    def save(self, path: Path) -> backup.Saved:
        return backup.save(self.engine, self.vault, "shop", path)

    def restore(self, path: Path, *, key: Vault | None = None, dry: bool = False) -> Restored:
        with BackupReader(path) as file:
            source = file.sealed_by([self.vault, *([key] if key else [])])
            return backup.restore(self.engine, self.vault, file, source, ANNA, dry)

    def rows(self) -> dict[tuple[str, str], Any]:
        changes = self.core.store.changes("shop", 0)
        return {(row.kind, row.name): row for row in changes.rows}

    def problems(self) -> list[str]:
        found = AuditTrail(self.engine, self.vault).verify("shop")
        return [problem for it in found for problem in it.problems]

    def counts(self) -> dict[str, int]:
        with transaction(self.engine) as connection:
            return {
                table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for table in METADATA.sorted_tables
            }


@pytest.fixture
def site(conf: cfg.ConfigOpts, tmp_path: Path) -> Iterator[Callable[[str, str], Site]]:
    """site("sqlite", URL): a migrated database, with a key and an authority of its own."""
    made: list[Site] = []
    options = conf.join.ca_directory

    def make(name: str, url: str) -> Site:
        place = tmp_path / name
        (place / "ca").mkdir(parents=True)
        conf.set_override("ca_directory", str(place / "ca"), "join")
        make_authority(conf)
        conf.set_override("ca_directory", options, "join")
        Vault(place / "secrets.json").create()
        schema.upgrade(engine_for(url))
        core = processes.make_core(url, str(place / "ca"))
        sealing.check(core.store.engine, core.vault)
        made.append(Site(core, name))
        return made[-1]

    yield make
    for it in made:
        it.engine.dispose()


@pytest.fixture
def source(site: Callable[[str, str], Site], tmp_path: Path) -> Site:
    """A shop in SQLite."""
    made = site("source", f"sqlite:///{tmp_path}/source.sqlite")
    made.core.store.create("shop")
    return made


@pytest.fixture
def target(site: Callable[[str, str], Site], database_url: str) -> Site:
    """An empty database, of each kind."""
    return site("target", database_url)


@pytest.fixture
def beside(site: Callable[[str, str], Site], tmp_path: Path) -> Site:
    """An empty SQLite database."""
    return site("beside", f"sqlite:///{tmp_path}/beside.sqlite")


def test_all_of_a_deployment_comes_back_in_any_database(
    source: Site, target: Site, tmp_path: Path
) -> None:
    token = source.token(groups=["web"])
    answers = [source.join(token, f"web{number}") for number in range(3)]
    source.put("änna 😀", deep=[1, 2.5, None, {"x": "😀"}], big=2**60)
    source.put("gone", x=1)
    source.core.store.write("shop", "anna", lambda writer: writer.delete("thing", "gone"))
    Membership(source.core).remove("shop", "web2", ANNA, keep_tokens=True)
    head = source.core.store.deployment("shop")
    source.save(tmp_path / "file")
    done = target.restore(tmp_path / "file", key=source.vault)
    assert (done.hosts, done.unopened, done.revision) == (2, 0, head.revision + LEAP)
    assert target.rows() == source.rows()
    assert target.core.store.deployment("shop").created_at == head.created_at
    assert [target.knows(answer) for answer in answers[:2]] == [True, True]
    with pytest.raises(Removed):
        target.knows(answers[2])
    assert target.join(token, "web9").groups == ["web"], "a token goes on, with its uses"
    counted = {**source.counts(), "vault": 1}
    assert target.counts()["identities"] == counted["identities"] + 1
    assert target.problems() == []


def test_every_database_can_be_left(target: Site, beside: Site, tmp_path: Path) -> None:
    target.core.store.create("shop")
    answer = target.join(target.token(), "web1")
    for number in range(3):
        target.put(f"row{number}", x=number)
    target.save(tmp_path / "file")
    beside.restore(tmp_path / "file", key=target.vault)
    assert beside.rows() == target.rows()
    assert beside.knows(answer)
    assert beside.problems() == []


def test_the_audit_goes_on_and_a_head_that_was_kept_is_still_there(
    source: Site, beside: Site, tmp_path: Path
) -> None:
    source.put("row", x=1)
    (kept,) = AuditTrail(source.engine, source.vault).verify("shop")
    source.save(tmp_path / "file")
    done = beside.restore(tmp_path / "file", key=source.vault)
    (found,) = AuditTrail(beside.engine, beside.vault).verify("shop", kept.head)
    assert (found.problems, found.lines) == ((), kept.lines + 1)
    with transaction(beside.engine) as connection:
        last = connection.execute(sa.select(AUDIT).order_by(AUDIT.c.number.desc())).mappings()
        line = last.fetchone()
    assert line is not None
    assert (line["who"], line["action"], line["kind"]) == ("anna", "restore", "deployment")
    assert json.loads(line["after"])["revision"] == done.revision


def test_readers_get_a_snapshot_however_far_they_were(
    source: Site, beside: Site, tmp_path: Path
) -> None:
    source.put("row", x=1)
    source.save(tmp_path / "file")
    for number in range(5):
        source.put("later", x=number)
    ahead = source.core.store.deployment("shop").revision
    beside.restore(tmp_path / "file", key=source.vault)
    for since in (0, 1, ahead, ahead + 1000):
        changes = beside.core.store.changes("shop", since)
        assert changes.snapshot
        assert changes.head > ahead
        assert [row.name for row in changes.rows] == ["row"]
    head = beside.core.store.deployment("shop").revision
    assert not beside.core.store.changes("shop", head).snapshot
    assert beside.put("row", x=2) == head + 1


def test_agents_are_given_time_to_find_the_core(source: Site, beside: Site, tmp_path: Path) -> None:
    source.join(source.token(), "web1")
    with transaction(source.engine) as connection:
        long_ago = datetime.datetime(2020, 1, 1)  # noqa: DTZ001  as the database keeps it
        connection.execute(sa.update(AGENTS).values(heartbeat_at=long_ago))
    source.save(tmp_path / "file")
    beside.restore(tmp_path / "file", key=source.vault)
    was, now = (it.core.silences.picture("shop", 30) for it in (source, beside))
    assert [it.host for it in was.agents] == ["web1"]
    assert now.agents == ()


def test_a_file_is_its_owners_alone_and_holds_no_secret(source: Site, tmp_path: Path) -> None:
    token = source.token()
    answer = source.join(token, "web1")
    source.save(tmp_path / "file")
    text = (tmp_path / "file").read_text()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    for secret in (answer.secret, token.partition(".")[2], source.vault.load().current):
        assert secret not in text


def test_a_backup_is_of_one_moment_while_cores_write(
    source: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written meanwhile is in it as a whole, or not at all."""
    monkeypatch.setattr(backup, "BATCH", 2)
    for number in range(6):
        source.put(f"row{number}", x=0)
    revision = source.core.store.deployment("shop").revision
    plain, wrote = backup._plain, []

    def write_between(table: sa.Table, values: sa.RowMapping) -> dict[str, Any]:
        if table.name == "resources" and not wrote:
            other = engine_for(str(source.engine.url))
            wrote.append(processes.Store(other, source.vault))
            for number in range(6):
                wrote[0].write(
                    "shop", "x", lambda it, n=number: it.put("thing", f"row{n}", {"x": 1}, OPERATOR)
                )
            other.dispose()
        return plain(table, values)

    monkeypatch.setattr(backup, "_plain", write_between)
    saved = source.save(tmp_path / "file")
    assert saved.head.revision == revision
    with BackupReader(tmp_path / "file") as file:
        rows = [values for table, values in file.records() if table == "resources"]
    assert [row["body"] for row in rows] == [{"x": 0}] * 6
    assert source.core.store.deployment("shop").revision == revision + 6


# what is refused


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


def swapped(text: list[str]) -> list[str]:
    return [text[0], *reversed(text[1:-1]), text[-1]]


def recomputed(text: list[str]) -> list[str]:
    """Altered by who knows how, but has no key."""
    changed = [line.replace('"x":1', '"x":2') for line in text[:-1]]
    digest = backup_file.hashlib.sha256("".join(changed).encode()).hexdigest()
    return [*changed, json.dumps({**json.loads(text[-1]), "sha256": digest})]


ALTERED: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "a value": (lambda it: [line.replace('"x":1', '"x":2') for line in it], "was altered"),
    "a line less": (lambda it: [*it[:3], *it[4:]], "was altered"),
    "a line more": (lambda it: [*it[:3], it[2], *it[3:]], "was altered"),
    "another order": (swapped, "was altered"),
    "another name": (lambda it: [it[0].replace("shop", "shoe"), *it[1:]], "was altered"),
    "its end cut off": (lambda it: it[:-1], "is torn"),
    "torn in a line": (lambda it: [*it[:3], it[3][:10]], "is torn"),
    "its checksum made anew": (recomputed, "was not sealed with the key"),
    "another format": (lambda it: [it[0].replace("backup 1", "backup 2"), *it[1:]], "the format"),
    "nothing": (lambda it: [], "is no backup"),
    "something else": (lambda it: ["deployment: shop\n"], "is no backup"),
}


@pytest.mark.parametrize("how", ALTERED)
def test_a_file_is_refused_that_has(how: str, source: Site, beside: Site, tmp_path: Path) -> None:
    source.put("row", x=1)
    source.save(tmp_path / "file")
    change, told = ALTERED[how]
    text = lines(tmp_path / "file")
    assert change(text) != text
    (tmp_path / "file").write_text("".join(change(text)))
    before = beside.counts()
    with pytest.raises(InvalidRequest, match=told):
        beside.restore(tmp_path / "file", key=source.vault)
    assert beside.counts() == before


def test_a_file_of_another_core_needs_that_cores_key(
    source: Site, beside: Site, tmp_path: Path
) -> None:
    source.save(tmp_path / "file")
    with pytest.raises(InvalidRequest, match="name the key file of the core that it comes from"):
        beside.restore(tmp_path / "file")


def test_what_no_key_opens_stays_unopened(source: Site, beside: Site, tmp_path: Path) -> None:
    answer = source.join(source.token(), "web1")
    with transaction(source.engine) as connection:
        connection.execute(sa.update(IDENTITIES).values(secret_hash="forged"))
    source.save(tmp_path / "file")
    assert beside.restore(tmp_path / "file", key=source.vault).unopened == 1
    assert not beside.knows(answer)


def test_a_backup_from_the_middle_of_a_rotation_can_be_restored(
    source: Site, beside: Site, tmp_path: Path
) -> None:
    before = source.join(source.token(), "web1")
    sealing.rotate(source.engine, source.vault, keep=True)
    after = source.join(source.token(), "web2")
    source.save(tmp_path / "file")
    assert beside.restore(tmp_path / "file", key=source.vault).unopened == 0
    assert beside.knows(before)
    assert beside.knows(after)


def test_nothing_is_written_over(source: Site, beside: Site, tmp_path: Path) -> None:
    source.put("row", x=1)
    source.save(tmp_path / "file")
    with pytest.raises(Conflict, match="nothing is written over"):
        source.save(tmp_path / "file")
    beside.core.store.create("shop")
    before = beside.counts()
    with pytest.raises(Conflict, match="has a deployment 'shop' already"):
        beside.restore(tmp_path / "file", key=source.vault)
    assert beside.counts() == before


def test_a_dry_run_finds_out_and_writes_nothing(source: Site, beside: Site, tmp_path: Path) -> None:
    source.join(source.token(), "web1")
    source.save(tmp_path / "file")
    before = beside.counts()
    assert beside.restore(tmp_path / "file", key=source.vault, dry=True).hosts == 1
    assert beside.counts() == before
    beside.restore(tmp_path / "file", key=source.vault)
    with pytest.raises(Conflict):
        beside.restore(tmp_path / "file", key=source.vault, dry=True)


def test_a_deployment_that_was_deleted_comes_back_with_its_audit_whole(
    source: Site, tmp_path: Path
) -> None:
    source.put("row", x=1)
    source.save(tmp_path / "file")
    source.put("row", x=2)
    source.core.store.delete("shop")
    source.restore(tmp_path / "file")
    assert source.rows()["thing", "row"].body == {"x": 1}
    (found,) = AuditTrail(source.engine, source.vault).verify("shop")
    assert (found.problems, found.ended) == ((), False)
    with transaction(source.engine) as connection:
        actions = list(connection.scalars(sa.select(AUDIT.c.action).order_by(AUDIT.c.number)))
    assert actions[-2:] == ["write", "restore"]


def test_an_audit_that_is_another_one_is_not_mixed_with(source: Site, tmp_path: Path) -> None:
    source.put("row", x=1)
    source.save(tmp_path / "file")
    source.core.store.delete("shop")
    with transaction(source.engine) as connection:
        connection.execute(sa.update(AUDIT).values(hash="0" * 64))
    with pytest.raises(Conflict, match="is not the one of the backup"):
        source.restore(tmp_path / "file")


def test_a_deployment_whose_audit_was_taken_away_gets_a_new_one(
    source: Site, beside: Site, tmp_path: Path
) -> None:
    source.put("row", x=1)
    with transaction(source.engine) as connection:
        connection.exec_driver_sql("DELETE FROM audit")
        connection.exec_driver_sql("DELETE FROM audit_chains")
    source.save(tmp_path / "file")
    beside.restore(tmp_path / "file", key=source.vault)
    assert beside.rows() == source.rows()
    assert beside.problems() == []


def test_a_backup_of_an_earlier_release_is_restored_where_what_is_new_may_be_empty(
    source: Site, beside: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = source.join(source.token(), "web1")
    with monkeypatch.context() as patch:
        kept = backup._kept
        patch.setattr(
            backup, "_kept", lambda table: [it for it in kept(table) if it.name != "key_hash"]
        )
        source.save(tmp_path / "old")
        patch.setattr(
            backup, "_kept", lambda table: [it for it in kept(table) if it.name != "owner"]
        )
        source.save(tmp_path / "older")
    beside.restore(tmp_path / "old", key=source.vault)
    assert beside.knows(answer)
    beside.core.store.delete("shop")
    with pytest.raises(InvalidRequest, match="restore it with the release that made it"):
        beside.restore(tmp_path / "older", key=source.vault)


def test_a_backup_of_a_later_release_is_refused(
    source: Site, beside: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "newest", lambda: "999")
        source.save(tmp_path / "file")
    with pytest.raises(InvalidRequest, match="from a release with schema 999"):
        beside.restore(tmp_path / "file", key=source.vault)


def test_nobody_is_saved_who_is_not_there(source: Site, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no deployment 'shoe'"):
        backup.save(source.engine, source.vault, "shoe", tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_every_table_is_in_a_backup_or_known_not_to_be() -> None:
    """Who adds a table decides."""
    known = {"deployments", "audit", "audit_chains"} | {it.name for it in backup.OF_DEPLOYMENT}
    left_out = {it.name for it in backup.NOT_OF_DEPLOYMENTS}
    assert known | left_out == set(METADATA.tables)
    assert not known & left_out
