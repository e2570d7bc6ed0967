# SPDX-License-Identifier: Apache-2.0
"""User-data, as real cloud-init reads it: with metadata by Heat, and rendered for other clouds."""

import base64
import email
import gzip
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.boot import first, render
from cnsmo.boot.parameters import ROLES, AgentParameters, CoreParameters
from cnsmo.model.errors import InvalidRequest, NotFound
from tests.beds.cloud_init import CloudInit
from tests.unit.boot.combinations import JOIN, every, metadata

EVERY = list(every())
FIRST = Path(first.__file__).read_text()
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80) | st.sampled_from(
    [
        '"}',
        "\n",
        "\n  x: 1",
        "{% endraw %}",
        "{{ 1 }}",
        "'",
        "\\",
        "\u2028",
        "\x85",
        "#",
        "- a",
        "]]>",
    ]
)


def boot_json(config: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    """The parameters that reach the VM."""
    found: dict[str, str] = json.loads(config["write_files"][0]["content"])
    return found


@pytest.mark.parametrize("parameters", EVERY, ids=lambda it: it.role)
def test_the_files_of_heat_are_right_for_cloud_init(
    parameters: AgentParameters | CoreParameters, cloud_init: CloudInit
) -> None:
    values = parameters.model_dump()
    seen = cloud_init.read(render.template(parameters.role), metadata(values))
    assert (seen["problems"], seen["warnings"]) == ([], [])
    assert boot_json(seen["config"]) == values
    assert seen["config"]["write_files"][1]["content"] == FIRST


@pytest.mark.parametrize("parameters", EVERY, ids=lambda it: it.role)
def test_rendered_user_data_is_the_same_without_a_cloud(
    parameters: AgentParameters | CoreParameters, cloud_init: CloudInit
) -> None:
    text = render.render(parameters)
    seen = cloud_init.read(text)
    assert (seen["problems"], seen["warnings"]) == ([], [])
    by_heat = cloud_init.read(render.template(parameters.role), metadata(parameters.model_dump()))
    assert seen["config"] == by_heat["config"]


def test_the_check_sees_what_is_wrong(cloud_init: CloudInit) -> None:
    text = "#cloud-config\nwrite_files:\n- path: /a\n  permission: 0600\n"
    assert cloud_init.read(text)["problems"] != []


@pytest.mark.parametrize("role", ROLES)
def test_a_vm_without_metadata_says_so_itself(role: str, cloud_init: CloudInit) -> None:
    seen = cloud_init.read(render.template(role))
    assert (seen["problems"], seen["warnings"]) == ([], [])
    assert set(boot_json(seen["config"]).values()) == {role, ""}


@pytest.mark.parametrize("role", ROLES)
def test_every_parameter_has_its_place_in_the_file(role: str) -> None:
    config = yaml.safe_load(render.fill(render.template(role), {}))
    assert set(boot_json(config)) == set(ROLES[role].model_fields)


@pytest.mark.parametrize("role", ROLES)
def test_files_say_whose_they_are_and_secrets_are_roots_alone(role: str) -> None:
    config = yaml.safe_load(render.fill(render.template(role), {}))
    assert list(config) == ["write_files"]
    for file in config["write_files"]:
        assert file["owner"] == "root:root"
        assert file["permissions"] in ("0600", "0700")


@given(st.data())
def test_no_value_of_metadata_adds_anything_to_the_user_data(data: st.DataObject) -> None:
    role = data.draw(st.sampled_from(sorted(ROLES)))
    names = st.sampled_from(sorted(set(ROLES[role].model_fields) - {"role"}))
    values = data.draw(st.dictionaries(names, texts, max_size=5))
    config = yaml.safe_load(render.fill(render.template(role), values))
    plain = yaml.safe_load(render.fill(render.template(role), {}))
    assert boot_json(config) == boot_json(plain) | values
    config["write_files"][0].pop("content"), plain["write_files"][0].pop("content")
    assert config == plain


def test_cloud_init_too_keeps_values_where_they_belong(cloud_init: CloudInit) -> None:
    nasty = [
        '"}',
        "a\n  x: 1",
        "{% endraw %}{{ 1 }}",
        "\u2028\x85'\\",
        "${a}",
        "\N{SNOWMAN}\r\n- b",
    ]
    for value in nasty:
        seen = cloud_init.read(render.template("agent"), metadata(JOIN | {"name": value}))
        assert boot_json(seen["config"])["name"] == value
        assert seen["config"]["write_files"][1]["content"] == FIRST


def test_what_is_wrong_is_refused_where_it_is_rendered_too() -> None:
    fine = AgentParameters(**JOIN)
    forged = fine.model_copy(update={"name": "a\nb"})
    with pytest.raises(ValueError, match="is not a name"):
        render.render(forged)


def test_several_parts_make_a_message_that_is_taken_apart_again() -> None:
    text = render.render(CoreParameters())
    whole = email.message_from_string(render.multipart(text, ["#!/bin/sh\necho hello\n"]))
    parts = [part for part in whole.walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in parts] == [
        "text/cloud-config",
        "text/x-shellscript",
    ]
    assert parts[0].get_payload(decode=True) == text.encode()
    with pytest.raises(InvalidRequest, match="part 1: its first line"):
        render.multipart(text, ["hello"])


def test_what_is_too_large_for_nova_is_refused_and_compression_helps() -> None:
    text = render.multipart(render.render(CoreParameters()), ["#!/bin/sh\n" + "# long\n" * 7000])
    with pytest.raises(InvalidRequest, match="clouds take 65,535: try --gzip"):
        render.packed(text, compress=False)
    small = render.packed(text, compress=True)
    assert gzip.decompress(small).decode() == text
    assert len(base64.b64encode(small)) <= render.MAX_BYTES


def test_every_user_data_leaves_half_of_novas_room() -> None:
    sizes = [len(base64.b64encode(render.render(it).encode())) for it in EVERY]
    assert max(sizes) < render.MAX_BYTES / 2


def test_a_missing_template_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(render.cnsmo, "__file__", str(tmp_path / "cnsmo" / "__init__.py"))
    monkeypatch.setattr(render.sysconfig, "get_path", lambda _name: str(tmp_path))
    with pytest.raises(NotFound, match=r"agent\.yaml is not in"):
        render.template("agent")
    installed = tmp_path / "share" / "cnsmo" / "cloudinit"
    installed.mkdir(parents=True)
    (installed / "agent.yaml").write_text("installed")
    assert render.template("agent") == "installed"
