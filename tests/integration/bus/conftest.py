# SPDX-License-Identifier: Apache-2.0
"""Real core and agent processes over a real RabbitMQ and a real PostgreSQL; and a site with TLS."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from cnsmo.model.messages import JoinAnswer
from cnsmo.trust import authority
from tests.beds import TlsRabbitmqBed
from tests.beds.plugin import session_bed
from tests.integration.bus.site import Ear, Site


@pytest.fixture(scope="session")
def ca_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority of the cores that use the broker with TLS."""
    path = tmp_path_factory.mktemp("ca")
    authority.create(path, datetime.datetime.now(datetime.UTC))
    return path


@pytest.fixture(scope="session")
def tls_rabbitmq(ca_directory: Path) -> Iterator[TlsRabbitmqBed]:
    """A RabbitMQ that asks everybody for a certificate."""
    hosts = authority.load(ca_directory).bundle(datetime.datetime.now(datetime.UTC))
    with session_bed(lambda: TlsRabbitmqBed(trusted=hosts)) as bed:
        yield bed


@pytest.fixture
def site(
    tls_rabbitmq: TlsRabbitmqBed, ca_directory: Path, conf: cfg.ConfigOpts, tmp_path: Path
) -> Iterator[Site]:
    """A core that answers."""
    conf.set_override("ca_directory", str(ca_directory), "join")
    made = Site(tls_rabbitmq, conf, tmp_path)
    made.start()
    yield made
    made.close()


@pytest.fixture
def thief(site: Site) -> JoinAnswer:
    """A host whose account was stolen."""
    return site.join("thief")


@pytest.fixture
def victim(site: Site) -> JoinAnswer:
    """Another host of the same deployment."""
    return site.join("victim")


@pytest.fixture
def ear(site: Site, victim: JoinAnswer) -> Iterator[Ear]:
    """What the victim hears."""
    made = Ear(site, victim)
    yield made
    made.close()
