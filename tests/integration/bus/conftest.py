# SPDX-License-Identifier: Apache-2.0
"""Real core and agent processes over a real RabbitMQ and a real PostgreSQL; and a site with TLS."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from cnsmo.model.messages import JoinAnswer
from tests.beds import TlsRabbitmqBed
from tests.beds.plugin import session_bed
from tests.integration.bus.site import Ear, Site


@pytest.fixture(scope="session")
def tls_rabbitmq() -> Iterator[TlsRabbitmqBed]:
    """A RabbitMQ that asks everybody for a certificate."""
    with session_bed(TlsRabbitmqBed) as bed:
        yield bed


@pytest.fixture
def site(tls_rabbitmq: TlsRabbitmqBed, conf: cfg.ConfigOpts, tmp_path: Path) -> Iterator[Site]:
    """A core that answers."""
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
