# SPDX-License-Identifier: Apache-2.0
"""Declare: plan a document against the System State, and apply it in one write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from cnsmo.core import specs
from cnsmo.core.context import Core
from cnsmo.model.audit import Act
from cnsmo.model.document import Document, invalid, parse
from cnsmo.model.errors import CnsmoError, Conflict, InvalidRequest, NotFound
from cnsmo.model.messages import Effect, Plan, Problem, RowChange
from cnsmo.model.reading import read
from cnsmo.model.resource import (
    AGENT,
    HOST,
    OPERATOR,
    Row,
    View,
    adjustment_kind,
    joined,
    member_kind,
    renewal_kind,
)
from cnsmo.model.wording import in_words
from cnsmo.services import registry
from cnsmo.services.base import NetworkService
from cnsmo.state.writer import Writer


class Declare:
    """The use cases of operators that change what is declared."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def plan(self, text: str) -> Plan:
        """What applying a document would change, and what that comes to; nothing is written.

        :raises InvalidDocument: with one problem per mistake.
        :raises NotFound: when its deployment does not exist.
        """
        document = parse(text)
        deployment = self._core.store.deployment(document.deployment)
        granted = self._core.tokens.groups(deployment)
        view = self._core.store.view(document.deployment, granted=granted)
        plan, after = _plan(document, view)
        return plan.model_copy(update={"effects": _effects(view, after, plan)})

    def apply(self, text: str, act: Act, base_revision: int | None) -> Plan:
        """Apply a document in one write; what it comes to, plan() has said.

        :raises InvalidDocument: as plan().
        :raises Conflict: when an operator changed something after base_revision.
        """
        document = parse(text)
        deployment = self._core.store.deployment(document.deployment)

        def work(writer: Writer) -> Plan:
            granted = self._core.tokens.groups(deployment, writer.connection)
            view = writer.view(kinds(), granted)
            plan, _after = _plan(document, view)
            if base_revision is not None:
                _refuse_overtaken(writer, base_revision)
            for change in plan.changes:
                if change.action == "remove":
                    _remove(writer, change.kind, change.name)
                else:
                    writer.put(change.kind, change.name, change.after or {}, OPERATOR)
            return plan

        done = self._core.write(document.deployment, act, work)
        return done.value.model_copy(update={"revision": done.revision})

    def delete(self, deployment: str, service: str, instance: str, act: Act) -> int:
        """Remove one declared instance.

        :return: the revision that holds it.
        :raises NotFound: when it is not declared.
        :raises Conflict: when something else that is declared needs it.
        """
        found = self._core.store.deployment(deployment)

        def work(writer: Writer) -> None:
            granted = self._core.tokens.groups(found, writer.connection)
            _plan_delete(writer.view(kinds(), granted), service, instance)
            _remove(writer, service, instance)

        return self._core.write(deployment, act, work).revision

    def plan_delete(self, deployment: str, service: str, instance: str) -> Plan:
        """What removing one declared instance comes to; nothing is written.

        :raises NotFound: as delete().
        :raises Conflict: as delete().
        """
        granted = self._core.tokens.groups(self._core.store.deployment(deployment))
        view = self._core.store.view(deployment, granted=granted)
        plan, after = _plan_delete(view, service, instance)
        return plan.model_copy(update={"effects": _effects(view, after, plan)})

    def renew(self, deployment: str, service: str, instance: str, act: Act) -> int:
        """Ask all members of an instance for new keys: a counter that drivers compare.

        :return: the revision that holds it.
        :raises NotFound: when it is not declared.
        """
        registry.service(service)

        def work(writer: Writer) -> None:
            if writer.get(service, instance) is None:
                raise NotFound(f"deployment {deployment!r} declares no {service} {instance!r}")
            row = writer.get(renewal_kind(service), instance)
            generation = int(row.body["generation"]) + 1 if row else 1
            writer.put(renewal_kind(service), instance, {"generation": generation}, OPERATOR)

        return self._core.write(deployment, act, work).revision

    def adjust(
        self, deployment: str, service: str, instances: Sequence[str], host: str,
        patch: dict[str, Any], act: Act,
    ) -> int:  # fmt: skip
        """Say something of one host in some instances, in one write.

        patch: what is said anew, by key; null takes back what was said. Other keys stay as they
        are: two operators who say different things do not undo each other.

        :return: the revision that holds it.
        :raises InvalidRequest: when the service takes nothing of that kind.
        :raises NotFound: when there is no such instance or host.
        """
        model = registry.service(service).Adjustment
        if model is None:
            raise InvalidRequest(f"nothing can be said of single hosts of a {service}")

        def work(writer: Writer) -> None:
            if writer.get(HOST, host) is None:
                raise NotFound(f"deployment {deployment!r} has no host {host!r}")
            for instance in instances:
                if writer.get(service, instance) is None:
                    raise NotFound(f"deployment {deployment!r} declares no {service} {instance!r}")
                kind, name = adjustment_kind(service), joined(instance, host)
                row = writer.get(kind, name)
                said = _patched(model, row.body if row else {}, patch)
                if said:
                    writer.put(kind, name, said, OPERATOR)
                else:
                    writer.delete(kind, name)

        return self._core.write(deployment, act, work).revision

    def export(self, deployment: str) -> str:
        """The document that is in force, without what equals a default."""
        view = self._core.store.view(deployment)
        data: dict[str, Any] = {"deployment": deployment}
        for name, service in registry.services().items():
            instances = {
                row.name: read(service.Spec, row.body).model_dump(
                    mode="json", exclude_defaults=True
                )
                for row in view.rows(name)
            }
            if instances:
                data[name] = instances
        return yaml.safe_dump(data, sort_keys=False)


