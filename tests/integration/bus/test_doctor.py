# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds at a broker with an account for each agent, over TLS."""

import datetime
import io
import json
from collections.abc import Callable

import pytest

from cnsmo.bus.brokers import rabbitmq_layout as layout
from cnsmo.doctor import certificates
from cnsmo.manage.app import run
from tests.beds.rabbitmq_tls import MANAGER
from tests.integration.bus.site import Site

WELL, WARNING, CRITICAL = range(3)
Found = tuple[int, str]


@pytest.fixture
def found(site: Site) -> Callable[[str], Found]:
    """found("symptom"): exit code of the doctor, and what it found of that."""

    def look(name: str) -> Found:
        out = io.StringIO()
        code = run(["doctor", "--only", name, "-f", "json"], io.StringIO(), out, io.StringIO())
        (looked,) = json.loads(out.getvalue())["symptoms"]
        return code, "; ".join(it["text"] for it in looked["findings"])

    return look


def test_an_agent_without_an_account(site: Site, found: Callable[[str], Found]) -> None:
    answer = site.join("web1")
    assert found("accounts") == (WELL, "")
    site.api.delete("users", layout.account(answer.id))
    code, text = found("accounts")
    assert (code, f"agents without an account: {answer.id}" in text) == (CRITICAL, True)


def test_an_account_without_an_agent(site: Site, found: Callable[[str], Found]) -> None:
    site.core.core.broker.admit("h-0123456789ab")
    code, text = found("accounts")
    site.core.core.broker.revoke("h-0123456789ab")
    assert code == WARNING
    assert "account agent-h-0123456789ab belongs to no host" in text


def test_somebody_else_in_the_agents_virtual_host(
    site: Site, found: Callable[[str], Found]
) -> None:
    site.bed.create_user("mallory", "secret", site.vhost)
    code, text = found("accounts")
    site.api.delete("users", "mallory")
    assert (code, "not made by CNSMO: account mallory" in text) == (WARNING, True)
    assert MANAGER not in text


def test_a_brokers_certificate_that_ends(
    site: Site, found: Callable[[str], Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that of our own, which is shown there."""
    site.conf.set_override("listen", "", "join")
    long, day = datetime.timedelta(days=36500), datetime.timedelta(days=1)
    monkeypatch.setattr(certificates, "BROKER", (datetime.timedelta(0), datetime.timedelta(0)))
    assert found("certificate-ends") == (WELL, "")
    monkeypatch.setattr(certificates, "BROKER", (long, day / 86400))
    code, text = found("certificate-ends")
    assert code == WARNING
    assert f"the certificate of the broker at 127.0.0.1:{site.bed.tls_port} ends on" in text
    assert f"the certificate in {site.bed.client.certificate} ends on" in text


def test_what_waits_for_cores_is_seen_over_tls(site: Site, found: Callable[[str], Found]) -> None:
    assert found("queue-growing") == (WELL, "")
    site.core.stop()
    code, text = found("queue-growing")
    site.core.start(health=False)
    assert (code, "nobody takes from" in text) == (CRITICAL, True)
