# SPDX-License-Identifier: Apache-2.0
"""Whether this release can take over from the one that runs: what cnsmo-status looks at.

Nothing is changed. The old cores may run meanwhile, and the database may have the old schema.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from oslo_config import cfg
from oslo_upgradecheck.upgradecheck import Code, Result
from pydantic import ValidationError

from cnsmo.bus import broker, rollcall, transport
from cnsmo.conf.opts import list_opts
from cnsmo.core.endpoints import AgentEndpoints
from cnsmo.doctor.symptom import few
from cnsmo.model.errors import CnsmoError, NotFound
from cnsmo.model.presence import AgentSeen
from cnsmo.model.resource import AGENT, HOST
from cnsmo.model.wording import in_words
from cnsmo.services import registry
from cnsmo.state import schema, sealing
from cnsmo.state.engine import make_engine, transaction
from cnsmo.state.tables import DEPLOYMENTS, RESOURCES
from cnsmo.state.vault import vault_of
from cnsmo.trust import authority

Check = Callable[[cfg.ConfigOpts], Result]


def _result(check: Check) -> Check:
    """What goes wrong on the way is told as a failure, in its own words."""

    @functools.wraps(check)
    def looked(conf: cfg.ConfigOpts) -> Result:
        try:
            return check(conf)
        except CnsmoError as exc:
            return Result(Code.FAILURE, str(exc))

    return looked


@_result
def database_schema(conf: cfg.ConfigOpts) -> Result:
    """Behind is what an upgrade begins with; ahead is somebody else's."""
    have, need = _schema(conf), schema.newest()
    if have == need:
        return Result(Code.SUCCESS)
    if have is not None and have > need:
        return Result(Code.FAILURE, f"the database has schema {have}, this release knows {need}")
    told = f"the database has schema {have or '(none)'}, this release needs {need}"
    return Result(Code.WARNING, f"{told}: run 'cnsmo-manage db upgrade' before its cores start")


@_result
def secrets_key(conf: cfg.ConfigOpts) -> Result:
    """A release without seals has no key yet: 'cnsmo-manage db upgrade' makes it."""
    have = _schema(conf)
    if have is None or have < sealing.SCHEMA:
        return Result(Code.SUCCESS)
    vault = vault_of(conf)
    if sealing.fits(_engine(conf), vault) is False:
        told = f"the key in {vault.path} is not the one that the database is sealed with"
        return Result(Code.FAILURE, told)
    return Result(Code.SUCCESS)


@_result
def certificate_authority(conf: cfg.ConfigOpts) -> Result:
    """Hosts join over HTTPS: a core that lets them does not start without an authority."""
    if conf.join.listen:
        try:
            authority.load(Path(conf.join.ca_directory))
        except NotFound as exc:
            return Result(Code.FAILURE, str(exc))
    return Result(Code.SUCCESS)


@_result
def settings(conf: cfg.ConfigOpts) -> Result:
    """Options that this release does not know (any more) are passed over: nobody would notice."""
    strange = sorted(set(_strange(conf)))
    if strange:
        told = "; ".join(strange)
        return Result(Code.WARNING, f"options that this release does not know: {told}")
    return Result(Code.SUCCESS)


@_result
def drivers(conf: cfg.ConfigOpts) -> Result:
    """What is declared must have its service and its driver, and be right for it."""
    broker.load(conf).check()
    if _schema(conf) is None:
        return Result(Code.SUCCESS)
    wrong = list(_undeclarable(conf))
    return Result(Code.FAILURE, "; ".join(wrong)) if wrong else Result(Code.SUCCESS)


@_result
def agents_calls(conf: cfg.ConfigOpts) -> Result:
    """Agents whose calls this release does not take keep what is in force, and hear nothing new."""
    if transport.is_in_process(conf):
        return Result(Code.SUCCESS)
    found = rollcall.roll_call(conf)
    transport.close()
    if not found:
        told = "no core is there that could say which agents it hears: start one and look again"
        return Result(Code.WARNING, told)
    agents = {f"{it.deployment}/{it.host}": it for answer in found for it in answer.core.agents}
    refused = {name for name, it in agents.items() if it.rpc and not _taken(it)}
    silent = {name for name, it in agents.items() if not it.rpc}
    if refused:
        told = f"agents whose calls this release does not take, upgrade them first: {few(refused)}"
        return Result(Code.FAILURE, told)
    if silent:
        told = f"agents that do not say how old they are, so upgrade them soon: {few(silent)}"
        return Result(Code.WARNING, told)
    return Result(Code.SUCCESS)


CHECKS: tuple[tuple[str, Check], ...] = (
    ("Database schema", database_schema),
    ("Key of the database", secrets_key),
    ("Certificate authority", certificate_authority),
    ("Settings", settings),
    ("Services and drivers", drivers),
    ("Calls of agents", agents_calls),
)


def _taken(agent: AgentSeen) -> bool:
    """Whether calls of that version are answered: same major, no higher minor (oslo.messaging)."""
    ours = _version(AgentEndpoints.target.version)
    try:
        theirs = _version(agent.rpc)
    except ValueError:
        return False
    return theirs[0] == ours[0] and theirs[1] <= ours[1]


def _version(text: str) -> tuple[int, int]:
    major, _dot, minor = text.partition(".")
    return int(major), int(minor)


def _engine(conf: cfg.ConfigOpts) -> sa.Engine:
    url = sa.make_url(conf.database.connection)
    file = url.database if url.get_backend_name() == "sqlite" else None
    if file not in (None, "", ":memory:") and not Path(str(file)).exists():
        raise NotFound(f"there is no database at {file}")
    return make_engine(conf)


def _schema(conf: cfg.ConfigOpts) -> str | None:
    return schema.current(_engine(conf))


def _strange(conf: cfg.ConfigOpts) -> Iterator[str]:
    known = {group: {it.dest for it in options} for group, options in list_opts()}
    for path in (*(conf.config_file or ()), *_listed(conf.config_dir)):
        sections: dict[str, dict[str, Any]] = {}
        cfg.ConfigParser(str(path), sections).parse()
        for group in sections.keys() & known.keys():
            yield from (f"[{group}] {it} in {path}" for it in sections[group].keys() - known[group])


def _listed(folders: list[str] | None) -> Iterator[str]:
    for folder in folders or ():
        yield from map(str, sorted(Path(folder).glob("*.conf")))


def _undeclarable(conf: cfg.ConfigOpts) -> Iterator[str]:
    query = (
        sa.select(DEPLOYMENTS.c.name.label("deployment"), RESOURCES)
        .join_from(RESOURCES, DEPLOYMENTS)
        .where(RESOURCES.c.deleted.is_(False), RESOURCES.c.kind.not_in((HOST, AGENT)))
        .order_by(DEPLOYMENTS.c.name, RESOURCES.c.kind, RESOURCES.c.name)
    )
    with transaction(_engine(conf)) as connection:
        for record in connection.execute(query).mappings():
            if "." not in record["kind"]:
                yield from _wrong(record["deployment"], record)


def _wrong(deployment: str, record: sa.RowMapping) -> Iterator[str]:
    kind, name, body = record["kind"], record["name"], record["body"]
    where = f"{deployment}: {kind}.{name}"
    service = registry.services().get(kind)
    if service is None:
        yield f"{where}: no service {kind!r} is installed"
        return
    driver = body.get("driver")
    if driver is not None and driver not in registry.driver_names(kind):
        yield f"{where}: no driver {driver!r} is installed"
        return
    try:
        service.Spec.model_validate(body)
    except ValidationError as exc:
        yield f"{where}: {in_words(exc)}"
