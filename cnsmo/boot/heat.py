# SPDX-License-Identifier: Apache-2.0
"""Heat's API, as a user of a stack's own sees it: one resource, read or signalled.

What is read are the software deployments that heat_templates/lib/deployment.yaml makes. Of the
standard library alone, so that Heat's own engine can be tried with it (tests/heat).
"""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from cnsmo.boot import first
from cnsmo.model.errors import Denied, InvalidRequest, NotFound, Unavailable

TIMEOUT = 30.0
"""Seconds for an answer."""
SERVICE = "orchestration"
"""Of Keystone's catalog."""
GROUP = "cnsmo"
"""Of software configurations that are documents."""
REFUSED = "refused"
"""The output that makes the software deployment fail."""


@dataclasses.dataclass(frozen=True)
class Seat:
    """One resource of a stack, and the user that Heat has made for it in Keystone.

    ``stack_id``: NAME/ID, as Heat's paths have it. ``region_name``: whose Heat; "": the first one.
    """

    auth_url: str
    user_id: str
    password: str = dataclasses.field(repr=False)
    project_id: str
    stack_id: str
    resource_name: str
    region_name: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any], prefix: str = "") -> Seat:
        """From the values of that prefix; others are left out.

        :raises InvalidRequest: when one is missing, or the URL is none.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        given = {name: str(values.get(f"{prefix}{name}") or "") for name in names}
        missing = [name for name in names if not given[name] and name != "region_name"]
        if missing:
            raise InvalidRequest(f"what Heat told has no {', '.join(missing)}")
        if not re.fullmatch(first.URL, given["auth_url"]):
            raise InvalidRequest("what Heat told has an auth_url that is no http(s) URL")
        return cls(**given)


@dataclasses.dataclass(frozen=True)
class Declared:
    """A document, as the stack has it now.

    ``ident``: another one for each content. ``within``: seconds in which it shall be in force on
    all hosts; 0: nobody waits for that. ``reply``: who waits for the answer.
    """

    ident: str
    name: str
    text: str
    within: int
    reply: Seat


def declared(metadata: dict[str, Any]) -> Iterator[Declared]:
    """The documents among the software deployments that a resource's metadata hold.

    :raises InvalidRequest: when one of them does not say who waits for it.
    """
    for one in metadata.get("deployments") or ():
        if one.get("group") != GROUP:
            continue
        inputs = {item["name"]: item.get("value") for item in one.get("inputs") or ()}
        yield Declared(
            ident=str(one["id"]),
            name=str(inputs.get("deploy_stack_id", one["id"])).partition("/")[0],
            text=str(one.get("config", "")),
            within=int(float(inputs.get("within") or 0)),
            reply=Seat.of(inputs, "deploy_"),
        )


class Heat:
    """Asks for one resource; a token is asked for when one is needed."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._token: str | None = None
        self._endpoint = ""

    def metadata(self) -> dict[str, Any]:
        """The resource's metadata.

        :raises Unavailable: when Heat or Keystone does not answer; trying again may help.
        :raises Denied: when they do not know the user (any more).
        :raises NotFound: when the resource is gone.
        """
        found = self._ask("metadata").get("metadata")
        return found if isinstance(found, dict) else {}

    def signal(self, values: Mapping[str, Any]) -> None:
        """Tell it something; raises as metadata()."""
        self._ask("signal", values)

    def _ask(self, what: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        stack, name = self._seat.stack_id, self._seat.resource_name
        path = f"stacks/{urllib.parse.quote(stack)}/resources/{urllib.parse.quote(name)}/{what}"
        fresh = self._token is None
        token = self._token or self._log_in()
        try:
            return _json(f"{self._endpoint}/{path}", body, {"X-Auth-Token": token})[0]
        except Denied:
            self._token = None
            if fresh:
                raise
        return self._ask(what, body)  # that token's time was over

    def _log_in(self) -> str:
        seat = self._seat
        user = {"user": {"id": seat.user_id, "password": seat.password}}
        asked = {
            "identity": {"methods": ["password"], "password": user},
            "scope": {"project": {"id": seat.project_id}},
        }
        url = re.sub(r"(/(v2\.0|v3)?)*$", "", seat.auth_url) + "/v3/auth/tokens"
        told, headers = _json(url, {"auth": asked}, {})
        self._endpoint = _endpoint(told, seat.region_name)
        self._token = headers.get("X-Subject-Token", "")
        return self._token


def _endpoint(told: Mapping[str, Any], region: str) -> str:
    """Heat's public URL, of the catalog that comes with a token."""
    for service in told.get("token", {}).get("catalog", ()):
        for one in service.get("endpoints", ()) if service.get("type") == SERVICE else ():
            there = region in ("", one.get("region"), one.get("region_id"))
            if one.get("interface") == "public" and there:
                url = str(one.get("url", "")).rstrip("/")
                if re.fullmatch(first.URL, url):
                    return url
    where = f" of the region {region}" if region else ""
    raise Unavailable(f"Keystone's catalog has no public URL of Heat{where}")


def _json(
    url: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
) -> tuple[dict[str, Any], Mapping[str, str]]:
    """What a server answers, and the headers of it; with a body it is a POST."""
    place = urllib.parse.urlsplit(url).netloc
    request = urllib.request.Request(  # the pattern of every URL says http(s)
        url,
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", "Accept": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # nosec B310
            text = answer.read()
            return (json.loads(text) if text.strip() else {}) or {}, answer.headers
    except urllib.error.HTTPError as exc:
        exc.close()
        if exc.code in (401, 403):
            raise Denied(f"{place} refuses who asks ({exc.code})") from exc
        if exc.code == 404:
            raise NotFound(f"{place} has no {urllib.parse.urlsplit(url).path}") from exc
        raise Unavailable(f"{place} answers {exc.code}") from exc
    except OSError as exc:
        raise Unavailable(f"{place} does not answer: {first.in_words(exc)}") from exc
    except ValueError as exc:
        raise Unavailable(f"{place} answers something else than JSON") from exc
