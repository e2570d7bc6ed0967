# SPDX-License-Identifier: Apache-2.0
"""Finds services and drivers by their entry points (stevedore); the only place that does."""

from __future__ import annotations

import functools
import graphlib
import importlib.metadata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from stevedore import DriverManager, ExtensionManager
from stevedore.exception import NoMatches
from stevedore.extension import error_on_conflict

from cnsmo.model.errors import DriverUnavailable, InvalidRequest
from cnsmo.services.base import Driver, NetworkService, System
from cnsmo.services.provider import ProviderDriver

SERVICES = "cnsmo.services"


def driver_namespace(service: str) -> str:
    """Entry point group of the drivers of a service."""
    return f"cnsmo.{service}.drivers"


@functools.cache
def services() -> dict[str, NetworkService]:
    """All installed services by name.

    :raises ImportError: when a plugin does not load; a broken plugin is not passed over.
    """
    manager: ExtensionManager[NetworkService] = ExtensionManager(
        SERVICES,
        invoke_on_load=True,
        on_load_failure_callback=_raise,
        conflict_resolver=error_on_conflict,
    )
    return {name: manager[name].obj for name in sorted(manager.names())}  # type: ignore[misc]


def service(name: str) -> NetworkService:
    """The service of that name.

    :raises InvalidRequest: when none is installed.
    """
    try:
        return services()[name]
    except KeyError:
        known = ", ".join(services())
        raise InvalidRequest(f"no service {ascii(name)} is installed; there are: {known}") from None


def in_order(names: Iterable[str]) -> list[NetworkService]:
    """The services of these names, each behind those that it comes ``after``.

    :raises InvalidRequest: when one is not installed, or two wait for each other.
    """
    found = {name: service(name) for name in names}
    sorter = graphlib.TopologicalSorter(
        {name: [other for other in found if other in it.after] for name, it in found.items()}
    )
    try:
        return [found[name] for name in sorter.static_order()]
    except graphlib.CycleError as exc:
        circle = ", ".join(sorted(set(exc.args[1])))
        raise InvalidRequest(f"these services wait for each other: {circle}") from exc


@functools.cache
def driver_names(service_name: str) -> tuple[str, ...]:
    """Names of the installed drivers of a service, without importing them."""
    found = importlib.metadata.entry_points(group=driver_namespace(service_name))
    return tuple(sorted({entry.name for entry in found}))


@functools.cache
def driver_class(service_name: str, name: str) -> type[Driver[Any]]:
    """The class of a driver; only the one asked for is imported.

    :raises DriverUnavailable: when none of that name is installed.
    """
    try:
        manager: DriverManager[Any] = DriverManager(
            driver_namespace(service_name), name, conflict_resolver=error_on_conflict
        )
    except NoMatches as exc:
        known = ", ".join(driver_names(service_name))
        raise DriverUnavailable(
            f"no driver {ascii(name)} for {service_name} is installed here; there are: {known}"
        ) from exc
    return cast("type[Driver[Any]]", manager.driver)


@functools.cache
def is_provided(service_name: str, name: str) -> bool:
    """Whether a driver is one that cores run; one that is not installed is none."""
    if name not in driver_names(service_name):
        return False
    return issubclass(driver_class(service_name, name), ProviderDriver)


def provider_class(service_name: str, name: str) -> type[ProviderDriver]:
    """The class of a provider driver.

    :raises DriverUnavailable: when none of that name is installed.
    """
    found: type[Any] = driver_class(service_name, name)
    if not issubclass(found, ProviderDriver):
        raise DriverUnavailable(f"{name} is a driver of {service_name} for agents, not for cores")
    return found


def make_driver(
    service_name: str, driver: str, system: System, unit: str, label: str, state_dir: Path
) -> Driver[Any]:
    """A driver object for one unit of a service."""
    return driver_class(service_name, driver)(system, unit, label, state_dir)


def _raise(_manager: Any, entry_point: Any, error: BaseException) -> None:
    raise ImportError(f"plugin {entry_point.name} ({entry_point.value}): {error}") from error
