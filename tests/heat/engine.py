# SPDX-License-Identifier: Apache-2.0
"""Heat's own engine in this process: no service, no cloud; what a cloud would say is assumed."""

import contextlib
import functools
import pathlib
import sys
import warnings
from typing import Any
from unittest import mock

from oslo_service import backend

warnings.simplefilter("ignore")
backend.init_backend(backend.BackendType.THREADING)

from heat.common import config, messaging, policy, template_format  # noqa: E402
from heat.engine import environment, parent_rsrc, resources, scheduler, stack, template  # noqa: E402
from heat.engine.clients.os.keystone import fake_keystoneclient  # noqa: E402
from heat.tests import utils  # noqa: E402
from oslo_config import cfg  # noqa: E402

assert config
assert parent_rsrc
TOP = pathlib.Path(__file__).parents[2]
TEMPLATES = TOP / "heat_templates"
CLIENTS = "heat.engine.clients.os"
CONSTRAINTS = {
    "glance": ["ImageConstraint"],
    "nova": ["FlavorConstraint", "KeypairConstraint"],
    "neutron.neutron_constraints": [
        "NetworkConstraint",
        "SubnetConstraint",
        "PortConstraint",
        "RouterConstraint",
        "SecurityGroupConstraint",
    ],
}
"""Of parameters: whether a cloud has such a thing."""


@functools.cache
def start() -> None:
    """Begin; once in a process."""
    cfg.CONF([], project="heat", default_config_files=[], default_config_dirs=[])
    place = pathlib.Path(sys.prefix, "etc", "heat")
    cfg.CONF.set_override("environment_dir", str(place / "environment.d"))
    cfg.CONF.set_override("template_dir", str(place / "templates"))
    scheduler.ENABLE_SLEEP = False
    messaging.setup("fake://", optional=True)
    utils.setup_dummy_db()
    resources.initialise()
    found = {"side_effect": lambda _self, name: name, "autospec": True}
    image = {"return_value": mock.Mock(status="active", min_ram=0, min_disk=0, size=0)}
    flavor = {"return_value": mock.Mock(ram=1024, disk=10)}
    most = {"maxServerMeta": 128, "maxPersonality": 5, "maxPersonalitySize": 10240}
    limits = {"return_value": most}
    with contextlib.ExitStack() as assumed:
        for module, names in CONSTRAINTS.items():
            for name in names:
                where = f"{CLIENTS}.{module}.{name}.validate"
                assumed.enter_context(mock.patch(where, return_value=True))
        for where, how in (
            (f"{CLIENTS}.keystone.KeystoneClientPlugin._create",
             {"return_value": fake_keystoneclient.FakeKeystoneClient()}),
            ("heat.engine.resource.Resource.is_service_available", {"return_value": (True, None)}),
            (f"{CLIENTS}.neutron.NeutronClientPlugin.has_extension", {"return_value": True}),
            (f"{CLIENTS}.neutron.NeutronClientPlugin.find_resourceid_by_name_or_id",
             {"side_effect": lambda _self, _resource, name, **_how: name, "autospec": True}),
            (f"{CLIENTS}.glance.GlanceClientPlugin.find_image_by_name_or_id", found),
            (f"{CLIENTS}.glance.GlanceClientPlugin.get_image", image),
            (f"{CLIENTS}.nova.NovaClientPlugin.find_flavor_by_name_or_id", found),
            (f"{CLIENTS}.nova.NovaClientPlugin.get_flavor", flavor),
            (f"{CLIENTS}.nova.NovaClientPlugin.is_version_supported", {"return_value": True}),
            (f"{CLIENTS}.nova.NovaClientPlugin.absolute_limits", limits),
        ):  # fmt: skip
            assumed.enter_context(mock.patch(where, **how))
        elsewhere = resources.global_env().get_class("OS::Heat::Stack")
        assumed.enter_context(mock.patch.object(elsewhere, "heat"))
        assumed.enter_context(mock.patch.object(policy.ResourceEnforcer, "enforce"))
        assumed.pop_all()  # they stay


def files() -> dict[str, str]:
    """All that templates refer to, by where it is."""
    found = [*TEMPLATES.rglob("*.yaml"), *(TOP / "cloudinit").glob("*.yaml")]
    return {f"file://{path}": path.read_text() for path in found}


def environment_of(parameters: dict[str, Any]) -> environment.Environment:
    """lib/environment.yaml, as python-heatclient hands it over, and parameters."""
    lib = TEMPLATES / "lib"
    text = template_format.simple_parse((lib / "environment.yaml").read_text())
    registry = {
        name: f"file://{(lib / where).resolve()}"
        for name, where in text["resource_registry"].items()
    }
    return environment.Environment({"resource_registry": registry, "parameters": parameters})


def load(name: str, parameters: dict[str, Any], called: str = "") -> stack.Stack:
    """A stack of a template of ours, not created; called: by default as the template is."""
    path = TEMPLATES / name
    text = absolute(path)
    known = files()
    known |= {f"file://{other}": absolute(other) for other in TEMPLATES.rglob("*.yaml")}
    made = template.Template(
        template_format.parse(text), files=known, env=environment_of(parameters)
    )
    return stack.Stack(utils.dummy_context(), called or path.stem.replace("_", "-"), made)


def absolute(path: pathlib.Path) -> str:
    """The text with get_file as python-heatclient makes it: relative to the file itself."""
    lines = []
    for line in path.read_text().splitlines():
        before, found, rest = line.partition("{get_file: ")
        if found:
            name, end, tail = rest.partition("}")
            line = f"{before}{found}file://{(path.parent / name).resolve()}{end}{tail}"
        lines.append(line)
    return "\n".join(lines) + "\n"
