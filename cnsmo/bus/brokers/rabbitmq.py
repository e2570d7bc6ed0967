# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ: one account and one exchange per agent, made through the management API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_log import log

from cnsmo.bus import transport
from cnsmo.bus.broker import AskRoster, Broker
from cnsmo.bus.brokers import rabbitmq_layout as layout
from cnsmo.bus.brokers.rabbitmq_api import ManagementApi
from cnsmo.bus.brokers.rabbitmq_audit import Seen, differences
from cnsmo.files import read_secret
from cnsmo.model.errors import InvalidRequest
from cnsmo.model.messages import BusFinding

LOG = log.getLogger(__name__)
KEY_LENGTH = 32
ANSWERING = {
    "amqp_durable_queues": "true",
    "direct_mandatory_flag": "false",
    "kombu_missing_consumer_retry_timeout": "0",
}
"""An answer that finds no queue is dropped. oslo.messaging's default would try for a minute, on a
thread of the core's, and then give nobody else an answer who has that queue's name; the caller
chooses the name, so any agent could silence the core and others."""
STRAYS = {"account": "users", "exchange": "exchanges", "queue": "queues"}
"""Kinds of things that can be deleted, and the path of each in the management API."""


class RabbitmqBroker(Broker):
    """See rabbitmq_layout for who may do what."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__(conf)
        self._options = conf.bus
        self._api = ManagementApi(
            conf.bus.management_url,
            conf.bus.management_user,
            _management_password(conf),
            conf.bus.management_ca_file,
        )
        self._key = _secret("key_file", conf.bus.key_file)
        if len(self._key) < KEY_LENGTH:
            raise InvalidRequest(
                f"[bus] key_file {conf.bus.key_file}: needs {KEY_LENGTH} or more random "
                "characters, the same on every core"
            )
        self._conf = conf
        self._vhost = self._agents_url().virtual_host
        queues = transport.QUORUM_OPTIONS if conf.bus.quorum_queues else {}
        self.answering_url = self._url(layout.ANSWER, {**ANSWERING, **queues})
        self.hinting_url = self._url(layout.HINT, {})

    def authorities(self) -> str:
        """Read each time: it may be another one by now."""
        path = self._options.agents_ca_file
        return _content("agents_ca_file", path) + "\n" if path else ""

    def prepare(self) -> None:
        """The virtual host, the core's exchange and queue, its two accounts, the bounds."""
        api, vhost = self._api, self._vhost
        if api.get("vhosts", vhost) is None:
            api.put("vhosts", vhost, body={"description": "CNSMO's agents"})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        api.put("permissions", vhost, self._options.management_user, body=everything)
        for name, policy in layout.policies(self._options).items():
            api.put("policies", vhost, name, body=policy)
        exchange = layout.agent_exchange()
        api.put("exchanges", vhost, transport.EXCHANGE, body=exchange)
        for name, permission in layout.core_permissions().items():
            self._make_account(name, self._password(name), permission)
        LOG.info("the broker's virtual host %s is prepared", vhost)

    def admit(self, ident: str) -> str:
        """An account, an exchange, and the one binding."""
        self._check(ident)
        name, source = layout.account(ident), transport.agent_topic(ident)
        password = "" if self._by_certificate else self._password(name)
        self._make_account(name, password, layout.agent_permission(ident))
        limit = {"value": self._options.agent_connections}
        self._api.put("user-limits", name, "max-connections", body=limit)
        self._api.put("exchanges", self._vhost, source, body=layout.agent_exchange())
        source, destination, key = layout.into_core(ident)
        self._api.post(
            "bindings", self._vhost, "e", source, "e", destination, body={"routing_key": key}
        )
        login = transport.BY_CERTIFICATE if self._by_certificate else {}
        return self._url(name, login)

    def revoke(self, ident: str) -> None:
        """The account first: the broker closes its connections then."""
        self._check(ident)
        self._api.delete("users", layout.account(ident))
        for kind in ("queues", "exchanges"):
            for thing in self._api.get(kind, self._vhost, query="?columns=name"):
                if layout.agent_of(thing["name"]) == ident:
                    self._api.delete(kind, self._vhost, thing["name"])

    def audit(self, roster: AskRoster) -> list[BusFinding]:
        """Read all there is, then ask who should be there."""
        seen = self._look()
        return differences(seen, roster(), self._expected)

    def mend(self, findings: Iterable[BusFinding]) -> None:
        """Delete what is nobody's, then make what is missing or differs."""
        found = [finding for finding in findings if finding.mendable]
        for finding in found:
            if finding.remedy != "make":
                self._remove(finding)
        wrong = [finding for finding in found if finding.remedy != "delete"]
        if any(not finding.agent for finding in wrong):
            self.prepare()
        for ident in sorted({finding.agent for finding in wrong if finding.agent}):
            self.admit(ident)

    def _remove(self, finding: BusFinding) -> None:
        if finding.kind == "permission":
            vhost, _slash, user = finding.name.rpartition("/")
            self._api.delete("permissions", vhost, user)
        elif finding.kind == "account":
            self._api.delete("users", finding.name)
        else:
            self._api.delete(STRAYS[finding.kind], self._vhost, finding.name)

    def _look(self) -> Seen:
        api, vhost = self._api, self._vhost
        return Seen(
            vhost=vhost,
            manager=self._options.management_user,
            users={user["name"]: user for user in api.get("users")},
            permissions=api.get("permissions"),
            exchanges={x["name"]: x for x in api.get("exchanges", vhost) or []},
            bindings=api.get("bindings", vhost) or [],
            queues=[q["name"] for q in api.get("queues", vhost, query="?columns=name") or []],
            policies={p["name"]: p for p in api.get("policies", vhost) or []},
            wanted_policies=layout.policies(self._options),
        )

    def _expected(self, user: dict[str, Any]) -> bool:
        """Whether an account's login is as it was made."""
        name, stored = user["name"], user["password_hash"]
        if self._by_certificate and name not in (layout.ANSWER, layout.HINT):
            return not stored and not _tags(user)
        return layout.is_hash_of(stored, self._password(name)) and not _tags(user)

    def _make_account(self, name: str, password: str, permission: layout.Permission) -> None:
        """password: empty for an account that cannot log in by one."""
        hashed = layout.password_hash(password) if password else ""
        body = {
            "password_hash": hashed,
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": "",
        }
        self._api.put("users", name, body=body)
        self._api.put("permissions", self._vhost, name, body=permission)

    @property
    def _by_certificate(self) -> bool:
        return bool(self._options.agents_login == "certificate")

    def _password(self, name: str) -> str:
        return layout.derived_password(self._key, name)

    def _url(self, name: str, query: Mapping[str, str]) -> str:
        url = self._agents_url() if name.startswith(layout.account("")) else self._cores_url()
        for host in url.hosts:
            host.username = name
            host.password = "" if query == transport.BY_CERTIFICATE else self._password(name)
        url.query.update(query)
        return str(url)

    def _cores_url(self) -> oslo_messaging.TransportURL:
        if not self._options.cores_url:
            return self._agents_url()
        url = self._parsed("cores_url")
        if url.virtual_host != self._vhost:
            raise InvalidRequest("[bus] cores_url and agents_url name two virtual hosts")
        return url

    def _agents_url(self) -> oslo_messaging.TransportURL:
        return self._parsed("agents_url")

    def _parsed(self, option: str) -> oslo_messaging.TransportURL:
        try:
            url = oslo_messaging.TransportURL.parse(self._conf, self._options[option])
            usable = url.hosts and url.virtual_host and not any(h.username for h in url.hosts)
        except transport.BAD_URL_ERRORS:
            usable = False
        if not usable:
            raise InvalidRequest(
                f"[bus] {option} leads to no broker: write "
                "rabbit://HOST:5671/cnsmo-agents?ssl=true, without an account"
            )
        return url

    @staticmethod
    def _check(ident: str) -> None:
        if not layout.IDENT.fullmatch(ident):
            raise InvalidRequest(f"{ascii(ident)} is no id of a host")


def _tags(user: dict[str, Any]) -> bool:
    """Whether an account may use the management API; older brokers give the tags as a string."""
    return bool(user.get("tags"))


def _management_password(conf: cfg.ConfigOpts) -> str:
    given = conf.bus.management_password
    return (
        str(given)
        if given
        else _secret("management_password_file", conf.bus.management_password_file)
    )


def _secret(option: str, path: str) -> str:
    try:
        return read_secret(Path(path)).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"[bus] {option}: cannot read {path}: {exc}") from exc


def _content(option: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"[bus] {option}: cannot read {path}: {exc}") from exc
