# SPDX-License-Identifier: Apache-2.0
"""What a host finds out about itself."""

import http.server
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from cnsmo.agent import facts
from cnsmo.agent.facts import gather, host_name
from cnsmo.model.errors import InvalidRequest, ProgramError
from cnsmo.services.base import Completed

ROUTES4 = "-j -4 route show default"
ROUTES6 = "-j -6 route show default"
LINK = "-j link show dev eth0"
ADDRESSES = "-j addr show dev eth0 scope global"


def addresses(*texts: str, **flags: bool) -> list[dict[str, Any]]:
    found = [text.split("/") for text in texts]
    info = [{"local": ip, "prefixlen": int(length), **flags} for ip, length in found]
    return [{"ifname": "eth0", "addr_info": info}]


class FakeSystem:
    """Answers of ip(8)."""

    def __init__(self, answers: Mapping[str, object]) -> None:
        self.answers = {
            ROUTES4: [{"dst": "default", "gateway": "10.1.0.1", "dev": "eth0"}],
            LINK: [{"ifname": "eth0", "mtu": 1450}],
            ADDRESSES: addresses("10.1.0.5/24"),
            **answers,
        }

    def run(self, *args: str, ok: Sequence[int] = (0,), **_how: Any) -> Completed:
        assert args[0] == "ip"
        answer = self.answers.get(" ".join(args[1:]), [])
        if isinstance(answer, Exception):
            raise answer
        said = answer if isinstance(answer, str) else json.dumps(answer)
        return Completed(args, 0, said, "")


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    return tmp_path / "instance-data.json"


def found(conf: cfg.ConfigOpts, cloud: Path, **answers: object) -> Any:
    keys = {"routes4": ROUTES4, "routes6": ROUTES6, "link": LINK, "addresses": ADDRESSES}
    system: Any = FakeSystem({keys[name]: answer for name, answer in answers.items()})
    return gather(conf, system, cloud, lambda _path: None)


def test_the_interface_of_the_default_route_tells_most(conf: cfg.ConfigOpts, cloud: Path) -> None:
    made = found(conf, cloud)
    assert (made.private, made.public, made.mtu) == (("10.1.0.5/24",), (), 1450)
    assert (made.site, made.behind_nat, made.instance_id) == ("default", False, "")


def test_global_addresses_of_its_own_are_public(conf: cfg.ConfigOpts, cloud: Path) -> None:
    own = addresses("10.1.0.5/24", "203.0.114.5/24", "2a00:1450::5/64", "fd00::5/64")
    made = found(conf, cloud, addresses=own)
    assert made.public == ("203.0.114.5", "2a00:1450::5")
    assert made.private == ("10.1.0.5/24", "203.0.114.5/24", "2a00:1450::5/64")


def test_temporary_addresses_are_not_announced(conf: cfg.ConfigOpts, cloud: Path) -> None:
    for flag in ("temporary", "deprecated"):
        made = found(conf, cloud, addresses=addresses("2a00:1450::5/64", **{flag: True}))
        assert made.private == ()


def test_of_many_addresses_the_first_are_announced(conf: cfg.ConfigOpts, cloud: Path) -> None:
    own = addresses(*(f"2a00:1450::{number}/64" for number in range(1, 30)))
    made = found(conf, cloud, addresses=own)
    assert (len(made.private), len(made.public)) == (16, 4)


def test_a_host_with_ipv6_only_is_found_too(conf: cfg.ConfigOpts, cloud: Path) -> None:
    route = [{"dst": "default", "dev": "eth0"}]
    made = found(conf, cloud, routes4=[], routes6=route, addresses=addresses("2a00:1450::5/64"))
    assert made.public == ("2a00:1450::5",)


def test_the_first_of_several_next_hops_counts(conf: cfg.ConfigOpts, cloud: Path) -> None:
    hops = [{"gateway": "10.1.0.1", "dev": "eth0"}, {"gateway": "10.2.0.1", "dev": "eth1"}]
    made = found(conf, cloud, routes4=[{"dst": "default", "nexthops": hops}])
    assert made.private == ("10.1.0.5/24",)


@pytest.mark.parametrize(
    "answer", [[], "", "no JSON", ProgramError("ip is missing"), [{"dst": "default"}]]
)
def test_without_a_default_route_little_is_known(
    conf: cfg.ConfigOpts, cloud: Path, answer: object
) -> None:
    made = found(conf, cloud, routes4=answer)
    assert (made.private, made.public, made.mtu) == ((), (), 1500)


def test_the_cloud_knows_more(conf: cfg.ConfigOpts, cloud: Path) -> None:
    cloud.write_text(
        json.dumps(
            {
                "v1": {"availability_zone": "Eu_West-1a", "instance_id": "i-0abc"},
                "ds": {"meta_data": {"public-ipv4": "203.0.113.5"}},
            }
        )
    )
    made = found(conf, cloud)
    assert (made.site, made.instance_id) == ("eu-west-1a", "i-0abc")
    assert made.public == ("203.0.113.5",)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "{",
        "[]",
        "null",
        '{"v1": null, "ds": []}',
        '{"v1": {"availability_zone": 7}, "ds": {"meta_data": null}}',
        '{"v1": {"instance_id": "a b/c", "availability_zone": "../x"}}',
        '{"ds": {"meta_data": {"public-ipv4": "none"}}}',
        '{"ds": {"meta_data": {"public_ipv4": ["1.2.3.4"]}}}',
    ],
)
def test_whatever_the_cloud_writes_an_agent_starts(
    conf: cfg.ConfigOpts, cloud: Path, said: str
) -> None:
    cloud.write_text(said)
    made = found(conf, cloud)
    assert made.private == ("10.1.0.5/24",)
    assert made.public == ()
    assert made.instance_id == ""


