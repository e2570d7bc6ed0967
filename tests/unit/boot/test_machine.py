# SPDX-License-Identifier: Apache-2.0
"""What cnsmo-boot does to a machine: files, units, and waiting; on a machine that pretends."""

import base64
import configparser
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.agent.notice import Notice
from cnsmo.boot import agent, broker, core, farewell, volume
from cnsmo.boot.machine import BOOT_CONF, Machine
from cnsmo.boot.parameters import AgentParameters, CoreParameters
from cnsmo.cmd.boot import parameters
from cnsmo.files import KEEP
from cnsmo.model.errors import CnsmoError, Denied, InvalidRequest, ProgramError, Unavailable
from cnsmo.model.lifecycle import State
from tests.unit.boot.combinations import JOIN
from tests.unit.boot.pretend import Answer, PretendSystem


def config_of(machine: Machine) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(machine.path(BOOT_CONF))
    return {name: dict(parser[name]) for name in parser.sections()}


def notice(machine: Machine) -> Notice:
    return Notice(machine.path(agent.AGENT_DIR) / "notice-all.json")


def ready(machine: Machine, services: Sequence[str]) -> Callable[[], str]:
    """The agent starts, and is ready."""

    def begin() -> str:
        told = notice(machine)
        told.begin(services)
        for name in services:
            told.service(name, State.READY, "")
        return ""

    return begin


def test_a_vm_becomes_a_host(machine: Machine, system: PretendSystem) -> None:
    system.answers["systemctl enable"] = ready(machine, ["vpn", "firewall"])
    given_ = AgentParameters(
        **JOIN, services="vpn/openvpn,firewall", site="east", leave="shutdown", public="203.0.113.5"
    )
    assert agent.boot(given_, machine) == {}
    assert config_of(machine) == {
        "agent": {
            "join_url": JOIN["core"],
            "ca_fingerprint": JOIN["ca"],
            "services": "vpn,firewall",
        },
        "host": {"site": "east", "public_addresses": "203.0.113.5", "ephemeral": "true"},
    }
    units = "cnsmo-agent.service cnsmo-firewall.service cnsmo-leave.service"
    assert f"systemctl enable --now {units}" in system.ran
    token = machine.path(Path("/etc/cnsmo/join.token"))
    assert (token.read_text(), token.stat().st_mode & 0o777) == (JOIN["token"], 0o600)
    assert not [line for line in system.ran if JOIN["token"] in line]


def test_what_waiting_does_not_mend_is_a_failure_at_once(
    machine: Machine, system: PretendSystem
) -> None:
    def refused() -> str:
        told = notice(machine)
        told.begin(["vpn"])
        told.trouble(Denied("the join token is not valid (any more)"))
        return ""

    system.answers["systemctl enable"] = refused
    with pytest.raises(CnsmoError, match="the join token is not valid"):
        agent.boot(AgentParameters(**JOIN, services="vpn"), machine)


def test_what_waiting_may_mend_is_waited_for(machine: Machine, tmp_path: Path) -> None:
    told = notice(machine)
    told.begin(["vpn"])
    told.trouble(Unavailable("no core answers"))
    patience = threading.Timer(0.1, ready(machine, ["vpn"]))
    patience.start()
    agent.wait_ready(told.path, machine, 30.0)
    patience.join()


@pytest.mark.parametrize(
    ("say", "reason"),
    [
        (lambda it: it.trouble(Unavailable("no core answers at X")), "no core answers at X"),
        (lambda it: it.service("vpn", State.ERROR, "no wg"), "vpn is error: no wg"),
        (lambda it: None, "has not reported yet"),
    ],
)
def test_who_is_not_ready_in_time_says_why(
    machine: Machine, say: Callable[[Notice], None], reason: str
) -> None:
    told = notice(machine)
    told.begin(["vpn"])
    say(told)
    with pytest.raises(Unavailable, match=f"not ready after 0 s: .*{reason}"):
        agent.wait_ready(told.path, machine, 0.0)


def test_an_agent_that_cannot_even_start_is_quoted(machine: Machine, system: PretendSystem) -> None:
    system.answers["journalctl"] = "cnsmo-agent: configuration: service 'vnp' is not installed\n"
    with pytest.raises(Unavailable, match=r"its agent has not started: .*'vnp' is not"):
        agent.wait_ready(notice(machine).path, machine, 0.0)


values = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(values)
def test_no_value_says_more_in_the_configuration_than_itself(
    tmp_path_factory: pytest.TempPathFactory, value: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnsmo.boot.machine.ids", lambda _who: KEEP)
        pretend: Any = PretendSystem()
        machine = Machine(pretend, Path("/opt/cnsmo"), tmp_path_factory.mktemp("root"))
        try:
            machine.configure({"host": {"name": value, "site": "east"}})
        except InvalidRequest:
            return
        lines = machine.path(BOOT_CONF).read_text().splitlines()
        assert len(lines) == 5
        assert config_of(machine) == {"host": {"name": value.strip(), "site": "east"}}


FAMILY = {"agent": AgentParameters, "core": CoreParameters}


@given(st.sampled_from(sorted(FAMILY)), st.data())
def test_what_a_vm_takes_it_can_write_into_its_configuration(
    role: str, data: st.DataObject
) -> None:
    names = sorted(set(FAMILY[role].model_fields) - {"role"})
    wrong = data.draw(st.dictionaries(st.sampled_from(names), values, min_size=1, max_size=3))
    given_ = {**(JOIN if role == "agent" else {}), **wrong, "role": role}
    try:
        made = parameters(json.dumps(given_))
    except InvalidRequest:
        return
    for text in made.model_dump().values():
        assert text.isascii()
        assert text.isprintable()
        assert "$" not in text
        assert not text.startswith("-")


def test_what_is_wrong_with_a_token_is_said_without_it() -> None:
    with pytest.raises(InvalidRequest, match="token: a join token is expected") as told:
        parameters(json.dumps({**JOIN, "token": "se cret", "role": "agent"}))
    assert "cret" not in str(told.value)


def test_a_role_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="cnsmo_role is none of agent, core"):
        parameters('{"role": "king"}')


@pytest.fixture
def listed(machine: Machine, system: PretendSystem) -> Mapping[str, Answer]:
    manage = "runuser -u cnsmo -- /opt/cnsmo/bin/cnsmo-manage"
    system.answers = {
        f"{manage} deployment list": "[]",
        f"{manage} token create": "t-1.secret\n",
        "ip -j -4 route": '[{"dst": "default", "dev": "ens3"}]',
        "ip -j addr": '[{"addr_info": [{"local": "10.1.0.4"}]}]',
        "rabbitmqctl -q list_users": "guest\t[administrator]\n",
    }
    return system.answers


def test_a_vm_becomes_a_core(
    machine: Machine, system: PretendSystem, listed: Mapping[str, Answer]
) -> None:
    told = core.boot(CoreParameters(deployment="shop", groups="web=2,edge=1"), machine)
    assert told["core"] == "https://10.1.0.4:8743"
    assert told["tokens"] == {"web": "t-1.secret", "edge": "t-1.secret"}
    bus = config_of(machine)["bus"]
    assert bus["agents_url"] == "rabbit://10.1.0.4:5671/cnsmo-agents?ssl=true"
    secret = machine.path(broker.CORE_DIR / "broker.password").read_text()
    assert not [line for line in system.ran if secret in line], "arguments can be read by everybody"
    for path in (broker.TLS / "broker.key", broker.DEFINITIONS):
        assert machine.path(path).stat().st_mode & 0o777 == 0o600


def test_the_brokers_account_is_the_cores_alone(
    machine: Machine, system: PretendSystem, listed: Mapping[str, Answer]
) -> None:
    core.boot(CoreParameters(), machine)
    secret = machine.path(broker.CORE_DIR / "broker.password").read_text()
    (account,) = json.loads(machine.path(broker.DEFINITIONS).read_text())["users"]
    stored = base64.b64decode(account["password_hash"])
    assert stored[4:] == hashlib.sha256(stored[:4] + secret.encode()).digest()
    assert not [line for line in system.ran if line.startswith("rabbitmqctl")]
    (machine.path(broker.DATA) / "rabbit@core").mkdir(parents=True)
    core.boot(CoreParameters(), machine)
    assert "rabbitmqctl delete_user guest" in system.ran, "it ran before it was configured"


def test_a_core_that_boots_again_keeps_what_it_is(
    machine: Machine, system: PretendSystem, listed: dict[str, Answer]
) -> None:
    given_ = CoreParameters(deployment="shop", address="2001:db8::1")
    first = core.boot(given_, machine)
    assert first["core"] == "https://[2001:db8::1]:8743"
    system.answers["runuser -u cnsmo -- /opt/cnsmo/bin/cnsmo-manage deployment list"] = (
        '[{"name": "shop"}]'
    )
    system.ran.clear()
    assert core.boot(given_, machine) == first
    assert not [line for line in system.ran if "create" in line or " add_" in line]