def _patched(
    model: type[BaseModel], known: dict[str, Any], patch: dict[str, Any]
) -> dict[str, Any]:
    """What is said of a host from now on; without what equals a default.

    :raises InvalidRequest: when that cannot be said.
    """
    said = read(model, known).model_dump(mode="json", exclude_defaults=True) | patch
    fields = model.model_fields
    kept = {key: value for key, value in said.items() if value is not None or key not in fields}
    try:
        return model.model_validate(kept).model_dump(mode="json", exclude_defaults=True)
    except ValidationError as exc:
        raise InvalidRequest(in_words(exc)) from exc


def kinds() -> list[str]:
    """What a plan looks at, and desired state is compiled from."""
    services = registry.services()
    return [HOST, AGENT, *services, *_of_hosts(services)]


def _of_hosts(services: Iterable[str]) -> list[str]:
    """Kinds of the rows that belong to one host in an instance."""
    return [kind(service) for service in services for kind in (member_kind, adjustment_kind)]


def _plan(document: Document, view: View) -> tuple[Plan, View]:
    """The plan without effects, and the view as it would be.

    What is in force was right when it was declared. Where it is wrong since, by who left, or by
    what a host says of itself, that stands in the way of no other change.
    """
    wanted, problems = specs.validate(document)
    after = planned(view, wanted)
    found = [] if problems else _problems(after)
    known = _in_force(view, found)
    problems += [document.located(problem) for problem in found if problem not in known]
    if problems:
        raise invalid(problems)
    told = [document.located(problem) for problem in known]
    update = {
        "absent": [problem for problem in told if problem.absent],
        "known": [problem for problem in told if not problem.absent],
    }
    return _changed(view, wanted).model_copy(update=update), after


def _plan_delete(view: View, service: str, instance: str) -> tuple[Plan, View]:
    """The plan without effects, and the view as it would be.

    What was wrong before does not stand in the way: who cleans up goes one step after the other.
    """
    registry.service(service)
    wanted = _present(view)
    if wanted.pop((service, instance), None) is None:
        raise NotFound(f"deployment {view.deployment!r} declares no {service} {instance!r}")
    after = planned(view, wanted)
    known = {(problem.path, problem.message) for problem in _problems(view)}
    new = [found for found in _problems(after) if (found.path, found.message) not in known]
    if new:
        raise Conflict(
            f"{service} {instance} of {view.deployment!r} is needed by others:\n"
            + "".join(f"{problem}\n" for problem in new)
            + "Delete or change these first; or take all of it out of the document in force "
            f"('cnsmo-manage deployment export {view.deployment}') and apply that."
        )
    return _changed(view, wanted), after


def _problems(view: View) -> list[Problem]:
    """What the services find wrong when they see everything together, or that they cannot see it.

    They cannot where a driver is declared that is not installed any more.
    """
    problems: list[Problem] = []
    for name, service in registry.services().items():
        try:
            problems += service.check(view)
        except CnsmoError as exc:
            problems.append(Problem(path=name, message=str(exc)))
    return problems


