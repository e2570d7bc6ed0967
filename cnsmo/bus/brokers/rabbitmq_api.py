# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ's management API: https://www.rabbitmq.com/management.html#http-api."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from typing import Any
from urllib.parse import quote, urlsplit

from cnsmo.model.errors import CnsmoError, InvalidRequest, Unavailable

TIMEOUT = 10.0
"""Seconds for each step of a request."""
LARGEST = 256 * 1024 * 1024
"""Bytes of an answer."""
DONE = range(200, 300)
REFUSED = (401, 403)
NOT_FOUND = 404


class ManagementApi:
    """Asks the API; a connection for each request, so that a restart of the broker is no event."""

    def __init__(self, url: str, user: str, password: str, ca_file: str) -> None:
        """:raises InvalidRequest: when the URL is none, or the certificates cannot be read."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise InvalidRequest(
                "[bus] management_url leads to no management API: write https://HOST:15671, "
                "and the account into management_user and management_password"
            )
        self._host, self._port = parts.hostname, parts.port or (15671 if _is_tls(url) else 15672)
        self._base = parts.path.rstrip("/") + "/api"
        self._tls = _context(ca_file) if _is_tls(url) else None
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {credentials}",
            "Content-Type": "application/json",
        }
        self._user = user

    def get(self, *path: str, query: str = "") -> Any:
        """What is there; None when it is not."""
        status, body = self._ask("GET", path, None, query)
        return None if status == NOT_FOUND else json.loads(body)

    def put(self, *path: str, body: Any = None) -> None:
        """Make it so."""
        self._change("PUT", path, body or {})

    def post(self, *path: str, body: Any) -> None:
        """Add it."""
        self._change("POST", path, body)

    def delete(self, *path: str) -> None:
        """Remove it; one that is not there is removed."""
        self._ask("DELETE", path, None)

    def _change(self, method: str, path: tuple[str, ...], body: Any) -> None:
        status, _body = self._ask(method, path, body)
        if status == NOT_FOUND:
            raise CnsmoError(f"the broker has no {'/'.join(path)}: {method} is not possible")

    def _ask(
        self, method: str, path: tuple[str, ...], body: Any, query: str = ""
    ) -> tuple[int, bytes]:
        target = "/".join([self._base, *(quote(part, safe="") for part in path)])
        content = None if body is None else json.dumps(body)
        connection = self._connection()
        try:
            connection.request(method, target + query, content, self._headers)
            answer = connection.getresponse()
            status, read = answer.status, answer.read(LARGEST)
        except (OSError, http.client.HTTPException) as exc:
            raise Unavailable(
                f"the broker's management API does not answer at {self._host}:{self._port} "
                f"([bus] management_url): {exc}"
            ) from exc
        finally:
            connection.close()
        self._judge(status, method, path, read)
        return status, read

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT, context=self._tls
        )

    def _judge(self, status: int, method: str, path: tuple[str, ...], read: bytes) -> None:
        if status in DONE or status == NOT_FOUND:
            return
        if status in REFUSED:
            raise CnsmoError(
                f"the broker's management API refuses {self._user}: give it the tag administrator "
                "and its password to [bus] management_password"
            )
        raise CnsmoError(
            f"the broker's management API answers {method} {'/'.join(path)} with {status}: "
            f"{_reason(read)}"
        )


def _is_tls(url: str) -> bool:
    return url.startswith("https:")


def _context(ca_file: str) -> ssl.SSLContext:
    try:
        made = ssl.create_default_context(cafile=ca_file or None)
    except OSError as exc:
        raise InvalidRequest(f"[bus] management_ca_file {ca_file}: {exc}") from exc
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def _reason(read: bytes) -> str:
    try:
        return str(json.loads(read)["reason"])[:200]
    except (ValueError, KeyError, TypeError):
        return "no reason given"
