# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds in real cores, agents, brokers and databases, each fault brought about."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import amqp
import pytest
from oslo_config import cfg

from cnsmo.bus import transport
from cnsmo.bus.depth import EVENTS_QUEUE, depths
from cnsmo.manage.app import run
from cnsmo.state import schema
from cnsmo.state.engine import engine_for
from cnsmo.state.vault import Vault
from tests.beds import MariadbBed, PostgresqlBed, RabbitmqBed, Vhost
from tests.eventually import eventually
from tests.integration.faults.test_disk_is_full import fill
from tests.integration.fleet import Fleet

WELL, WARNING, CRITICAL, UNKNOWN = range(4)
Found = tuple[int, str]


@pytest.fixture
def found(
    bare_fleet: Fleet, conf: cfg.ConfigOpts, migrated_postgresql: str
) -> Callable[[str], Found]:
    """found("symptom"): exit code of the doctor, and what it found of that."""
    conf.set_override("connection", migrated_postgresql, "database")

    def look(name: str) -> Found:
        out = io.StringIO()
        words = ["doctor", "--only", name, "-f", "json"]
        code = run(words, io.StringIO(), out, io.StringIO())
        return code, texts(json.loads(out.getvalue()))

    return look


def texts(document: dict[str, Any]) -> str:
    return "; ".join(it["text"] for looked in document["symptoms"] for it in looked["findings"])


def elsewhere(fleet: Fleet, *names: str, **env: str) -> Found:
    """The same in a process of its own."""
    config = fleet._config("doctor", {})
    command = [sys.executable, "-m", "cnsmo.cmd.manage", f"--config-file={config}", "doctor"]
    command += ["-f", "json", *(f"--only={name}" for name in names)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=110, env={**os.environ, **env}
    )
    return done.returncode, texts(json.loads(done.stdout))


NO_SLEEP = """\
import select
import time
time.sleep = lambda seconds: select.select([], [], [], max(seconds, 0)) and None
"""
"""libfaketime 0.9.10 calls the sleeps of Python 3.11 invalid, depending on how long they are."""