def _in_force(view: View, found: list[Problem]) -> list[Problem]:
    """Those of them that what is in force has already, in whatever place of an instance."""
    known = {(_instance(each), each.message) for each in (_problems(view) if found else ())}
    return [each for each in found if (_instance(each), each.message) in known]


def _instance(problem: Problem) -> tuple[str, ...]:
    return tuple(problem.path.split(".")[:2])


def _present(view: View) -> dict[tuple[str, str], dict[str, Any]]:
    """The specs of all declared instances, by service and name."""
    return {
        (service, row.name): row.body
        for service in registry.services()
        for row in view.rows(service)
    }


def _changed(view: View, wanted: dict[tuple[str, str], dict[str, Any]]) -> Plan:
    """The plan that leads to what is wanted, without effects."""
    present = _present(view)
    changes = []
    for kind, name in sorted({*wanted, *present}):
        before, spec = present.get((kind, name)), wanted.get((kind, name))
        if before != spec:
            action = "add" if before is None else "remove" if spec is None else "change"
            changes.append(
                RowChange(action=action, kind=kind, name=name, before=before, after=spec)
            )
    return Plan(
        deployment=view.deployment,
        base_revision=view.revision,
        changes=changes,
        hosts=_touched(view, changes),
    )


def planned(view: View, wanted: dict[tuple[str, str], dict[str, Any]]) -> View:
    """The view as it would be: today's hosts and members, the document's instances."""
    kinds = (HOST, AGENT, *_of_hosts(registry.services()))
    rows = [row for kind in kinds for row in view.rows(kind)]
    now = view.now
    if now is None:
        raise ValueError("planning needs the core's clock in the view")
    rows += [
        Row(kind=kind, name=name, owner=OPERATOR, revision=0, body=body, updated_at=now)
        for (kind, name), body in wanted.items()
    ]
    return View(view.deployment, view.revision, rows, now=now, granted=view.groups)


def _touched(view: View, changes: list[RowChange]) -> list[str]:
    """Hosts that have something to do with any changed instance, before or after."""
    touched = set()
    for change in changes:
        service = registry.service(change.kind)
        for body in (change.before, change.after):
            if body is not None:
                spec = read(service.Spec, body)
                touched |= {
                    name
                    for name, host in view.hosts.items()
                    if service.concerns(change.name, spec, host)
                }
    return sorted(touched)


def _effects(before: View, after: View, plan: Plan) -> list[Effect]:
    """What services say of the changes; hosts of which they say the same, together.

    All of them are asked, of the hosts that a changed instance concerns: a rule of the firewall
    means something else once a VPN has other members.
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for service in registry.services().values():
        for host in plan.hosts:
            lines = _effects_on(host, service, before, after)
            if lines:
                alike.setdefault(lines, []).append(host)
    return [Effect(hosts=hosts, lines=list(lines)) for lines, hosts in sorted(alike.items())]


def _effects_on(host: str, service: NetworkService, before: View, after: View) -> tuple[str, ...]:
    """What a service says of a host; that it cannot say anything stands in no plan's way."""
    try:
        return tuple(service.effects(before, after, host))
    except CnsmoError as exc:
        return (f"{service.name}: what changes here cannot be told: {exc}",)


def _refuse_overtaken(writer: Writer, base_revision: int) -> None:
    """Refuse when an operator wrote after the plan was made; hosts' own rows do not matter."""
    view = writer.view(kinds())
    overtaken = [
        row
        for service in registry.services()
        for row in (*view.rows(service), *view.tombstones(service))
        if row.revision > base_revision
    ]
    if overtaken:
        told = "; ".join(
            f"{row.author} {'removed' if row.deleted else 'changed'} {row.kind} {row.name} "
            f"in revision {row.revision}"
            for row in overtaken
        )
        raise Conflict(
            f"the deployment changed after revision {base_revision}, on which you planned: {told}. "
            "Plan again."
        )


def _remove(writer: Writer, service: str, instance: str) -> bool:
    """Remove an instance, and what hosts announced to it."""
    prefix = joined(instance, "")
    for kind in _of_hosts([service]):
        for row in writer.rows(kind):
            if row.name.startswith(prefix):
                writer.delete(row.kind, row.name)
    writer.delete(renewal_kind(service), instance)
    return writer.delete(service, instance)
