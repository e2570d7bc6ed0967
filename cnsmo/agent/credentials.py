# SPDX-License-Identifier: Apache-2.0
"""How this host proves who it is: it joins once, renews in time, and comes back if it could not."""

from __future__ import annotations

import time
from math import inf

from oslo_log import log

from cnsmo.agent.identity import HostIdentity, token_digest
from cnsmo.agent.join import JoinClient
from cnsmo.agent.settings import Settings
from cnsmo.agent.wakeup import Backoff
from cnsmo.bus.clients import CoreClient
from cnsmo.model.errors import CnsmoError, Denied, InvalidRequest, Lapsed
from cnsmo.model.messages import Certified, JoinRequest
from cnsmo.trust import keys

LOG = log.getLogger(__name__)
JOIN_TIMEOUT = 5.0
"""Seconds; short: a join is harmless to repeat."""
FIRST_PAUSE = 1.0
RENEW_AFTER = 2 / 3
"""Of a certificate's life."""


class Credentials:
    """The key, the certificate and the secret in the state directory. Clocks are this host's."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: HostIdentity | None = None
        self._backoff = Backoff(FIRST_PAUSE, settings.retry_max)
        self._pause_until = 0.0

    def join(self) -> HostIdentity:
        """Join, and keep what it gave; a repetition gives the same.

        :raises Unavailable: when no core answers.
        :raises Denied: when the token is not valid.
        :raises Conflict: when a host with another key has this one's name.
        :raises Untrusted: when who answers is not the core that was pinned.
        """
        settings, directory = self._settings, self._settings.state_dir
        client = JoinClient(
            settings.join_url, settings.ca_fingerprint, min(JOIN_TIMEOUT, settings.rpc_timeout)
        )
        token, nonce = settings.token(), directory.nonce()
        answer = client.join(
            JoinRequest(
                token=token,
                host=settings.host,
                nonce=nonce,
                csr=keys.request(keys.load_key(directory.key()), nonce),
                services=list(settings.services),
                facts=settings.facts(),
            )
        )
        told = answer.model_dump(exclude={"groups", "certified"})
        identity = _certified(HostIdentity(**told, token=token_digest(token)), answer.certified)
        directory.keep(identity, answer.certified)
        self._known = identity
        LOG.info("joined %s as %s (%s)", answer.deployment, answer.host, answer.id)
        return identity

    def lapsed(self) -> Lapsed | None:
        """That the certificate has ended, by this host's clock: the broker only closes the door."""
        try:
            known = self._settings.state_dir.identity()  # another process may have come back
        except (CnsmoError, OSError):
            known = self._known
        if known is None or not known.life or time.time() < known.certified_at + known.life:
            return None
        return Lapsed(
            f"the certificate of host {known.host!r} has ended, as it was off for long: give it a "
            "fresh token ('cnsmo-manage token create'), in [agent] token_file"
        )

    def come_back(self, why: Denied) -> HostIdentity:
        """Join anew with a fresh token, after the certificate has ended, or the core does not know
        this host any more, as after the loss of its database's key.

        :raises Denied: why, when there is no fresh token.
        """
        known = self._settings.state_dir.identity()
        try:
            token = self._settings.token()
        except InvalidRequest:
            raise why from None
        if not token or (known is not None and known.token == token_digest(token)):
            raise why
        return self.join()

    def refresh(self, client: CoreClient) -> float:
        """Get a new certificate for the same key if it is time; what fails is tried again.

        :return: the seconds after which to look again.
        """
        if self._pause_until > time.monotonic():
            return self._pause_until - time.monotonic()
        try:
            # By what is on the disk: another process of this host may have done it.
            if not self._due_in() and not self._due_in(anew=True):
                self._renew(client)
        except (CnsmoError, OSError) as exc:
            pause = self._backoff.pause()
            self._pause_until = time.monotonic() + pause
            LOG.warning("the certificate is not renewed yet: %s Next try in %.1f s", exc, pause)
            return pause
        self._backoff.reset()
        return self._due_in()

    def _due_in(self, anew: bool = False) -> float:
        """Seconds until it is time to renew; anew: by what is on the disk now."""
        if anew or self._known is None:
            self._known = self._settings.state_dir.identity()
        if self._known is None:
            return inf
        age = time.time() - self._known.certified_at
        # A negative age: the clock was wrong when it came, so nobody knows.
        return max(0.0, self._known.life * RENEW_AFTER - age) if age >= 0 else 0.0

    def _renew(self, client: CoreClient) -> None:
        directory, known = self._settings.state_dir, self._known
        if known is None:
            return
        certified = client.certify(keys.request(keys.load_key(directory.key()), known.id))
        self._known = _certified(known, certified)
        directory.keep(self._known, certified)
        LOG.info("host=%s has a new certificate, for %.0f s", known.host, certified.life)


def _certified(identity: HostIdentity, certified: Certified) -> HostIdentity:
    return identity.model_copy(update={"certified_at": time.time(), "life": certified.life})
