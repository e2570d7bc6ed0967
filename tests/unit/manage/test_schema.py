# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import yaml

from cnsmo.core import specs
from cnsmo.lab import topology
from cnsmo.manage import errors, schema
from cnsmo.model.document import parse
from cnsmo.model.errors import CnsmoError

TOP = Path(__file__).resolve().parents[3]


def test_the_published_schema_is_that_of_the_code():
    published = (TOP / "doc" / "deployment.schema.json").read_text()
    assert published == schema.text() + "\n", (
        "run: cnsmo-manage schema > doc/deployment.schema.json"
    )


def test_keys_that_take_one_word_or_a_list_say_so():
    spec = schema.schema()["$defs"]["vpn"]["properties"]
    for key in ("cidr", "members"):
        assert {inner["type"] for inner in spec[key]["anyOf"]} == {"string", "array"}
    assert spec["routes"]["type"] == "array"


def test_every_reference_leads_somewhere():
    whole = schema.schema()

    def references(node):
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            for inner in node.values():
                yield from references(inner)
        elif isinstance(node, list):
            for inner in node:
                yield from references(inner)

    found = set(references(whole))
    assert found
    assert found <= {f"#/$defs/{name}" for name in whole["$defs"]}


def test_the_example_is_for_the_lab_of_the_demo():
    text = (TOP / "examples" / "mesh.yaml").read_text()
    found, problems = specs.validate(parse(text))
    assert not problems
    assert yaml.safe_load(text)["deployment"] == "lab"
    assert found["vpn", "backbone"]["cidr"] == ["10.66.0.0/16"]
    for vm in topology.demo().vms:
        assert vm.name in text
    groups = {group for vm in topology.demo().vms for group in vm.groups}
    assert groups >= {"web", "app"}, "the example's comments name these"


def test_exit_codes_are_documented_all():
    page = (TOP / "doc" / "cnsmo-manage.md").read_text()
    for code, meaning in errors.EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in page

    def codes(base):
        yield base.exit_code
        for sub in base.__subclasses__():
            yield from codes(sub)

    assert set(codes(CnsmoError)) <= set(errors.EXIT_CODES)