@pytest.fixture
def an_hour_ahead(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose clock is an hour ahead."""
    patch = tmp_path / "patch"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(NO_SLEEP)
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    if library is None:
        pytest.skip("package faketime is not installed")
    fake = {"FAKETIME": "+1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {"LD_PRELOAD": str(library), "PYTHONPATH": str(patch), **fake}


def test_a_site_with_all_its_parts_is_well(fleet: Fleet) -> None:
    fleet.agent("web1", heartbeat=1)
    fleet.apply()
    fleet.until_ready("web1")
    code, text = fleet.until(lambda: (it := elsewhere(fleet))[0] == WELL and it, "all is well")
    assert (code, text) == (WELL, "")


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_database_that_does_not_answer(
    fleet: Fleet, found: Callable[[str], Found], postgresql: PostgresqlBed, how: str
) -> None:
    assert found("database-away") == (WELL, "")
    getattr(postgresql, how)()
    code, text = found("database-away")
    assert (code, "does not answer" in text) == (CRITICAL, True)


def test_a_database_that_is_read_only(
    fleet: Fleet, found: Callable[[str], Found], migrated_postgresql: str, postgresql: PostgresqlBed
) -> None:
    assert found("database-takes-no-writes") == (WELL, "")
    name = migrated_postgresql.rpartition("/")[2]
    postgresql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    code, text = found("database-takes-no-writes")
    assert (code, "read-only transaction" in text) == (CRITICAL, True)


@pytest.fixture
def full_database(tmp_path: Path, postgresql: PostgresqlBed) -> Iterator[str]:
    """The URL of a database on a disk of its own, of which nothing is left."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = postgresql.directory / "small"
    place.mkdir()
    owner = f"uid={postgresql.user},gid={postgresql.user},mode=0700"
    options = f"size=24m,{owner}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)
    name = postgresql.create_database()
    postgresql.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
    postgresql.execute(f"ALTER DATABASE {name} SET TABLESPACE small")
    engine = engine_for(postgresql.url(name))
    schema.upgrade(engine)
    engine.dispose()
    fill(place)
    yield postgresql.url(name)
    postgresql.drop_database(name)
    postgresql.execute("DROP TABLESPACE small")
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_database_that_is_full(
    found: Callable[[str], Found], conf: cfg.ConfigOpts, full_database: str
) -> None:
    conf.set_override("connection", full_database, "database")
    code, text = found("database-takes-no-writes")
    assert (code, "No space left on device" in text) == (CRITICAL, True)


def hours(text: str) -> float:
    """Of how many hours it tells, for better or worse."""
    (seconds,) = re.findall(r"(\d+) s", text)
    return round(int(seconds) / 3600, 1)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_databases_clock_that_is_not_ours(
    bare_fleet: Fleet, kind: str, request: pytest.FixtureRequest, an_hour_ahead: dict[str, str]
) -> None:
    bed: PostgresqlBed | MariadbBed = request.getfixturevalue(kind)
    name = bed.create_database()
    engine = engine_for(bed.url(name))
    schema.upgrade(engine)
    engine.dispose()
    bare_fleet.settings["database"] = {"connection": bed.url(name)}
    assert elsewhere(bare_fleet, "database-clock") == (WELL, "")
    code, text = elsewhere(bare_fleet, "database-clock", **an_hour_ahead)
    bed.drop_database(name)
    assert (code, "the database's clock is" in text, "behind" in text) == (CRITICAL, True, True)
    assert hours(text) == 1


AHEAD = """\
import time
now = time.time
time.time = lambda: now() + 3600
"""
"""With libfaketime, a core's threads do not wake each other any more."""


def test_a_cores_clock_that_is_not_ours(
    fleet: Fleet, found: Callable[[str], Found], tmp_path: Path
) -> None:
    assert found("cores-clock") == (WELL, "")
    (tmp_path / "sitecustomize.py").write_text(AHEAD)
    fleet.env = {"PYTHONPATH": str(tmp_path)}
    fleet.core("second").says("core answers")
    code, text = found("cores-clock")
    assert (code, "the clock of core" in text, hours(text)) == (CRITICAL, True, 1)


def test_an_agents_clock_that_is_not_the_cores(
    fleet: Fleet, found: Callable[[str], Found], an_hour_ahead: dict[str, str]
) -> None:
    fleet.agent("web1", heartbeat=0.5, env=an_hour_ahead)
    fleet.agent("web2", heartbeat=0.5)
    fleet.until_ready("web1", "web2")
    code, text = fleet.until(
        lambda: (it := found("agents-clock"))[0] == CRITICAL and it, "it is found"
    )
    assert code == CRITICAL
    assert text.startswith("clocks that are far off: shop/web1 by +")
    assert hours(text) == 1


def test_a_broker_and_a_core_that_are_away(
    fleet: Fleet, found: Callable[[str], Found], rabbitmq: RabbitmqBed
) -> None:
    assert found("core-away") == (WELL, "")
    assert found("broker-away") == (WELL, "")
    fleet.programs[0].kill()
    code, text = found("core-away")
    assert (code, "no core" in text) == (CRITICAL, True)
    rabbitmq.kill()
    code, text = found("broker-away")
    assert (code, "cannot be reached" in text) == (CRITICAL, True)


def test_cores_that_are_not_alike(fleet: Fleet, found: Callable[[str], Found]) -> None:
    fleet.core("second").says("core answers")
    assert found("cores-differ") == (WELL, "")
    fleet.core("third", down_after=99).says("core answers")
    code, text = found("cores-differ")
    assert code == WARNING
    assert "[core] down_after differs: 600" in text
    assert "99.0: " in text


def another_database(fleet: Fleet, path: Path) -> dict[str, dict[str, object]]:
    """What a core is configured with that works on a database of its own."""
    url, key = f"sqlite:///{path}/other.sqlite", Vault(path / "other.key")
    engine = engine_for(url)
    schema.upgrade(engine)
    engine.dispose()
    key.create()
    return {"database": {"connection": url}, "secrets": {"key_file": str(key.path)}}


def test_cores_on_two_databases(
    fleet: Fleet, found: Callable[[str], Found], tmp_path: Path
) -> None:
    fleet.core_settings = another_database(fleet, tmp_path)
    fleet.core("second").says("core answers")
    code, text = found("cores-differ")
    assert (code, "the database differs" in text) == (CRITICAL, True)
    assert "sqlite" not in text


def test_calls_that_nobody_takes(fleet: Fleet, found: Callable[[str], Found]) -> None:
    assert found("queue-growing") == (WELL, "")
    fleet.programs[0].kill()
    code, text = found("queue-growing")
    assert (code, "nobody takes from cnsmo-core" in text) == (CRITICAL, True)


def publish(vhost: Vhost, queue: str, count: int) -> None:
    with amqp.Connection(
        f"127.0.0.1:{vhost.port}", vhost.user, vhost.password, virtual_host=vhost.name
    ) as connection:
        channel = connection.channel()
        for _ in range(count):
            channel.basic_publish(amqp.Message("{}"), routing_key=queue)


def test_a_core_that_does_not_get_on(
    bare_fleet: Fleet, found: Callable[[str], Found], broker_vhost: Vhost
) -> None:
    bare_fleet.settings["oslo_messaging_rabbit"] = {"rabbit_qos_prefetch_count": 1}
    core = bare_fleet.core().says("core answers")
    core.process.pause()
    publish(broker_vhost, transport.AGENTS_TOPIC, 200)
    conf = bare_fleet.conf
    topic = (transport.AGENTS_TOPIC,)
    eventually(lambda: depths(conf, topic, 5)[0].messages >= 190, what="they wait")
    code, text = found("queue-growing")
    core.process.resume()
    assert (code, "and they do not get less" in text) == (WARNING, True)


def test_notifications_that_nobody_takes(
    fleet: Fleet, found: Callable[[str], Found], broker_vhost: Vhost
) -> None:
    with amqp.Connection(
        f"127.0.0.1:{broker_vhost.port}",
        broker_vhost.user,
        broker_vhost.password,
        virtual_host=broker_vhost.name,
    ) as connection:
        connection.channel().queue_declare(EVENTS_QUEUE, auto_delete=False)
    publish(broker_vhost, EVENTS_QUEUE, 1100)
    code, text = found("queue-growing")
    assert code == WARNING
    assert f"wait in {EVENTS_QUEUE}, and nobody takes them" in text


def test_an_agent_whose_hints_go_astray(
    fleet: Fleet, found: Callable[[str], Found], rabbitmq: RabbitmqBed, broker_vhost: Vhost
) -> None:
    fleet.agent("web1", heartbeat=60)
    fleet.agent("web2", heartbeat=60)
    fleet.until_ready("web1", "web2")
    assert found("hints-not-arriving") == (WELL, "")
    ident = {host.name: host.id for host in fleet.operator.host_list("shop")}["web1"]
    fanout = f"{transport.agent_topic(ident)}_fanout"
    names = [it.name for it in rabbitmq.queues(broker_vhost)]
    (queue,) = [name for name in names if name.startswith(fanout)]
    with amqp.Connection(
        f"127.0.0.1:{broker_vhost.port}",
        broker_vhost.user,
        broker_vhost.password,
        virtual_host=broker_vhost.name,
    ) as connection:
        channel = connection.channel()
        channel.exchange_declare("kept", "fanout", auto_delete=False)
        channel.queue_bind(queue, "kept")
        channel.queue_unbind(queue, fanout, queue)
        channel.queue_unbind(queue, fanout, transport.agent_topic(ident))
    heard_not = (WARNING, "shop: not heard within 4 s by web1")
    # The first look may be late for what the agent was doing already.
    eventually(lambda: found("hints-not-arriving") == heard_not, 30, "web1 is found deaf")
