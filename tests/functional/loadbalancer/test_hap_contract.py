# SPDX-License-Identifier: Apache-2.0
"""What every driver promises, kept by the one for HAProxy."""

import contextlib
import dataclasses
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cnsmo.model.errors import DriverError, ProgramError
from cnsmo.services.loadbalancer.desired import Bind, LoadBalancerDesired, Persistence, Timeouts
from cnsmo.services.loadbalancer.drivers import hap_process
from cnsmo.services.loadbalancer.drivers.hap_socket import HapSocket
from cnsmo.services.loadbalancer.drivers.hap_stat import read_servers
from tests.eventually import eventually
from tests.functional.loadbalancer.hap_scene import BACKEND, Scene, desired
from tests.functional.vpn.systems import Killed, Recorder, Saboteur

STEPS = 60
"""More than any apply() has."""


@pytest.fixture
def wanted(scene: Scene) -> LoadBalancerDesired:
    """In force, on two servers."""
    scene.serve(1, 2, 3)
    made = desired(*scene.servers(1, 2), persistence=Persistence.COOKIE, cookie="SRV")
    scene.settle(made)
    return made


def other(scene: Scene) -> LoadBalancerDesired:
    """Another structure with other servers."""
    servers = (scene.server(2, weight=5), scene.server(3))
    return desired(*servers, timeouts=Timeouts(client=30), drain=0.0)


# --- converge -------------------------------------------------------------------------------


def test_needs_are_met_here(scene: Scene) -> None:
    scene.driver.check()


def test_applying_twice_changes_nothing(scene: Scene, wanted: LoadBalancerDesired) -> None:
    workers, recorder = scene.workers, Recorder(scene.carrier.system)
    scene.fresh(recorder)
    assert scene.apply(wanted) == []
    assert scene.observe(wanted).drift == ()
    assert [it for it in recorder.changing if it[0] != "id"] == []
    assert scene.workers == workers


def test_changes_are_told(scene: Scene, wanted: LoadBalancerDesired) -> None:
    changes = scene.apply(other(scene))
    assert any("web1" in line and "leaves" in line for line in changes)
    assert any("web3" in line and "joined" in line for line in changes)
    assert all("\n" not in line for line in changes)


def test_a_new_agent_process_adopts_what_runs(scene: Scene, wanted: LoadBalancerDesired) -> None:
    processes = scene.carrier.processes()
    scene.fresh()
    assert scene.apply(wanted) == []
    assert scene.carrier.processes() == processes


def test_one_that_lost_its_process_id_is_found_again(
    scene: Scene, wanted: LoadBalancerDesired
) -> None:
    """It was killed between the start of haproxy and the file; keepalived looks at that."""
    file = scene.state_dir / "haproxy.pid"
    pid = file.read_text()
    file.unlink()
    processes = scene.carrier.processes()
    scene.fresh()
    assert scene.observe(wanted).drift == ("haproxy.pid is not that of what runs",)
    assert scene.apply(wanted) == ["haproxy: its process id is known again"]
    assert scene.carrier.processes() == processes
    assert file.read_text() == pid
    assert scene.apply(other(scene))
    assert scene.carrier.run(f"pgrep -F {file} -x haproxy").strip() == pid.strip()


GONE = {"the master's": ["master.sock"], "the worker's": ["stats.sock"],
        "both": ["master.sock", "stats.sock"]}  # fmt: skip


@pytest.mark.parametrize("gone", GONE)
def test_one_whose_sockets_were_deleted_serves_on_and_takes_changes(
    scene: Scene, wanted: LoadBalancerDesired, gone: str
) -> None:
    scene.sicken(1)
    eventually(lambda: scene.state(wanted, "web1") == "down")
    with scene.load() as counted:
        for name in GONE[gone]:
            (scene.state_dir / name).unlink()
        begun = time.monotonic()
        scene.fresh()
        drift = scene.observe(wanted).drift
        assert drift == (("haproxy does not answer",) if "master.sock" in GONE[gone] else ())
        assert bool(scene.apply(wanted)) is bool(drift)
        assert time.monotonic() - begun < 15
        assert scene.observe(wanted).drift == ()
        scene.settle(other(scene))
        assert set(scene.who()) == {"web2", "web3"}
    assert counted[0].lost == {}


