# SPDX-License-Identifier: Apache-2.0
"""What is answered over HTTPS: ``GET /v1/ca`` and ``POST /v1/join``, to strangers.

They learn nothing but that their request is wrong. What an error is travels as on the bus: its
stable code, and a message.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from typing import Any

import falcon
from oslo_log import log
from pydantic import ValidationError

from cnsmo.core.join_limits import Rate, plain, source_of
from cnsmo.model.errors import CnsmoError, Conflict, Denied, InvalidRequest, Unavailable
from cnsmo.model.messages import JoinAnswer, JoinRequest

LOG = log.getLogger(__name__)
PEM = "application/x-pem-file"
STATUS: tuple[tuple[type[CnsmoError], str], ...] = (
    (Denied, falcon.HTTP_403),
    (Conflict, falcon.HTTP_409),
    (InvalidRequest, falcon.HTTP_400),
    (Unavailable, falcon.HTTP_503),
)
NO_REQUEST = "the body is no request to join that this release knows"

Join = Callable[[JoinRequest, str], JoinAnswer]
"""Takes a host in; the address that the request came from is the second argument."""


def application(
    join: Join, authorities: Callable[[], str], rate: Rate, max_body: int
) -> falcon.App[falcon.Request, falcon.Response]:
    """The WSGI application. authorities: what is to be believed, as PEM; max_body in bytes."""
    made = falcon.App(middleware=[_Limit(rate)])
    made.req_options.strip_url_path_trailing_slash = False
    made.add_route("/v1/ca", _Authorities(authorities))
    made.add_route("/v1/join", _Joining(join, max_body))
    made.add_error_handler(CnsmoError, _told)
    made.add_error_handler(Exception, _incident)
    made.add_error_handler(falcon.HTTPError, _plainly)
    return made


class _Limit:
    def __init__(self, rate: Rate) -> None:
        self._rate = rate

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        wait = self._rate.wait(source_of(req.remote_addr))
        if wait:
            raise falcon.HTTPTooManyRequests(
                retry_after=math.ceil(wait), description="too many requests from this address"
            )


class _Authorities:
    def __init__(self, authorities: Callable[[], str]) -> None:
        self._authorities = authorities

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = PEM
        resp.text = self._authorities()


class _Joining:
    def __init__(self, join: Join, max_body: int) -> None:
        self._join = join
        self._max_body = max_body

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        try:
            request = JoinRequest.model_validate_json(self._body(req))
        except (ValidationError, ValueError, RecursionError):
            raise InvalidRequest(NO_REQUEST) from None
        address = plain(req.remote_addr)
        try:
            answer = self._join(request, address)
        except CnsmoError as exc:
            LOG.warning("source=%s host=%s does not join: %s", address, request.host, exc)
            raise
        resp.set_header("Cache-Control", "no-store")
        resp.text = answer.model_dump_json()

    def _body(self, req: falcon.Request) -> bytes:
        if req.content_length is None:
            raise falcon.HTTPLengthRequired
        if req.content_length > self._max_body:
            raise falcon.HTTPContentTooLarge
        return bytes(req.bounded_stream.read())


def _told(req: falcon.Request, resp: falcon.Response, exc: CnsmoError, params: Any) -> None:
    """An error of ours: its text is for who caused it, but for what says something of the core."""
    status = next((status for kind, status in STATUS if isinstance(exc, kind)), None)
    if status is None:
        _incident(req, resp, exc, params)
        return
    text = "the core cannot answer now" if isinstance(exc, Unavailable) else exc.message
    _error(resp, status, exc.code, text)


def _incident(req: falcon.Request, resp: falcon.Response, exc: Exception, params: Any) -> None:
    number = secrets.token_hex(4)
    LOG.error("incident %s in %s %s", number, req.method, req.path, exc_info=exc)
    text = f"internal error; the core's log has incident {number}"
    _error(resp, falcon.HTTP_500, CnsmoError.code, text)


def _plainly(
    req: falcon.Request, resp: falcon.Response, exc: falcon.HTTPError, params: Any
) -> None:
    for name, value in (exc.headers or {}).items() if isinstance(exc.headers, dict) else ():
        resp.set_header(name, value)
    code = Unavailable.code if exc.status == falcon.HTTP_429 else InvalidRequest.code
    _error(resp, str(exc.status), code, exc.description or exc.title or "")


def _error(resp: falcon.Response, status: str, code: str, message: str) -> None:
    resp.status = status
    resp.media = {"error": {"code": code, "message": message, "details": {}}}
