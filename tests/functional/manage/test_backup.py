# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage backup and restore, as a person runs them."""

import shutil
from collections.abc import Callable
from pathlib import Path

from oslo_config import cfg

from cnsmo.state.backup import LEAP
from tests.functional.manage.person import DOCUMENT, Person, Puppet


def test_a_deployment_is_saved_and_restored_after_a_mistake(
    person: Person, puppet: Callable[..., Puppet]
) -> None:
    puppet("web1").reports()
    person.does("apply -", stdin=DOCUMENT)
    exported = person.does("deployment export lab").out
    assert "Dry run: would write lab at revision" in person.does("backup lab f --dry-run").out
    assert not (person.cwd / "f").exists()
    said = person.does("backup lab f").out
    assert "is needed, which is not in it" in said
    assert "nothing is written over" in person.fails(5, "backup lab f")
    assert "nothing is written over" in person.fails(5, "backup lab f --dry-run")
    assert "has a deployment 'lab' already" in person.fails(5, "restore f")
    person.does("host remove web1")
    person.does("deployment delete lab")
    told = person.does("restore f --dry-run").out
    assert "with 1 hosts, as revision" in told
    assert "there is no deployment 'lab'" in person.fails(4, "deployment show lab")
    person.does("restore f")
    assert person.does("deployment export lab").out == exported
    assert person.does("deployment show lab -f json").json["revision"] > LEAP
    assert [host["name"] for host in person.does("host list -d lab -f json").json] == ["web1"]
    person.does("audit verify")
    last = person.does("audit list -d lab -f json").json[-1]
    assert (last["action"], last["kind"]) == ("restore", "deployment")


def test_what_cannot_be_restored_is_told(
    person: Person, puppet: Callable[..., Puppet], conf: cfg.ConfigOpts, tmp_path: Path
) -> None:
    puppet("web1")
    person.does("backup lab f")
    assert "there is no file" in person.fails(4, "restore nothing")
    assert "there is no file" in person.fails(4, "restore f --key nothing")
    assert "is no backup of CNSMO's" in person.fails(2, f"restore {person.writes(DOCUMENT)}")
    assert "there is no deployment 'shop'" in person.fails(4, "backup shop g")
    assert not (person.cwd / "g").exists()
    assert "cannot be written" in person.fails(2, "backup lab no/such/place")
    torn = (person.cwd / "f").read_text()[:-40]
    person.writes(torn, "torn")
    assert "its end is missing" in person.fails(2, "restore torn")


def test_another_database_takes_it_with_the_old_key(
    person: Person, puppet: Callable[..., Puppet], conf: cfg.ConfigOpts, tmp_path: Path
) -> None:
    puppet("web1")
    person.does("backup lab f")
    shutil.copy(conf.secrets.key_file, tmp_path / "old.json")
    conf.set_override("connection", f"sqlite:///{tmp_path}/new/state.sqlite", "database")
    conf.set_override("key_file", "", "secrets")
    alone = Person(tmp_path, embed=True)
    alone.does("db upgrade")
    assert "name the key file of the core" in alone.fails(2, "restore f")
    assert "web1" not in alone.does("deployment list").out
    alone.does("restore f --key old.json")
    assert alone.does("secrets show -f json").json["by_others"] == 0