def test_one_that_hangs_is_told_and_left_alone_while_it_serves(
    scene: Scene, wanted: LoadBalancerDesired
) -> None:
    pid = (scene.state_dir / "haproxy.pid").read_text().strip()
    scene.carrier.run(f"kill -STOP {pid}")
    try:
        with scene.load() as counted:
            with pytest.raises(DriverError, match="serves, and its master does not answer"):
                scene.apply(wanted)
        assert counted[0].lost == {}
    finally:
        for parent in scene.carrier.system._children:  # nsenter(1) stops with its child
            parent.send_signal(signal.SIGCONT)
    eventually(lambda: scene.observe(wanted).drift == (), what="it answers again")


def test_a_restart_changes_nothing(scene: Scene, wanted: LoadBalancerDesired) -> None:
    """After changes at run time and with somebody on the way out, it is as the file says."""
    drained = dataclasses.replace(scene.server(3, weight=7), drain=True)
    pool = dataclasses.replace(wanted.pools[0], servers=(scene.server(2, weight=9), drained))
    now = dataclasses.replace(wanted, pools=(pool,), drain=60.0)
    process = scene.begin("load", kept=1, fresh=0, path="/slow/10")
    eventually(lambda: any(scene.asks(1)), what="a request")
    scene.apply(now)
    before = picture(scene)
    file = scene.config
    scene.carrier.run("pkill -KILL -x haproxy")
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream
        stream.close()
    args = ("-W", "-C", str(scene.state_dir / "jail"), "-S", "unix@../master.sock,mode,600",
            "-f", "../haproxy.cfg")  # fmt: skip
    scene.carrier.system.start("haproxy", *args, log=scene.state_dir / "haproxy.log")
    eventually(lambda: picture(scene) == before, what="the same servers")
    assert scene.config == file


def picture(scene: Scene) -> Any:
    try:
        shown = scene.admin("show servers state")
    except ProgramError:
        return None
    return sorted(
        (it.name, it.ident, it.address, it.port, it.weight, it.stopped)
        for it in read_servers(shown)
    )


# --- drift ----------------------------------------------------------------------------------


def by_hand(command: str) -> Callable[[Scene], Any]:
    """What an administrator tells HAProxy; SERVER is one of the servers."""

    def tell(scene: Scene) -> None:
        name = f"web1_{scene.site.net.address('pool')}_8001"
        scene.admin(command.replace("SERVER", f"www/{name}"))

    return tell


def reload_with(scene: Scene, old: str, new: str) -> None:
    edit(scene, old, new)
    workers = scene.workers
    with contextlib.suppress(ProgramError):  # it becomes itself anew instead of an answer
        scene.admin("reload", "master.sock")
    eventually(lambda: changed(scene, workers), what="another worker")


def changed(scene: Scene, workers: tuple[int, ...]) -> bool:
    try:
        return scene.workers not in (workers, ())
    except ProgramError:
        return False


def edit(scene: Scene, old: str, new: str) -> None:
    assert old in scene.config
    (scene.state_dir / "haproxy.cfg").write_text(scene.config.replace(old, new))


