# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage audit and secrets: who did what, that nobody changed it, and the key behind it."""

import json
import stat
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from cnsmo.core.server import CoreServer
from cnsmo.model.errors import InvalidRequest, NotFound
from cnsmo.state.engine import engine_for, transaction
from cnsmo.state.tables import AUDIT, IDENTITIES
from tests.eventually import eventually
from tests.functional.manage.person import DOCUMENT, Person, Said


@pytest.fixture
def shop(person: Person, puppet) -> Person:
    """The deployment lab, with a host and a VPN that was changed once."""
    puppet("web1")
    person.does("apply -", stdin=DOCUMENT)
    person.does("apply -", stdin=DOCUMENT.replace("noop}", "noop, keepalive: 9}"))
    return person


def test_a_table_tells_who_changed_what(shop: Person) -> None:
    said = shop.does("audit list --kind vpn")
    assert "keepalive: 25 -> 9" in said.out
    assert "cidr: 10.66.0.0/16" in said.out
    made, changed = shop.does("audit list --kind vpn -f json").json
    assert (made["before"], changed["before"]) == (None, made["after"])
    assert (changed["after"]["keepalive"], changed["action"]) == (9, "apply")
    assert changed["who"]
    assert changed["from"]
    assert changed["number"] == made["number"] + 1


def test_lines_are_chosen_by_host_time_and_number(shop: Person) -> None:
    everything = shop.does("audit list -f json").json
    assert [line["number"] for line in everything] == list(range(1, len(everything) + 1))
    of_host = shop.does("audit list --host web1 -f json").json
    assert {line["action"] for line in of_host} == {"join"}
    assert shop.does("audit list --since 1h -f json").json == everything
    assert "Nothing that was done matches" in shop.does("audit list --since 2099-01-01").out
    assert shop.does("audit list --limit 2 -f json").json == everything[-2:]
    last = everything[-1]["revision"]
    assert shop.does(f"audit list --revision {last} -f json").json == everything[-1:]
    assert "is no duration" in shop.fails(2, "audit list --since yesterday")
    assert "no audit of a deployment" in shop.fails(4, "audit list -d nowhere")


def test_more_lines_than_an_answer_holds_are_fetched_in_pages(shop: Person, monkeypatch) -> None:
    everything = shop.does("audit list -f json").json
    monkeypatch.setattr("cnsmo.state.audit_trail.PAGE_LINES", 3)
    assert shop.does("audit list -f json").json == everything
    assert shop.does("audit list --limit 5 -f json").json == everything[-5:]


def test_verify_prints_a_head_that_can_be_kept_elsewhere(shop: Person) -> None:
    head = shop.does("audit verify -d lab -f value -c head").out.strip()
    assert head == shop.does("audit list -f json").json[-1]["hash"]
    shop.does("apply -", stdin=DOCUMENT)
    (found,) = shop.does(f"audit verify --head {head} -f json").json
    assert (found["deployment"], found["deleted"], found["problems"]) == ("lab", False, [])
    other = "0" * 64
    assert f"no line has the digest {other}" in shop.fails(11, f"audit verify --head {other}")
    assert "is no digest" in shop.fails(2, "audit verify --head abc")


def test_verify_fails_where_a_line_was_altered(shop: Person, conf) -> None:
    engine = engine_for(conf.database.connection)
    with transaction(engine) as connection:
        connection.execute(sa.update(AUDIT).where(AUDIT.c.number == 3).values(who="carl"))
    engine.dispose()
    said = shop.run("audit verify -f json")
    assert said.code == 11
    assert "line 3 was altered" in said.err
    assert "line 3 was altered" in json.loads(said.out)[0]["problems"][0]


def test_the_audit_of_a_deleted_deployment_can_be_read(person: Person) -> None:
    person.does("deployment create gone")
    person.does("deployment delete gone")
    *_rest, last = person.does("audit list -d gone -f json").json
    assert (last["action"], last["after"]) == ("deployment delete", None)
    (found,) = person.does("audit verify -d gone -f json").json
    assert found["deleted"]


