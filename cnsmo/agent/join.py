# SPDX-License-Identifier: Apache-2.0
"""The way to a core that nobody vouches for yet but the fingerprint of its authority.

First the authorities are fetched, from whoever answers; nothing is said to them. The one that has
the fingerprint is believed from then on, and nobody else. Only to a core that it vouches for does
the token go.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import urllib.parse
from typing import Any

from cryptography import x509
from pydantic import ValidationError

from cnsmo.model.errors import CnsmoError, InvalidRequest, Unavailable, Untrusted, from_code
from cnsmo.model.messages import JoinAnswer, JoinRequest
from cnsmo.trust import certificates, keys

MAX_ANSWER = 1 << 20
"""Bytes."""
LATER = (408, 425, 429)
"""Statuses (RFC 9110, 8470, 6585) below 500 after which the same may be asked again."""


class JoinClient:
    """Asks a core to take this host in."""

    def __init__(self, url: str, fingerprint: str, timeout: float) -> None:
        """url: ``https://HOST:PORT``; fingerprint: of the authority; timeout in seconds.

        :raises InvalidRequest: when one of them is missing or makes no sense.
        """
        found = urllib.parse.urlsplit(url)
        if found.scheme != "https" or not found.hostname or found.path not in ("", "/"):
            raise InvalidRequest(
                "[agent] join_url says where to join: write https://ADDRESS:PORT of cnsmo-core"
            )
        try:
            keys.check_fingerprint(fingerprint)
            self.address = (found.hostname, found.port or 443)
        except ValueError as exc:
            raise InvalidRequest(f"[agent] ca_fingerprint, join_url: {exc}") from exc
        self._fingerprint = fingerprint
        self._timeout = timeout

    def join(self, request: JoinRequest) -> JoinAnswer:
        """Become a host of the token's deployment.

        :raises Untrusted: when who answers is not the core that was pinned.
        :raises Unavailable: when nobody answers, or not now.
        :raises CnsmoError: as the core decides: Denied, Conflict, InvalidRequest.
        """
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.minimum_version = ssl.TLSVersion.TLSv1_2
        trusting.load_verify_locations(cadata=self._pinned())
        status, text = self._ask(trusting, "POST", "/v1/join", request.model_dump_json())
        if status != 200:
            raise _error(status, text)
        try:
            return JoinAnswer.model_validate_json(text)
        except ValidationError:
            raise CnsmoError(
                "the core's answer is no JoinAnswer: is it of the same release as this program?"
            ) from None

    def _pinned(self) -> str:
        """The authority that has the fingerprint, as PEM."""
        anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anybody.check_hostname = False
        anybody.verify_mode = ssl.CERT_NONE  # nothing is said here, and what is heard is compared
        # Whoever it is may be lying about errors, too: only the certificate counts.
        _status, text = self._ask(anybody, "GET", "/v1/ca")
        with contextlib.suppress(ValueError):
            for found in x509.load_pem_x509_certificates(text):
                if keys.same_fingerprint(keys.fingerprint(found), self._fingerprint):
                    return certificates.pem(found)
        raise Untrusted(
            f"who answers at {self._where} is not the core with the fingerprint in [agent] "
            "ca_fingerprint: compare it with what 'cnsmo-manage ca show' says there. Nothing "
            "secret was sent."
        )

    @property
    def _where(self) -> str:
        host, port = self.address
        return f"https://{f'[{host}]' if ':' in host else host}:{port}"

    def _ask(
        self, context: ssl.SSLContext, method: str, path: str, body: str = ""
    ) -> tuple[int, bytes]:
        connection = _Connection(self.address, context, self._timeout)
        try:
            with contextlib.closing(connection):
                headers = {"Content-Type": "application/json"} if body else {}
                connection.request(method, path, body.encode() or None, headers)
                response = connection.getresponse()
                text = response.read(MAX_ANSWER)
                if response.length:
                    raise http.client.IncompleteRead(text, response.length)
        except ssl.SSLCertVerificationError as exc:
            raise Untrusted(
                f"who answers at {self._where} has the authority's certificate, but none by it "
                f"({exc.verify_message}): somebody may be in between. Nothing secret was sent."
            ) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise Unavailable(
                f"no core answers at {self._where} ([agent] join_url): {_reason(exc)}."
            ) from exc
        if response.status >= 500 or response.status in LATER:
            raise Unavailable(
                f"the core at {self._where} cannot answer now (HTTP {response.status})."
            )
        return response.status, text


class _Connection(http.client.HTTPConnection):
    """One request to a core: whatever its address, its certificate says that it is a core."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(*address, timeout=timeout)
        self._context = context

    def connect(self) -> None:
        """Connect, and let the core prove to be one."""
        raw = socket.create_connection((self.host, self.port), self.timeout)
        try:
            self.sock = self._context.wrap_socket(raw, server_hostname=certificates.CORE_NAME)
        except BaseException:
            raw.close()
            raise


def _reason(exc: Exception) -> str:
    return str(getattr(exc, "strerror", None) or str(exc) or type(exc).__name__)


def _error(status: int, text: bytes) -> CnsmoError:
    """What the core said, as the error that it raised."""
    try:
        told: Any = json.loads(text)["error"]
        return from_code(str(told["code"]), str(told["message"]), {})
    except (ValueError, KeyError, TypeError):
        return CnsmoError(f"who answers is no core of this release (HTTP {status})")
