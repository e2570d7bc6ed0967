# SPDX-License-Identifier: Apache-2.0
"""Who is let in, and by which certificate it is known: tokens, keys, and the authority."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from oslo_config import cfg

from cnsmo.bus.broker import Broker
from cnsmo.core.naming import Naming
from cnsmo.model.errors import Denied
from cnsmo.model.messages import Certified, JoinRequest, TokenStatus
from cnsmo.model.resource import HOST, QUARANTINED
from cnsmo.state import identities, tokens
from cnsmo.state.engine import aware
from cnsmo.state.identities import Issued
from cnsmo.state.writer import Writer
from cnsmo.trust import authority, certificates, keys


class Admission:
    """Works inside the writes of Membership. The authority is read each time: it may rotate."""

    def __init__(self, conf: cfg.ConfigOpts, broker: Broker, naming: Naming) -> None:
        self._conf = conf
        self._broker = broker
        self._naming = naming

    def admit(
        self, writer: Writer, request: JoinRequest, key: ec.EllipticCurvePublicKey, source: str
    ) -> tuple[Issued, TokenStatus | None]:
        """Give a host its identity; a token is used up, unless the same join came before.

        key: that the request proved to have; source: the address it came from.

        :return: the identity, and the token, if one was used.
        :raises Denied: when the token is not valid, or a host that came by it is in quarantine.
        :raises Conflict: when the name is a living host's that has another key, or would make the
            newcomer somebody else.
        """
        digest = keys.key_digest(key)
        issued = identities.admit(writer, request.host, request.nonce, digest)
        if issued is not None:
            return issued, None
        token = tokens.use(writer, request.token, request.host, source)
        _refuse_shut_in(writer, token)
        if not identities.is_living(writer, request.host):
            self._naming.refuse_host(writer, request.host, bound=token.host is not None)
        return identities.issue(writer, request.host, request.nonce, digest, token.id), token

    def certify(
        self, writer: Writer, ident: str, host: str, key: ec.EllipticCurvePublicKey
    ) -> Certified:
        """Sign a certificate for a host's key, and note until when it counts.

        :raises Conflict: when the host's key is another one.
        :raises NotFound: when there is no authority.
        """
        ca = authority.load(Path(self._conf.join.ca_directory))
        now = aware(writer.now)
        life = datetime.timedelta(seconds=self._conf.join.certificate_life)
        made = ca.sign_host(key, ident, writer.deployment, host, now, life)
        identities.certify(writer, ident, keys.key_digest(key), made.not_valid_after_utc)
        return Certified(
            certificate=certificates.pem(made),
            authorities=ca.bundle(now),
            life=(made.not_valid_after_utc - now).total_seconds(),
            bus_authorities=self._broker.authorities(),
        )


def _refuse_shut_in(writer: Writer, token: TokenStatus) -> None:
    """Who is in quarantine has its token still, and shall not come back by it as somebody else."""
    apart = [row.name for row in writer.rows(HOST) if row.body.get(QUARANTINED)]
    if apart and token.id in identities.came_by(writer, apart):
        raise Denied(tokens.BAD_TOKEN)
