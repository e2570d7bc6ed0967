# SPDX-License-Identifier: Apache-2.0
"""The agent's process: joins, listens for hints, and lets one worker thread do the work.

What it has brought in force stays when it ends, and comes back from its disk when the core is away.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from math import inf

import oslo_messaging
from oslo_concurrency import lockutils
from oslo_config import cfg
from oslo_log import log

from cnsmo.agent import rounds
from cnsmo.agent.credentials import Credentials
from cnsmo.agent.heartbeat import Heart
from cnsmo.agent.identity import HostIdentity
from cnsmo.agent.metrics import Metrics, Pulse
from cnsmo.agent.settings import Settings
from cnsmo.agent.standing import Standing
from cnsmo.agent.wakeup import Backoff, Reason, Wakeup, jittered
from cnsmo.agent.worker import Worker
from cnsmo.bus import serving, transport
from cnsmo.bus.clients import CoreClient
from cnsmo.bus.knock import ways
from cnsmo.model.errors import (
    CnsmoError,
    Denied,
    InvalidRequest,
    Lapsed,
    Removed,
    Unavailable,
    Untrusted,
)

LOG = log.getLogger(__name__)
FIRST_PAUSE = 0.2


class AgentProcess:
    """The agents of one host (or one of them), from start to stop."""

    def __init__(self, conf: cfg.ConfigOpts, settings: Settings) -> None:
        self._conf = conf
        self._settings = settings
        self._wakeup = Wakeup()
        self._client = CoreClient(conf, settings.rpc_timeout)
        self._heart = Heart(settings.heartbeat, settings.services, self._client, self._wakeup)
        self._backoff = Backoff(FIRST_PAUSE, settings.retry_max)
        self._credentials = Credentials(settings)
        self._notice = settings.state_dir.notice()
        self._server: oslo_messaging.RPCServer | None = None
        """Known once it listens: what has not found the broker yet cannot be stopped."""
        self._metrics: Metrics | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        """Work until stop() is called, or until the host is removed.

        :raises Conflict: when another process does this one's work, or another host has its name.
        :raises Denied: when the join token is not valid.
        :raises Removed: when the host was removed; everything is taken down then.
        """
        self._settings.state_dir.open()
        self._notice.begin(self._settings.services)
        try:
            identity = self._settings.state_dir.identity()
            known = identity is not None
            self._refuse_removed(identity)
            identity = identity or self._join()
            if identity is not None:
                self._serve(identity, known)
        except CnsmoError as exc:
            self._notice.trouble(exc)
            raise
        finally:
            self._ended.set()
            self._heart.stop()
            if self._metrics is not None:
                self._metrics.stop()
            if self._server is not None:
                transport.end(self._server)
            self._settings.state_dir.close()

    def stop(self) -> None:
        """End soon; what is in force stays so. May be called from any thread."""
        self._wakeup.give(Reason.STOP)

    def leave(self, teardown_only: bool = False) -> list[str]:
        """Leave the deployment for good, and take everything down.

        teardown_only: the core is not asked; for a host that it does not know any more.

        :return: what could not be taken away.
        """
        self._settings.state_dir.open()
        try:
            identity = self._settings.state_dir.identity()
            if identity is None:
                return self._left("identity.json, which says whose they are, is gone")
            self._identify(identity)
            if not teardown_only:
                with contextlib.suppress(Removed):  # the answer to an earlier try was lost
                    self._client.leave()
            worker = Worker(self._settings, identity, self._client, self._heart)
            return worker.teardown() or self._left(
                "its own process takes them down; where there is none, "
                "'cnsmo-agent --teardown' without --service does"
            )
        finally:
            self._settings.state_dir.close()

    def _left(self, why: str) -> list[str]:
        """What is in force still, by service."""
        return [
            f"{name}: its units are still here: {why}"
            for name in self._settings.state_dir.services()
        ]

    def _refuse_removed(self, identity: HostIdentity | None) -> None:
        """A removed host brings nothing up again, and joins anew only with another token."""
        if not self._settings.state_dir.is_removed(self._token()):
            return
        if identity is not None:
            Worker(self._settings, identity, self._client, self._heart).teardown()
        raise Removed(
            "this host was removed from its deployment, and everything was taken down. To let it "
            "join anew, give it another token ([agent] token_file)"
        )

    def _token(self) -> str:
        """The token that is in place; empty when there is none (any more)."""
        try:
            return self._settings.token()
        except InvalidRequest:
            return ""

    def _serve(self, identity: HostIdentity, known: bool) -> None:
        standing = self._show(identity)
        worker = Worker(self._settings, identity, self._client, self._heart, standing, self._notice)
        if known:
            worker.return_from_disk()
        url = self._identify(identity)
        listener = threading.Thread(
            target=self._listen, args=(identity.id, url), name="listen", daemon=True
        )
        listener.start()
        self._heart.start()
        gc.freeze()  # it all stays: nobody shall wait while garbage is looked for in it
        self._loop(worker)

    def _identify(self, identity: HostIdentity) -> str:
        """Call as this host from now on; returns the URL of its account at the broker, if any."""
        state_dir = self._settings.state_dir
        url = transport.agent_url(
            self._conf, identity.bus_url, identity.id, state_dir.role, state_dir.tls()
        )
        if url:
            lockutils.set_defaults(str(state_dir.path / "locks"))
            system = self._settings.system  # its ways have the one to where hosts join already
            system.ways = tuple(dict.fromkeys((*system.ways, *ways(self._conf, url))))
        self._client.identify(identity.id, identity.secret, url)
        return url

    def _show(self, identity: HostIdentity) -> Standing | None:
        """Say how this process is, where that is asked for."""
        place = self._settings.metrics
        if place is None:
            return None
        standing = Standing(self._wakeup)
        pulse = Pulse(self._settings, self._heart, standing.known)
        self._metrics = Metrics(
            place, self._settings.retry_max, identity, standing.read, pulse.health
        )
        self._metrics.start()
        return standing

    def _join(self) -> HostIdentity | None:
        """Join, however long the core needs to appear and to be the one that was pinned.

        :return: None when stopped before.
        :raises CnsmoError: when the core refuses.
        """
        while not self._wakeup.stopping:
            try:
                known = self._settings.state_dir.identity()
                # When it is there, another process of this host joined meanwhile.
                identity = known or self._credentials.join()
            except (Unavailable, Untrusted) as exc:
                pause = self._backoff.pause()
                LOG.warning("cannot join yet: %s Next try in %.1f s", exc, pause)
                self._notice.trouble(exc)
                self._wakeup.wait_stop(pause)
                continue
            self._backoff.reset()
            return identity
        return None

    def _loop(self, worker: Worker) -> None:
        owed = reasons = {Reason.SYNC, Reason.REPORT}
        resync_at, retry_at = time.monotonic() + jittered(self._settings.resync), inf
        while Reason.STOP not in reasons:
            try:
                if reasons:
                    worker.work(reasons)
                    self._backoff.reset()
                    owed, retry_at = set(), inf
                elif retry_at < inf:
                    worker.look_after(due=True)
                elif worker.look():
                    self._wakeup.give(Reason.SYNC)
            except Removed as exc:
                LOG.warning("%s: everything is taken down", exc)
                self._settings.state_dir.mark_removed(self._token())
                worker.teardown()
                raise
            except CnsmoError as exc:
                lapsed = exc if isinstance(exc, Lapsed) else self._credentials.lapsed()
                unknown = lapsed or (exc if isinstance(exc, Denied) else None)
                if unknown and self._came_back(unknown):
                    reasons = {Reason.SYNC, Reason.REPORT}
                    continue
                pause = self._backoff.pause()
                LOG.warning("%s Next try in %.1f s", _explained(lapsed or exc), pause)
                self._notice.trouble(lapsed or exc)
                owed, retry_at = owed | reasons, time.monotonic() + pause
                worker.look_after(due=not reasons & {Reason.RESYNC, Reason.LOOK})
            soonest = min(retry_at, resync_at, worker.look_at)
            if retry_at == inf:
                soonest = min(soonest, time.monotonic() + self._credentials.refresh(self._client))
            reasons = self._wakeup.take(soonest)
            if Reason.FIGURES in reasons:
                worker.look_for_figures()
                reasons -= {Reason.FIGURES}
            now = time.monotonic()
            if now >= retry_at:
                reasons |= {Reason.SYNC, Reason.REPORT}
            if now >= resync_at:
                reasons |= {Reason.RESYNC}
                resync_at = now + jittered(self._settings.resync)
            reasons = rounds.due(reasons, owed)

    def _came_back(self, why: Denied) -> bool:
        """Join anew, if there is a fresh token for it."""
        try:
            identity = self._credentials.come_back(why)
        except CnsmoError as exc:
            if exc is why:
                return False
            LOG.warning("cannot join anew: %s", exc)
            return False
        self._identify(identity)
        return True

    def _listen(self, ident: str, url: str) -> None:
        """Listen for hints; on a thread of its own, because the broker may be away."""
        topic, exchange = transport.agent_topic(ident), transport.hints_exchange(ident)
        role = self._settings.state_dir.role
        backoff = Backoff(FIRST_PAUSE, self._settings.retry_max)
        while not self._ended.is_set():
            bus = transport.listening(self._conf, url)
            server = serving.server(bus, exchange, topic, role, _Hints(self._wakeup))
            try:
                server.start(override_pool_size=1)  # each hint adds a thread up to that, for ever
            except Exception as exc:  # noqa: BLE001  # whatever the broker's library raises
                pause = backoff.pause()
                LOG.warning("cannot listen for hints: %s. Next try in %.1f s", exc, pause)
                self._ended.wait(pause)
                continue
            self._server = server
            self._wakeup.give(Reason.SYNC)  # hints that came before went nowhere
            if self._ended.is_set():
                transport.end(server)
            return


class _Hints:
    """What the core says to this process."""

    target = oslo_messaging.Target(version="1.0")

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup

    @oslo_messaging.expose
    def hint(self, ctxt: dict[str, str], head: int) -> None:
        """There is something new, or an operator looks: ask the core."""
        self._wakeup.give(Reason.SYNC)


def _explained(exc: CnsmoError) -> str:
    if isinstance(exc, Denied) and not isinstance(exc, Lapsed):
        return (
            "the core does not know this host; what is in force stays so. If the host was removed "
            "on purpose, run 'cnsmo-agent --teardown'; if not, give it a fresh token ([agent] "
            "token_file)."
        )
    return str(exc)
