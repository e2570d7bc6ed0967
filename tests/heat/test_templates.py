# SPDX-License-Identifier: Apache-2.0
"""The HOT templates, in Heat's own engine."""

import json
import re
from typing import Any

import engine
import pytest
import yaml
from heat.common import exception
from heat.engine.hot.functions import ReplaceJson, Yaql
from yamllint import linter
from yamllint.config import YamlLintConfig

FILES = sorted(path for path in engine.TEMPLATES.rglob("*.yaml"))
NAMES = [str(path.relative_to(engine.TEMPLATES)) for path in FILES]
TEMPLATES = [name for name in NAMES if name != "lib/environment.yaml"]
VM = {"image": "debian-12", "flavor": "small"}
DIGEST = "0123456789abcdef" * 4
JOIN = {"core": "https://198.51.100.10:8743", "ca": DIGEST, "token": "t-1.abc"}
NET = {"network": "net", "external_network": "public"}
THERE = {f"there_{name}": "x" for name in ("image", "flavor", "network", "external_network")}
PARAMETERS: dict[str, dict[str, Any]] = {
    "core.yaml": {**VM, **NET},
    "agents.yaml": {**VM, **NET, **JOIN, "count": 2},
    "agents_scaling.yaml": {**VM, **NET, **JOIN},
    "lib/host.yaml": {**VM, **NET, **JOIN, "security_group": "sg"},
    "lib/deployment.yaml": {"core": "id", "document": {"deployment": "shop"}},
    "lib/told.yaml": {"data": {"core": {"ca": DIGEST}}},
    "examples/two_tier.yaml": {**VM, "external_network": "public"},
    "examples/attach.yaml": {**VM, **NET, **JOIN},
    "examples/two_regions.yaml": {**VM, **NET, **THERE, "region": "West"},
}
OPTIONS = [
    {},
    {"key_name": "mine", "ssh_from": "192.0.2.0/24"},
    {"external_network": ""},
    {"vip": "10.1.0.9", "affinity": "anti-affinity"},
    {"volume_size": 10, "groups": "web=2", "document": {"deployment": "main"}},
    {"within": 120},
    {"script": "#!/bin/sh\ntrue\n", "name": "web1", "leave": "shutdown", "server_group": "sg"},
    {"leaving": "0,2", "leave": "shutdown"},
    {"requirements": "https://192.0.2.1/r.txt", "requirements_sha256": DIGEST},
]


@pytest.fixture(scope="session", autouse=True)
def _started() -> None:
    engine.start()


def text_of(name: str) -> dict[str, Any]:
    return yaml.safe_load((engine.TEMPLATES / name).read_text())


def combinations() -> list[tuple[str, dict[str, Any]]]:
    """Each template with each set of options that it has."""
    made = []
    for name in TEMPLATES:
        known = text_of(name)["parameters"]
        for options in OPTIONS:
            taken = {key: value for key, value in options.items() if key in known}
            needed = "default" not in known.get("external_network", {"default": ""})
            if taken.get("external_network") == "" and needed:
                continue
            if not options or taken:
                made.append((name, {**PARAMETERS[name], **taken}))
    return made


@pytest.mark.parametrize(("name", "parameters"), combinations())
def test_heat_takes_every_template_with_every_option(name: str, parameters: dict[str, Any]) -> None:
    engine.load(name, parameters).validate()


def test_every_template_is_tried() -> None:
    assert set(PARAMETERS) == set(TEMPLATES)


WRONG = [
    ("lib/host.yaml", {"token": "a b"}),
    ("lib/host.yaml", {"core": "http://198.51.100.10:8743"}),
    ("lib/host.yaml", {"ca": "zz"}),
    ("lib/host.yaml", {"services": "vpn;rm"}),
    ("lib/host.yaml", {"site": "a\nb"}),
    ("agents.yaml", {"prefix": "A_B"}),
    ("agents.yaml", {"affinity": "near"}),
    ("agents.yaml", {"ssh_from": "everywhere"}),
    ("core.yaml", {"groups": "web"}),
    ("core.yaml", {"groups": "web=2\nx"}),
    ("core.yaml", {"name": "core\n"}),
    ("core.yaml", {"index": "ftp://x/"}),
    ("core.yaml", {"requirements_sha256": "12"}),
    ("core.yaml", {"wait": 5}),
]


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_heat_refuses_a_wrong_value_at_once(name: str, wrong: dict[str, Any]) -> None:
    (parameter,) = wrong
    with pytest.raises(exception.StackValidationFailed, match=parameter):
        engine.load(name, {**PARAMETERS[name], **wrong}).validate()


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_say_what_their_parameters_and_outputs_are(name: str) -> None:
    text = text_of(name)
    assert str(text["heat_template_version"]) == "2021-04-16"
    assert text["description"]
    grouped = [it for group in text["parameter_groups"] for it in group["parameters"]]
    assert sorted(grouped) == sorted(text["parameters"])
    for parameter in text["parameters"].values():
        assert parameter["label"]
    assert all(output["description"] for output in text["outputs"].values())
    for key in ("token", "password"):
        assert text["parameters"].get(key, {"hidden": True})["hidden"]


def servers() -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, resource["properties"])
        for name in TEMPLATES
        for resource in text_of(name)["resources"].values()
        if resource["type"] == "OS::Nova::Server"
    ]


@pytest.mark.parametrize(("name", "server"), servers())
def test_servers_get_their_user_data_as_it_is_and_are_not_replaced_for_it(
    name: str, server: dict[str, Any]
) -> None:
    assert server["user_data_format"] == "RAW"
    assert server["user_data_update_policy"] == "IGNORE"
    assert all("port" in network for network in server["networks"])