def test_a_file_of_the_cloud_that_cannot_be_read_is_passed_over(
    conf: cfg.ConfigOpts, cloud: Path
) -> None:
    cloud.mkdir()
    assert found(conf, cloud).site == "default"


def test_the_configuration_has_the_last_word(conf: cfg.ConfigOpts, cloud: Path) -> None:
    cloud.write_text('{"v1": {"availability_zone": "zone"}}')
    conf.set_override("site", "east", "host")
    conf.set_override("private_addresses", ["10.9.0.5/24"], "host")
    conf.set_override("public_addresses", ["198.51.100.9"], "host")
    conf.set_override("behind_nat", True, "host")
    made = found(conf, cloud)
    assert (made.site, made.private, made.public) == ("east", ("10.9.0.5/24",), ("198.51.100.9",))
    assert made.behind_nat


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("site", "East Wing"),
        ("private_addresses", ["ten"]),
        ("public_addresses", ["203.0.113.0/24"]),
        ("public_addresses", ["203.0.113.1"] * 5),
    ],
)
def test_a_wrong_configuration_is_named(
    conf: cfg.ConfigOpts, cloud: Path, option: str, value: object
) -> None:
    conf.set_override(option, value, "host")
    with pytest.raises(InvalidRequest, match=r"configuration, group \[host\]: "):
        found(conf, cloud)


def test_the_name_is_the_configured_one_or_the_hosts_own(
    conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts.socket, "gethostname", lambda: "Web1.example.org")
    assert host_name(conf) == "web1"
    conf.set_override("name", "db1", "host")
    assert host_name(conf) == "db1"


@pytest.mark.parametrize("name", ["my_host", "a b", "-x", "x" * 64])
def test_a_host_name_that_no_deployment_can_use_is_refused(conf: cfg.ConfigOpts, name: str) -> None:
    conf.set_override("name", name, "host")
    with pytest.raises(InvalidRequest, match=r"configuration, \[host\] name: .* is not a name"):
        host_name(conf)


def nova(**ec2: str) -> str:
    """instance-data of OpenStack's metadata service."""
    v1 = {"instance_id": "01234567-89ab", "local_hostname": "web1.novalocal", "region": "East_1"}
    return json.dumps({"v1": v1, "ds": {"ec2_metadata": ec2, "meta_data": {}}})


def asked_of(conf: cfg.ConfigOpts, cloud: Path, now: str | None, **answers: object) -> Any:
    """Facts while the metadata service says that of the public address."""
    keys = {"routes4": ROUTES4, "everything": "-j addr show scope global"}
    system: Any = FakeSystem({keys[name]: answer for name, answer in answers.items()})
    asked: list[str] = []

    def metadata(path: str) -> str | None:
        asked.append(path)
        return now

    made = gather(conf, system, cloud, metadata)
    assert asked == ["/latest/meta-data/public-ipv4"]
    return made


def test_openstack_tells_name_site_instance_and_floating_ip(
    conf: cfg.ConfigOpts, cloud: Path
) -> None:
    cloud.write_text(nova(**{"public-ipv4": "203.0.113.5", "local-ipv4": "10.1.0.5"}))
    made = asked_of(conf, cloud, None)
    assert (made.site, made.instance_id) == ("east-1", "01234567-89ab")
    assert made.public == ("203.0.113.5",)
    assert host_name(conf, cloud) == "web1"


def test_a_floating_ip_that_comes_goes_or_changes_later_is_noticed(
    conf: cfg.ConfigOpts, cloud: Path
) -> None:
    cloud.write_text(nova(**{"public-ipv4": ""}))
    assert asked_of(conf, cloud, "").public == ()
    assert asked_of(conf, cloud, "203.0.113.9").public == ("203.0.113.9",)
    cloud.write_text(nova(**{"public-ipv4": "203.0.113.5"}))
    assert asked_of(conf, cloud, "203.0.113.9").public == ("203.0.113.9",)
    assert asked_of(conf, cloud, "").public == ()
    assert asked_of(conf, cloud, "nonsense").public == ()


def test_other_clouds_are_not_asked(conf: cfg.ConfigOpts, cloud: Path) -> None:
    cloud.write_text('{"v1": {}, "ds": {"meta_data": {"public-ipv4": "203.0.113.5"}}}')
    asked: list[str] = []
    system: Any = FakeSystem({})
    gather(conf, system, cloud, lambda path: asked.append(path) or None)
    assert asked == []


def test_without_a_default_route_the_cloud_says_which_address_is_its_own(
    conf: cfg.ConfigOpts, cloud: Path
) -> None:
    cloud.write_text(nova(**{"local-ipv4": "10.1.0.5"}))
    everything = [{"ifname": "docker0", "addr_info": [{"local": "172.17.0.1", "prefixlen": 16}]}]
    everything += addresses("10.1.0.5/24")
    made = asked_of(conf, cloud, None, routes4=[], everything=everything)
    assert made.private == ("10.1.0.5/24",)


@pytest.mark.parametrize(
    ("status", "said", "heard"),
    [(200, b"203.0.113.5\n", "203.0.113.5"), (404, b"", ""), (500, b"x", None)],
)
def test_the_metadata_service_is_asked_over_http(
    monkeypatch: pytest.MonkeyPatch, status: int, said: bytes, heard: str | None
) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # as the library asks
            self.send_response(status)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_args: Any) -> None:
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        monkeypatch.setattr(facts, "METADATA", f"127.0.0.1:{server.server_port}")
        assert facts.ask_metadata("/latest/meta-data/public-ipv4") == heard
        thread.join(10)
    assert facts.ask_metadata("/") is None, "nobody answers there any more"
