# SPDX-License-Identifier: Apache-2.0
"""Keystone's first contents: accounts, roles, and the catalogue of services."""

from __future__ import annotations

from typing import Any

import openstack

from openstacklab.place import REGION, SECRET, Options, Place
from openstacklab.settings import PORTS

CATALOGUE = {
    "glance": ("image", ""),
    "placement": ("placement", ""),
    "nova": ("compute", "/v2.1"),
    "neutron": ("network", ""),
    "heat": ("orchestration", "/v1/%(project_id)s"),
    "heat-cfn": ("cloudformation", "/v1"),
    "octavia": ("load-balancer", ""),
}
"""Services with their types and the paths of their APIs."""


def connect(place: Place, user: str = "admin", project: str = "admin") -> Any:
    """openstacksdk, as one of the lab's users."""
    return openstack.connect(
        auth={
            "auth_url": place.auth_url,
            "username": user,
            "password": SECRET,
            "project_name": project,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        region_name=REGION,
        load_yaml_config=False,
        load_envvars=False,
    )


def make(place: Place, options: Options) -> None:
    """All of it; Keystone answers."""
    identity = connect(place).identity
    roles = {role.name: role for role in identity.roles()}
    for name in ("service", "heat_stack_owner", "heat_stack_user", "load-balancer_member"):
        if name not in roles:
            roles[name] = identity.create_role(name=name)
    project = identity.create_project(name="service", domain_id="default")
    for name, (kind, path) in CATALOGUE.items():
        if name == "octavia" and not options.octavia:
            continue
        _service(identity, name, kind, f"http://{place.api}:{PORTS[name]}{path}")
        if name != "heat-cfn":
            user = identity.create_user(
                name=name, password=SECRET, domain_id="default", default_project_id=project.id
            )
            for role in ("admin", "service"):
                identity.assign_project_role_to_user(project, user, roles[role])
    _heat(identity, roles)
    _people(identity, roles)


def _service(identity: Any, name: str, kind: str, url: str) -> None:
    service = identity.create_service(name=name, type=kind)
    for interface in ("public", "internal", "admin"):
        identity.create_endpoint(
            service_id=service.id, interface=interface, url=url, region_id=REGION
        )


def _heat(identity: Any, roles: dict[str, Any]) -> None:
    """The domain of the users that Heat makes, with which VMs signal."""
    domain = identity.create_domain(name="heat")
    user = identity.create_user(name="heat_domain_admin", password=SECRET, domain_id=domain.id)
    identity.assign_domain_role_to_user(domain, user, roles["admin"])


def _people(identity: Any, roles: dict[str, Any]) -> None:
    """An ordinary user with a project, and what the administrator needs for stacks."""
    project = identity.create_project(name="demo", domain_id="default")
    user = identity.create_user(name="demo", password=SECRET, domain_id="default")
    for name in ("member", "heat_stack_owner", "load-balancer_member"):
        identity.assign_project_role_to_user(project, user, roles[name])
    admin, own = identity.find_user("admin"), identity.find_project("admin")
    for name in ("member", "heat_stack_owner"):
        identity.assign_project_role_to_user(own, admin, roles[name])
