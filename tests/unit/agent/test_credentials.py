# SPDX-License-Identifier: Apache-2.0
"""A host joins once, renews its certificate in time, and comes back if it could not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from oslo_config import cfg

from cnsmo.agent.credentials import Credentials
from cnsmo.agent.identity import CERTIFICATE, KEY, StateDir
from cnsmo.agent.notice import EVERY_SERVICE
from cnsmo.agent.settings import Settings
from cnsmo.agent.system import LocalSystem
from cnsmo.bus.clients import CoreClient
from cnsmo.core.context import Core
from cnsmo.core.join_server import JoinServer
from cnsmo.core.membership import Membership
from cnsmo.model.errors import Lapsed, Unavailable
from cnsmo.model.host import HostFacts
from cnsmo.model.messages import Certified
from cnsmo.trust import authority
from tests.unit.conftest import Caller, Operator

DAY = 86400.0


class Host:
    """A host whose clock and token the test holds in its hands."""

    def __init__(self, conf: cfg.ConfigOpts, core: Core, path: Path, port: int) -> None:
        self.core = core
        self.token = ""
        self.calls = 0
        self.failure: Exception | None = None
        self.directory = StateDir(path / "state", EVERY_SERVICE)
        self.directory.open()
        settings = Settings(
            state_dir=self.directory,
            host="web1",
            services=("vpn",),
            system=LocalSystem(),
            facts=HostFacts,
            token=lambda: self.token,
            retry_max=600,
            join_url=f"https://127.0.0.1:{port}",
            ca_fingerprint=authority.load(Path(conf.join.ca_directory)).fingerprint,
        )
        self.credentials = Credentials(settings)

    def certify(self, csr: str) -> Certified:
        """As CoreClient's."""
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        return Certified.model_validate(self.caller.certify(csr=csr))

    @property
    def caller(self) -> Caller:
        known = self.directory.identity()
        assert known is not None
        return Caller(self.core, {"agent_id": known.id, "agent_secret": known.secret})

    def refresh(self) -> float:
        return self.credentials.refresh(cast("CoreClient", self))

    def text(self, name: str) -> str:
        return (self.directory.path / name).read_text()


@pytest.fixture
def conf(conf: cfg.ConfigOpts) -> cfg.ConfigOpts:
    conf.set_override("listen", "127.0.0.1", "join")
    conf.set_override("port", 0, "join")
    return conf


@pytest.fixture
def host(conf: cfg.ConfigOpts, core: Core, operator: Operator, tmp_path: Path) -> Iterator[Host]:
    """It has joined."""
    server = JoinServer(conf, Membership(core).join)
    server.start()
    made = Host(conf, core, tmp_path, server.port)
    made.token = operator.token(uses=1)
    made.credentials.join()
    yield made
    made.directory.close()
    server.stop()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """later(61 * DAY): the clocks of this host are that far on."""
    from cnsmo.agent import credentials

    wall, steady = credentials.time.time, credentials.time.monotonic

    class Clock:
        ahead = 0.0

        def __call__(self, seconds: float) -> None:
            self.ahead = seconds

        def time(self) -> float:
            return wall() + self.ahead

        def monotonic(self) -> float:
            return steady() + self.ahead

    made = Clock()
    monkeypatch.setattr(credentials, "time", made)
    return made


def test_what_a_join_gives_is_kept_for_root_alone(host: Host) -> None:
    assert "BEGIN CERTIFICATE" in host.text(CERTIFICATE)
    files = [path for path in host.directory.path.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {KEY, CERTIFICATE, "identity.json"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_a_certificate_is_renewed_after_two_thirds_of_its_life(host: Host, later: Any) -> None:
    first, key = host.text(CERTIFICATE), host.text(KEY)
    assert 59.9 * DAY < host.refresh() <= 60 * DAY
    later(59 * DAY)
    assert host.refresh() <= DAY
    assert (host.calls, host.text(CERTIFICATE)) == (0, first)
    later(61 * DAY)
    assert host.refresh() > 59 * DAY
    assert host.calls == 1
    assert host.text(CERTIFICATE) != first
    assert host.text(KEY) == key


def test_a_renewal_that_fails_is_tried_again_after_a_pause(host: Host, later: Any) -> None:
    later(61 * DAY)
    host.failure = Unavailable("no core answered")
    pause = host.refresh()
    assert 0 < pause < DAY
    assert host.refresh() <= pause
    assert host.calls == 1
    host.failure = None
    later(61 * DAY + pause)
    assert host.refresh() > 59 * DAY
    assert host.calls == 2


def test_who_slept_through_it_knows_so_by_its_own_clock(host: Host, later: Any) -> None:
    later(89 * DAY)
    assert host.credentials.lapsed() is None
    later(91 * DAY)
    assert "'web1' has ended" in str(host.credentials.lapsed())


def test_a_damaged_identity_is_no_reason_to_end(host: Host, later: Any) -> None:
    (host.directory.path / "identity.json").write_text("{")
    assert host.credentials.lapsed() is None
    later(91 * DAY)
    assert host.credentials.lapsed() is not None


def test_who_slept_through_it_comes_back_with_a_fresh_token_only(
    host: Host, operator: Operator, later: Any
) -> None:
    before = host.directory.identity()
    later(91 * DAY)
    lapsed = host.credentials.lapsed()
    assert isinstance(lapsed, Lapsed)
    for token in (host.token, ""):
        host.token = token
        with pytest.raises(Lapsed, match="fresh token"):
            host.credentials.come_back(lapsed)
    host.token = operator.token(uses=1)
    after = host.credentials.come_back(lapsed)
    assert before is not None
    assert (after.id, after.host) == (before.id, "web1")
    assert host.credentials.lapsed() is None
    assert host.caller.heartbeat(beat={"applied": {}})["head"] > 0