def test_events_of_the_audit_are_shown_where_they_are_asked_for(shop: Person, operator) -> None:
    watching = [
        (line, threading.Thread(target=lambda line=line: said.update({line: shop.does(line)})))
        for line in ("watch -f json --count 1", "watch -f json --count 1 --type audit.*")
    ]
    said: dict[str, Said] = {}
    for _line, thread in watching:
        thread.start()
    eventually(  # again and again: who watches begins in its own time
        lambda: operator.renew("lab", "vpn", "backbone") and len(said) == len(watching)
    )
    for _line, thread in watching:
        thread.join(10)
    plain, audit = (said[line].json for line, _thread in watching)
    assert plain["type"] == "vpn.renewal.declared"
    assert audit["type"] == "audit.renew"
    assert audit["message"].split()[-1] in str(shop.does("audit list -f json").json)


# the key


@pytest.fixture
def alone(conf, tmp_path: Path) -> Person:
    """A person with a configuration and nothing else."""
    conf.set_override("connection", f"sqlite:///{tmp_path}/new/state.sqlite", "database")
    conf.set_override("key_file", "", "secrets")  # beside the database
    return Person(tmp_path, embed=True)


def test_a_new_database_comes_with_its_key(alone: Person, tmp_path: Path) -> None:
    said = alone.does("db upgrade").out
    key = tmp_path / "new" / "secrets.json"
    assert f"{key}: back it up" in said
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    alone.does("deployment create shop")
    shown = alone.does("secrets show -f json").json
    assert (shown["sealed"], shown["by_others"]) == (2, 0)
    assert key.read_text().split('"')[3] not in alone.does("secrets show -f json").out


def test_a_database_without_its_key_is_not_served(alone: Person, tmp_path: Path) -> None:
    alone.does("db upgrade")
    key = tmp_path / "new" / "secrets.json"
    kept = key.rename(tmp_path / "backup")
    assert "restore it from the backup" in alone.fails(4, "deployment list")
    assert "restore it from the backup" in alone.fails(4, "db upgrade")
    alone.does("secrets init")
    assert "is not the one that this database is sealed with" in alone.fails(2, "deployment list")
    kept.rename(key)
    alone.does("deployment list")
    assert "'cnsmo-manage secrets rotate' replaces it" in alone.fails(5, "secrets init")
    assert "replaces it" in alone.fails(5, "secrets init --dry-run")


def test_a_database_that_cannot_be_meant_is_told_before_its_key(alone: Person, conf) -> None:
    conf.set_override("connection", "nonsense", "database")
    assert "is no URL" in alone.fails(2, "secrets init")


def test_a_core_says_what_is_wrong_with_the_key_when_it_starts(conf, tmp_path: Path) -> None:
    conf.set_override("key_file", str(tmp_path / "none.json"), "secrets")
    with pytest.raises(NotFound, match="no key for the database's secrets"):
        CoreServer(conf).start(health=False)
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(InvalidRequest, match="is damaged"):
        CoreServer(conf).start(health=False)


def test_a_key_that_others_can_read_is_refused(alone: Person, tmp_path: Path) -> None:
    alone.does("db upgrade")
    (tmp_path / "new" / "secrets.json").chmod(0o640)
    assert "chmod 600" in alone.fails(2, "deployment list")


def test_hosts_go_on_through_a_rotation(shop: Person, conf) -> None:
    old = shop.does("secrets show -f json").json
    assert "Dry run: would seal" in shop.does("secrets rotate --dry-run").out
    assert f"{old['sealed']} values sealed" in shop.does("secrets rotate").out
    assert shop.does("secrets show -f json").json == old
    shop.does("apply -", stdin=DOCUMENT)
    shop.does("audit verify")
    assert "copy it to all cores" in shop.does("secrets rotate --stage").out
    assert shop.does("secrets show -f json").json["next_key"] is True
    assert "stays in the file" in shop.does("secrets rotate --keep").out
    assert shop.does("secrets show -f json").json["former_keys"] == 1
    assert "carried on. The old key is gone" in shop.does("secrets rotate").out
    assert "one step after the other" in shop.fails(2, "secrets rotate --stage --keep")


def test_what_nobody_sealed_is_counted(shop: Person, conf) -> None:
    engine = engine_for(conf.database.connection)
    with transaction(engine) as connection:
        connection.execute(sa.update(IDENTITIES).values(nonce_hash="0" * 64))
    engine.dispose()
    assert shop.does("secrets show -f value -c by_others").out.strip() == "1"
