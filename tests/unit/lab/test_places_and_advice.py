# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path

import pytest

from cnsmo.lab import claim, place, record, requirements, rootless
from cnsmo.lab.errors import LabError, LabUnavailable
from cnsmo.lab.process import Process
from cnsmo.model.errors import Conflict, InvalidRequest


@pytest.mark.parametrize("name", ["", "a-b", "1a", "A", "a.b", "a b", "x" * 16, "é"])
def test_lab_names_are_plain_and_short(name):
    with pytest.raises(InvalidRequest, match="no name for a lab"):
        place.check(Path("/tmp") / name / "" if name else Path("/"))


def test_lab_whose_disks_vms_could_not_see_is_refused():
    with pytest.raises(InvalidRequest, match="outside /run"):
        place.check(Path("/var/run/demo"))


def test_root_and_others_have_their_usual_places(monkeypatch):
    monkeypatch.delenv(rootless.KEEPER, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert place.default_directory("demo") == Path("/var/lib/cnsmo-lab/demo")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/me/.st")
    monkeypatch.setenv(rootless.KEEPER, "7:8:boot")  # root, but of a user namespace only
    assert place.default_directory("demo") == Path("/home/me/.st/cnsmo/lab/demo")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.delenv(rootless.KEEPER)
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert place.base() == Path("/home/me/.local/state/cnsmo/lab")


def test_name_belongs_to_one_directory_until_it_is_released(monkeypatch, tmp_path):
    monkeypatch.setattr(claim, "CLAIMS", tmp_path / "claims")
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    record.write(one / claim.STATE, {})
    claim.claim("demo", one)
    claim.claim("demo", one)
    with pytest.raises(Conflict, match=f"is up already, in {re.escape(str(one))}"):
        claim.claim("demo", other)
    claim.release("demo", other)
    assert claim.claims() == {"demo": one}
    claim.release("demo", one)
    assert not claim.CLAIMS.exists()


def test_name_of_a_lab_whose_directory_was_deleted_is_free(monkeypatch, tmp_path):
    monkeypatch.setattr(claim, "CLAIMS", tmp_path / "claims")
    claim.claim("demo", tmp_path / "deleted")
    claim.claim("demo", tmp_path / "new")
    assert claim.owner("demo") == tmp_path / "new"


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_damaged_record_is_named(tmp_path, text):
    (tmp_path / "lab.json").write_text(text)
    with pytest.raises(LabError, match=r"lab\.json"):
        record.read(tmp_path / "lab.json")


def test_missing_capabilities_are_named(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapEff:\t0000000000200000\n")
    with pytest.raises(LabUnavailable, match=r"no CAP_NET_ADMIN: run it as root"):
        requirements.check(status)


def test_missing_programs_are_named_by_their_package(monkeypatch):
    monkeypatch.setattr(
        "cnsmo.agent.system.LocalSystem.has",
        lambda self, program: program not in ("nft", "unshare", "nsenter"),
    )
    assert requirements.missing_programs() == [
        "nft missing: sudo apt install nftables",
        "nsenter and unshare missing: sudo apt install util-linux",
    ]


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=10000"),
    ],
)
def test_machine_that_denies_user_namespaces_gets_its_remedy(tmp_path, setting, value, remedy):
    file = tmp_path / setting
    file.parent.mkdir()
    file.write_text(f"{value}\n")
    assert remedy in rootless.namespace_advice("unshare failed: EPERM", tmp_path)


def test_denied_for_an_unknown_reason_says_what_unshare_said(tmp_path):
    assert "(EPERM)" in rootless.namespace_advice("EPERM", tmp_path)


def test_missing_tun_device_gets_its_remedy(tmp_path):
    (advice,) = rootless.tun_advice(tmp_path / "tun")
    assert "sudo modprobe tun" in advice


def test_usable_tun_device_needs_no_advice():
    assert rootless.tun_advice(Path("/dev/null")) == []


def test_keeper_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv(rootless.KEEPER, "7:8:boot")
    assert rootless.keeper() == Process(7, 8, "boot")


def test_process_that_keeps_nothing_cannot_be_entered():
    with pytest.raises(LabError, match="keeps no lab"):
        rootless.enter_existing(2**22 + 1)