@pytest.mark.parametrize(("name", "server"), servers())
def test_every_metadatum_is_a_parameter_of_the_user_data(name: str, server: dict[str, Any]) -> None:
    role = "core" if name == "core.yaml" else "agent"
    text = (engine.TOP / "cloudinit" / f"{role}.yaml").read_text()
    known = set(re.findall(r"given\.(cnsmo_\w+)", text))
    assert set(server["metadata"]) <= known


def resolved(name: str, parameters: dict[str, Any], resource: str) -> dict[str, Any]:
    """The properties of a resource, as Heat would hand them to the cloud."""
    stack = engine.load(name, {**PARAMETERS[name], **parameters})
    return dict(stack[resource].properties)


def test_the_user_data_is_the_file_itself() -> None:
    made = resolved("lib/host.yaml", {"external_network": ""}, "server")
    assert made["user_data"] == (engine.TOP / "cloudinit" / "agent.yaml").read_text()
    assert made["metadata"]["cnsmo_token"] == "t-1.abc"


def test_nothing_in_a_document_ends_the_file_that_it_is_written_to() -> None:
    nasty = {"deployment": "main", "x": 'a"}\n- {path: /etc/shadow}\n#cloud-config\n$config'}
    given = {"core": "id", "document": nasty}
    assert json.loads(resolved("lib/deployment.yaml", given, "text")["value"]) == nasty
    template = text_of("core.yaml")["resources"]["follow_part"]["properties"]["config"]
    replace = template["str_replace"]
    replace["params"]["$config"]["write_files"][0]["content"] = json.dumps(nasty)
    made = ReplaceJson(None, "str_replace", replace).result()
    config = yaml.safe_load(made)
    assert json.loads(config["write_files"][0]["content"]) == nasty
    assert list(config) == ["merge_how", "write_files"]


def test_a_core_without_a_document_applies_none() -> None:
    assert "first_deployment" not in engine.load("core.yaml", PARAMETERS["core.yaml"]).resources
    document = {"deployment": "main"}
    made = resolved("core.yaml", {"document": document, "within": 60}, "first_deployment")
    assert (made["document"], made["within"]) == (document, 60)


def test_a_signal_that_is_too_long_for_one_metadatum_is_cut_into_several() -> None:
    texts = text_of("lib/host.yaml")["resources"]["server"]["properties"]["metadata"]
    url = "".join(chr(97 + number % 26) for number in range(900))
    parts = []
    for name in ("cnsmo_signal", "cnsmo_signal_1", "cnsmo_signal_2", "cnsmo_signal_3"):
        expression = texts[name]["yaql"]["expression"]
        parts.append(Yaql(None, "yaql", {"expression": expression, "data": {"text": url}}).result())
    assert "".join(parts) == url
    assert all(len(part) <= 255 for part in parts)
    expression = texts["cnsmo_signal_3"]["yaql"]["expression"]
    short = Yaql(None, "yaql", {"expression": expression, "data": {"text": "short"}}).result()
    assert short == ""


def test_vms_of_a_scaling_group_come_and_go() -> None:
    group = resolved("agents_scaling.yaml", {}, "hosts")["resource"]
    assert group["properties"]["leave"] == "shutdown"
    server = resolved("lib/host.yaml", {"leave": "shutdown", "external_network": ""}, "server")
    assert server["metadata"]["cnsmo_leave"] == "shutdown"


def test_who_is_to_leave_a_group_can_be_named() -> None:
    named = resolved("agents.yaml", {"count": 1, "leaving": "0,2"}, "hosts")
    assert named["removal_policies"] == [{"resource_list": ["0", "2"]}]
    assert resolved("agents.yaml", {}, "hosts")["removal_policies"] == [{"resource_list": []}]


def test_a_pair_is_kept_on_different_hypervisors() -> None:
    balancers = text_of("examples/two_tier.yaml")["resources"]["balancers"]["properties"]
    assert balancers["affinity"] == "soft-anti-affinity"
    group = resolved("agents.yaml", {"affinity": "anti-affinity"}, "apart")
    assert group["policies"] == ["anti-affinity"]
    for name in ("core.yaml", "lib/host.yaml"):
        server = resolved(name, {"server_group": "sg", "external_network": ""}, "server")
        assert server["scheduler_hints"] == {"group": "sg"}
        alone = resolved(name, {"external_network": ""}, "server")
        assert not alone["scheduler_hints"]


def test_the_other_region_gets_parameters_that_its_template_has() -> None:
    there = text_of("examples/two_regions.yaml")["resources"]["there"]["properties"]
    known = text_of("examples/attach.yaml")["parameters"]
    needed = {name for name, parameter in known.items() if "default" not in parameter}
    assert needed <= set(there["parameters"]) <= set(known)


RULES = """
extends: default
rules:
  braces: {max-spaces-inside: 0}
  document-start: disable
  line-length: {max: 120}
  comments: {min-spaces-from-content: 1}
"""
CLOUD_INIT_RULES = """
extends: default
rules:
  document-start: disable
  line-length: {max: 140}
  comments: {require-starting-space: false}
  indentation: {indent-sequences: false}
"""
"""Their first lines are headers of cloud-init's."""


@pytest.mark.parametrize(
    ("folder", "rules"), [("heat_templates", RULES), ("cloudinit", CLOUD_INIT_RULES)]
)
def test_templates_and_user_data_are_clean_yaml(folder: str, rules: str) -> None:
    files = sorted((engine.TOP / folder).rglob("*.yaml"))
    config = YamlLintConfig(rules)
    found = [
        f"{path.relative_to(engine.TOP)}: {problem}"
        for path in files
        for problem in linter.run(path.read_text(), config)
    ]
    assert files
    assert found == []
