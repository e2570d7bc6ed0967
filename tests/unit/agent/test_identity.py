# SPDX-License-Identifier: Apache-2.0
"""The agent's directory: who it is, and that it is alone."""

import threading
from pathlib import Path

import pytest

from cnsmo.agent.identity import HostIdentity, StateDir
from cnsmo.model.errors import Conflict, InvalidRequest
from cnsmo.model.messages import Certified
from cnsmo.trust import keys

CERTIFIED = Certified(certificate="c", authorities="a", life=60)
WHO = HostIdentity(id="h-1", secret="s" * 43, deployment="shop", host="web1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "agent"


@pytest.fixture
def state(folder: Path) -> StateDir:
    made = StateDir(folder, "all")
    made.open()
    yield made
    made.close()


@pytest.mark.parametrize("role", ["all", "vpn"])
def test_a_second_process_with_the_same_work_is_refused(
    state: StateDir, folder: Path, role: str
) -> None:
    second = StateDir(folder, role)
    with pytest.raises(Conflict) as caught:
        second.open()
    assert str(caught.value) == (
        f"another cnsmo-agent works in {folder}, and has the role {role!r} or a part of it: stop "
        "it first, or give this one a directory of its own ([agent] state_dir)"
    )
    state.close()
    second.open()
    second.close()
    state.open()


def test_processes_of_different_services_share_a_directory(folder: Path) -> None:
    vpn, firewall, everything = (StateDir(folder, role) for role in ("vpn", "firewall", "all"))
    vpn.open()
    firewall.open()
    assert vpn.replica() != firewall.replica()
    with pytest.raises(Conflict):
        everything.open()
    vpn.close()
    firewall.close()
    everything.open()
    everything.close()


def test_everything_is_for_its_owner_only(state: StateDir, folder: Path) -> None:
    state.nonce()
    state.key()
    state.keep(WHO, CERTIFIED)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_directory_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    state = StateDir(tmp_path, "all")
    state.open()
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    state.close()


def test_an_identity_is_kept(state: StateDir) -> None:
    assert state.identity() is None
    state.keep(WHO, CERTIFIED)
    assert state.identity() == WHO


def test_all_processes_of_a_host_join_with_one_nonce(state: StateDir, folder: Path) -> None:
    nonce = state.nonce()
    assert len(nonce) >= 32
    assert StateDir(folder, "vpn").nonce() == nonce, "another try, another process"
    state.keep(WHO, CERTIFIED)
    assert StateDir(folder, "firewall").nonce() == nonce, "it may be joining still"
    assert [path.name for path in folder.glob("join.nonce*")] == ["join.nonce"]


def test_the_key_is_made_once_for_all_processes_of_a_host(state: StateDir, folder: Path) -> None:
    key = keys.load_key(state.key())
    assert keys.load_key(StateDir(folder, "vpn").key()).public_key() == key.public_key()


def test_processes_that_start_together_agree_on_the_nonce(folder: Path) -> None:
    folder.mkdir()
    found: list[str] = []
    meeting = threading.Barrier(4)

    def ask(role: str) -> None:
        meeting.wait(10)
        found.append(StateDir(folder, role).nonce())

    asking = [threading.Thread(target=ask, args=[role]) for role in "abcd"]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


@pytest.mark.parametrize("damaged", [b"", b"{}", b"{", b"\xff\xfe", b"7"])
def test_a_damaged_identity_says_what_to_do(state: StateDir, folder: Path, damaged: bytes) -> None:
    (folder / "identity.json").write_bytes(damaged)
    with pytest.raises(InvalidRequest, match=r"identity\.json is damaged: restore it from a back"):
        state.identity()


def test_forgetting_leaves_no_secret_behind(state: StateDir, folder: Path) -> None:
    state.nonce()
    state.keep(WHO, CERTIFIED)
    state.nonce()
    state.key()
    state.replica().write_text("x")
    state.replica().with_suffix(".damaged").write_text("x")
    state.forget()
    assert sorted(path.name for path in folder.iterdir()) == ["agents.lock", "all.lock"]
    state.forget()


def test_units_are_found_with_the_driver_that_made_them(state: StateDir) -> None:
    assert state.units("vpn") == []
    for unit, driver in (("b", "noop"), ("a", "wireguard"), ("a", "noop")):
        state.unit("vpn", unit, driver).mkdir(parents=True)
    state.unit("firewall", "x", "nftables").mkdir(parents=True)
    (state.path / "units" / "vpn" / "a" / "file").write_text("no unit")
    assert state.units("vpn") == [("a", "noop"), ("a", "wireguard"), ("b", "noop")]
    assert state.services() == ["firewall", "vpn"]


def test_only_who_has_the_directory_alone_knows_of_strays(state: StateDir, folder: Path) -> None:
    state.unit("vpn", "a", "noop").mkdir(parents=True)
    state.unit("firewall", "x", "nftables").mkdir(parents=True)
    assert state.strays(["vpn"]) == ["firewall"]
    assert StateDir(folder, "vpn").strays(["vpn"]) == []