def test_a_document_that_came_along_is_applied(
    machine: Machine, system: PretendSystem, listed: Mapping[str, Answer]
) -> None:
    machine.write(core.DOCUMENT, "deployment: shop\n")
    core.boot(CoreParameters(deployment="shop"), machine)
    assert [line for line in system.ran if line.endswith("apply /etc/cnsmo/document.yaml")]


def test_a_core_without_an_address_says_so(machine: Machine, system: PretendSystem) -> None:
    with pytest.raises(Unavailable, match="say with cnsmo_address"):
        core.own_address(machine)


def test_a_core_that_does_not_answer_says_what_it_said(
    machine: Machine, system: PretendSystem, listed: dict[str, Answer]
) -> None:
    manage = "runuser -u cnsmo -- /opt/cnsmo/bin/cnsmo-manage"
    listed[f"{manage} deployment list"] = ProgramError("no core is there")
    with pytest.raises(Unavailable, match="does not answer after 1 s: no core is there"):
        core.boot(CoreParameters(wait="1"), machine)


def test_the_brokers_certificate_is_renewed_while_it_runs(
    machine: Machine, system: PretendSystem, listed: Mapping[str, Answer]
) -> None:
    core.boot(CoreParameters(), machine)
    before = machine.path(broker.TLS / "broker.pem").read_text()
    assert broker.renew(machine) == 0
    assert machine.path(broker.TLS / "broker.pem").read_text() != before
    assert system.ran[-1] == "rabbitmqctl eval ssl:clear_pem_cache()."


VOLUME = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.mark.parametrize(
    "name", ["virtio-01234567-89ab-cdef-0", f"scsi-0QEMU_QEMU_HARDDISK_{VOLUME}"]
)
def test_a_volume_is_found_by_its_id_and_formatted_when_it_is_empty(
    machine: Machine, system: PretendSystem, name: str
) -> None:
    device = machine.path(volume.BY_ID / name)
    device.parent.mkdir(parents=True)
    device.touch()
    machine.path(volume.FSTAB).parent.mkdir(parents=True)
    found = iter(["", "DEVNAME=x\nUUID=ab-12\nTYPE=ext4\n", "DEVNAME=x\nUUID=ab-12\nTYPE=ext4\n"])
    system.answers = {
        "blkid": lambda: next(found),
        "systemd-escape": "var-lib-cnsmo.mount\n",
    }
    volume.mount(VOLUME, machine)
    assert [line for line in system.ran if line.startswith("mkfs.ext4")]
    assert system.ran[-1] == "systemctl start var-lib-cnsmo.mount"
    system.ran.clear()
    volume.mount(VOLUME, machine)
    assert not [line for line in system.ran if line.startswith("mkfs")], "its state is kept"
    fstab = machine.path(volume.FSTAB).read_text()
    assert fstab.count("UUID=ab-12 /var/lib/cnsmo ext4") == 1


def test_a_volume_that_holds_something_else_is_left_alone(
    machine: Machine, system: PretendSystem
) -> None:
    machine.path(Path("/dev/vdb")).parent.mkdir()
    machine.path(Path("/dev/vdb")).touch()
    system.answers["blkid"] = "DEVNAME=/dev/vdb\nTYPE=LVM2_member\n"
    with pytest.raises(ProgramError, match="holds something else"):
        volume.mount("/dev/vdb", machine)
    assert not [line for line in system.ran if line.startswith("mkfs")]


def test_a_volume_that_is_not_attached_is_named(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume, "PATIENCE", 0.0)
    with pytest.raises(Unavailable, match=f"the volume {VOLUME} is not attached"):
        volume.mount(VOLUME, machine)


@pytest.mark.parametrize(
    ("jobs", "leaves"),
    [
        ("1 poweroff.target start waiting\n", True),
        ("1 halt.target start running\n", True),
        ("1 reboot.target start waiting\n", False),
        ("2 cnsmo-leave.service stop running\n", False),
        ("", False),
    ],
)
def test_only_who_is_shut_down_for_good_leaves(
    machine: Machine, system: PretendSystem, jobs: str, leaves: bool
) -> None:
    system.answers["systemctl list-jobs"] = jobs
    assert farewell.say_it(machine) == 0
    assert bool([line for line in system.ran if line.endswith("--leave")]) is leaves


def test_files_are_their_owners_alone_from_the_first_byte(machine: Machine) -> None:
    before = os.umask(0)
    try:
        machine.write(Path("/etc/cnsmo/x"), "secret")
    finally:
        os.umask(before)
    assert machine.path(Path("/etc/cnsmo/x")).stat().st_mode & 0o777 == 0o600
    assert machine.path(Path("/etc/cnsmo")).stat().st_mode & 0o777 == 0o755