DRIFTS: dict[str, Callable[[Scene], Any]] = {
    "all killed": lambda it: it.carrier.run("pkill -KILL -x haproxy"),
    "master killed": lambda it: it.carrier.run("pkill -KILL -o -x haproxy"),
    "worker killed": lambda it: it.carrier.run("pkill -KILL -n -x haproxy"),
    "ended": lambda it: it.carrier.run("pkill -TERM -o -x haproxy"),
    "file edited": lambda it: edit(it, "retries 3", "retries 4"),
    "file gone": lambda it: (it.state_dir / "haproxy.cfg").unlink(),
    "file edited and reloaded": lambda it: reload_with(it, "retries 3", "retries 4"),
    "another description": lambda it: reload_with(it, "description", "# description"),
    "weight": by_hand("set server SERVER weight 77"),
    "maintenance": by_hand("set server SERVER state maint"),
    "drain": by_hand("set server SERVER state drain"),
    "unchecked": by_hand("disable health SERVER"),
    "address": by_hand("set server SERVER addr 10.9.0.77 port 99"),
    "removed": by_hand("set server SERVER state maint; del server SERVER"),
    "added": by_hand("add server www/mine 10.9.0.77:99; set server www/mine state ready"),
    "frontend closed": by_hand("disable frontend front-0"),
    "frontend ended": by_hand("shutdown frontend front-0"),
}


@pytest.mark.parametrize("drift", sorted(DRIFTS))
def test_drift_is_seen_told_and_repaired(
    scene: Scene, wanted: LoadBalancerDesired, drift: str
) -> None:
    DRIFTS[drift](scene)
    if drift.endswith(("killed", "ended")) and "frontend" not in drift:
        eventually(lambda: not scene.carrier.processes())
    assert scene.observe(wanted).drift
    assert scene.apply(wanted)
    scene.follow(wanted)
    assert scene.apply(wanted) == []
    assert scene.observe(wanted).drift == ()
    eventually(lambda: set(scene.who(10)) == {"web1", "web2"}, what="both servers")
    assert "mine" not in scene.config + scene.admin("show servers state")


def test_what_has_settled_is_looked_at_again_within_ten_seconds(
    scene: Scene, wanted: LoadBalancerDesired
) -> None:
    """Nobody tells the agent that haproxy is dead, or that a certificate was renewed."""
    scene.follow(wanted)
    again = scene.observe(wanted).again
    assert again is not None
    assert again <= 10
    scene.carrier.run("pkill -KILL -x haproxy")
    eventually(lambda: not scene.carrier.processes())
    again = scene.observe(wanted).again
    assert again is not None
    assert again <= 10


# --- failure --------------------------------------------------------------------------------


@contextlib.contextmanager
def squatted(scene: Scene) -> Iterator[None]:
    """Another program has a port of the carrier's."""
    squatter = scene.carrier.spawn(" ".join((*BACKEND, "squatter", "8080", "/nowhere")))
    assert squatter.stdout
    assert squatter.stdout.readline().strip() == "ready"
    try:
        yield
    finally:
        scene.carrier.run("pkill -KILL -f squatter")
        squatter.communicate(timeout=10)


def test_a_port_that_is_taken_is_named_and_what_ran_goes_on(
    scene: Scene, wanted: LoadBalancerDesired
) -> None:
    file, workers = scene.config, scene.workers
    with squatted(scene):
        moved = dataclasses.replace(wanted, binds=(Bind("", 80), Bind("", 8080)))
        with scene.load() as counted:
            with pytest.raises(
                DriverError, match=r"port 8080 is taken by python\S* \(process \d+\)"
            ):
                scene.apply(moved)
        assert counted[0].lost == {}
        assert (scene.config, scene.workers) == (file, workers)
        assert scene.apply(wanted) == []
    assert scene.apply(moved)
    assert scene.ask(port=8080)["status"] == 200


@pytest.mark.parametrize("late", [False, True], ids=["before", "after it was looked at"])
def test_where_a_port_is_taken_servers_come_and_go_all_the_same(
    scene: Scene, wanted: LoadBalancerDesired, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    pool = dataclasses.replace(wanted.pools[0], servers=scene.servers(2, 3))
    moved = dataclasses.replace(wanted, binds=(Bind("", 80), Bind("", 8080)), pools=(pool,))
    if late:
        monkeypatch.setattr(hap_process, "require_free", lambda *_arguments: None)
    with squatted(scene), scene.load() as counted:
        workers = scene.workers
        for _ in range(2):  # the agent tries again and again
            with pytest.raises(DriverError, match=r"8080 is taken|already in use"):
                scene.apply(moved)
            eventually(lambda: scene.who() == {"web2": 10, "web3": 10})
        assert scene.workers == workers
        assert "web3" in scene.config
        assert "8080 " not in scene.config
    # Where the next process finds it out, the worker lets go of its ports for two seconds: HAProxy.
    assert late or counted[0].lost == {}
    scene.settle(moved)
    assert scene.apply(moved) == []
    assert scene.ask(port=8080)["status"] == 200


def test_a_reload_that_fails_leaves_what_ran(
    scene: Scene, wanted: LoadBalancerDesired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody takes the port after it was found to be free."""
    file, workers = scene.config, scene.workers
    with squatted(scene):
        monkeypatch.setattr(hap_process, "require_free", lambda *_arguments: None)
        moved = dataclasses.replace(wanted, binds=(Bind("", 80), Bind("", 8080)))
        with pytest.raises(DriverError, match="Address already in use"):
            scene.apply(moved)
        assert (scene.config, scene.workers) == (file, workers)
        scene.fresh()
        assert scene.apply(wanted) == []
        assert set(scene.who()) == {"web1", "web2"}
    assert scene.apply(moved)
    assert scene.ask(port=8080)["status"] == 200


def test_what_haproxy_refuses_never_replaces_what_runs(
    scene: Scene, wanted: LoadBalancerDesired, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, workers = scene.config, scene.workers
    render = "cnsmo.services.loadbalancer.drivers.hap_render.REMEMBERED"
    monkeypatch.setattr(render, "size lots")
    pool = dataclasses.replace(wanted.pools[0], persistence=Persistence.SOURCE)
    with pytest.raises(DriverError, match=r"haproxy refuses .*argument of 'size'"):
        scene.apply(dataclasses.replace(wanted, pools=(pool,)))
    assert (scene.config, scene.workers) == (file, workers)
    assert scene.apply(wanted) == []
    assert scene.observe(wanted).drift == ()


class Sabotage:
    """Fails what is told to HAProxy, as systems.Saboteur does with what is run."""

    def __init__(self, saboteur: Saboteur, monkeypatch: pytest.MonkeyPatch) -> None:
        ask, tell = HapSocket.ask, HapSocket.tell

        def asking(socket: HapSocket, command: str) -> str:
            if command.startswith("show"):
                return ask(socket, command)
            return self._around(command, lambda: ask(socket, command))

        def telling(socket: HapSocket, commands: Any) -> Iterator[tuple[str, str]]:
            for command in commands:
                answers = self._around(command, lambda it=command: list(tell(socket, [it])))
                yield from answers

        self._saboteur = saboteur
        monkeypatch.setattr(HapSocket, "ask", asking)
        monkeypatch.setattr(HapSocket, "tell", telling)

    def _around(self, command: str, do: Callable[[], Any]) -> Any:
        strike = self._saboteur._strikes((command,))
        if strike and not self._saboteur._after:
            raise self._saboteur._error(f"sabotaged: {command}")
        done = do()
        if strike:
            raise self._saboteur._error(f"sabotaged after: {command}")
        return done


@pytest.mark.parametrize("error", [ProgramError, Killed], ids=["fails", "killed"])
def test_failing_at_any_step_costs_nothing_and_is_made_good_later(
    scene: Scene,
    wanted: LoadBalancerDesired,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goal = other(scene)
    with scene.load(pause=0.02) as counted:
        for allowed in range(STEPS):
            saboteur = Saboteur(scene.carrier.system, allowed, error, after=bool(allowed % 2))
            with monkeypatch.context() as patch:
                Sabotage(saboteur, patch)
                try:
                    scene.fresh(saboteur).apply(goal)
                except (DriverError, Killed):
                    pass
                except ProgramError as exc:
                    pytest.fail(f"{exc!r} should have been a DriverError")
            if not saboteur.struck:
                break
            scene.fresh()
            for again in (goal, wanted)[allowed % 3 == 0 :]:
                scene.settle(again)
                assert scene.apply(again) == []
        else:
            pytest.fail("never got to the end")
    assert allowed > 10
    assert counted[0].lost == {}
    scene.fresh()
    scene.settle(goal)
    assert scene.apply(goal) == []
    assert set(scene.who()) == {"web2", "web3"}


def test_killed_at_any_step_of_the_first_apply_it_is_finished_or_removed(scene: Scene) -> None:
    scene.serve(1)
    wanted, before = desired(*scene.servers(1)), scene.carrier.picture()
    for allowed in range(STEPS):
        saboteur = Saboteur(scene.carrier.system, allowed, Killed, after=bool(allowed % 2))
        try:
            scene.fresh(saboteur).apply(wanted)
        except Killed:
            if allowed % 3 == 0:
                scene.fresh().remove()
                eventually(lambda: scene.carrier.picture() == before, what="nothing left")
        if not saboteur.struck:
            break
    else:
        pytest.fail("never got to the end")
    scene.fresh()
    scene.settle(wanted)
    assert scene.apply(wanted) == []
    assert scene.ask()["status"] == 200


# --- the end --------------------------------------------------------------------------------


def test_removing_leaves_nothing(scene: Scene) -> None:
    scene.serve(1)
    before = scene.carrier.picture()
    scene.settle(desired(*scene.servers(1), persistence=Persistence.SOURCE))
    scene.fresh().remove()
    assert scene.carrier.picture() == before
    assert not scene.state_dir.exists()
    scene.driver.remove()  # nothing left to do is fine


def test_removing_what_never_was_is_fine(scene: Scene) -> None:
    scene.driver.remove()
    assert not scene.state_dir.exists()


def test_removing_after_a_reboot_is_fine(scene: Scene, wanted: LoadBalancerDesired) -> None:
    scene.carrier.run("pkill -KILL -x haproxy")
    scene.fresh().remove()
    assert not scene.state_dir.exists()


# --- privileges and secrets -----------------------------------------------------------------


def test_workers_are_nobody_special(scene: Scene, wanted: LoadBalancerDesired) -> None:
    shown = scene.carrier.run("ps -C haproxy -o user:20=,pid=").splitlines()
    users = {int(pid): user for user, pid in (line.split() for line in shown)}
    (worker,) = scene.workers
    assert users.pop(worker) == "haproxy"
    assert list(users.values()) == ["root"]
    assert scene.carrier.run(f"readlink /proc/{worker}/root").strip().endswith("/haproxy/jail")


def test_state_is_for_root_only_whatever_the_umask(scene: Scene) -> None:
    old = os.umask(0)
    try:
        scene.serve(1)
        scene.settle(desired(*scene.servers(1), persistence=Persistence.SOURCE))
    finally:
        os.umask(old)
    for path in (scene.state_dir, *scene.state_dir.rglob("*")):
        mode = 0o711 if path.name == "jail" else 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.lstat().st_mode) == mode, path


def test_the_cookies_secret_is_told_to_nobody(
    scene: Scene, wanted: LoadBalancerDesired, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    secret = (scene.state_dir / "cookie.key").read_text().strip()
    assert len(secret) == 64
    recorder = Recorder(scene.carrier.system)
    scene.fresh(recorder)
    scene.settle(other(scene))
    scene.settle(wanted)
    seen = [" ".join(args) for args in recorder.commands] + recorder.outputs
    seen += [caplog.text, scene.log, str(scene.observe(wanted)), *scene.carrier.processes()]
    assert not any(secret in text for text in seen)
    assert (scene.state_dir / "cookie.key").read_text().strip() == secret
