# SPDX-License-Identifier: Apache-2.0
"""Labs for real: namespaces, routers, NAT, faults; and that nothing of them is ever left."""

import contextlib
import dataclasses
import json
import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cnsmo.lab import boot, claim, record, topology
from cnsmo.lab.errors import LabError
from cnsmo.lab.lab import Lab, labs
from cnsmo.lab.network import NETNS
from cnsmo.lab.process import Process
from cnsmo.lab.topology import Topology, VmSpec
from cnsmo.model.errors import Conflict, NotFound, ProgramError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ROOT = Path(__file__).parents[2]
SMALL = Topology((VmSpec("a", "x"), VmSpec("b", "y"), VmSpec("n", "y", nat=True)), ("x", "y"))


def new_lab(where: Path) -> Lab:
    return Lab(where / f"t{secrets.token_hex(4)}")


@pytest.fixture
def lab(tmp_path):
    lab = new_lab(tmp_path)
    yield lab
    lab.down()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    lab = new_lab(tmp_path_factory.mktemp("demo"))
    lab.up(dataclasses.replace(topology.demo(), core=True))
    yield lab
    lab.down()


def reaches(vm, address) -> bool:
    """Whether an answer comes within some seconds, on a busy machine too."""
    ping = ("ping", "-q", "-c", "1", "-i", "0.2", "-w", "5", str(address))
    return vm.system().run(*ping, ok=(0, 1, 2)).code == 0


def is_deaf_to(vm, address) -> bool:
    """Whether no answer comes in the time that an answer takes."""
    ping = ("ping", "-q", "-c", "1", "-W", "0.4", str(address))
    return vm.system().run(*ping, ok=(0, 1, 2)).code != 0


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", textwrap.dedent(code))


def leftovers(lab: Lab, init_pids=()) -> list[str]:
    """What there still is of a lab, as far as it can be told on a machine that others use too."""
    found = [name for name in os.listdir(NETNS) if name.startswith(f"{lab.name}-")]
    found += [str(path) for path in (lab.directory, claim.CLAIMS / lab.name) if path.exists()]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines()
              if f"{lab.name}-" in line or str(lab.directory) in line]  # fmt: skip
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if str(lab.directory).encode() in Path(f"/proc/{entry}/cmdline").read_bytes():
                found.append(f"process {entry}")
    return found + [f"init {pid}" for pid in init_pids if Path(f"/proc/{pid}").exists()]


def inside(vm) -> list[int]:
    """All processes in a VM's network, by their numbers outside."""
    inode, found = (NETNS / vm.namespace).stat().st_ino, []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}/ns/net").st_ino == inode:
                found.append(int(pid))
    return found


def test_demo_vms_reach_all_that_can_be_called(demo):
    for vm in demo.vms():
        for other in demo.vms():
            hidden = other.seat.spec.nat and vm.name != other.name
            right = is_deaf_to if hidden else reaches
            assert right(vm, other.seat.address.ip), f"{vm.name} -> {other.name}"


def test_vm_behind_nat_is_seen_under_the_address_of_its_nat_box(demo):
    server = """
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("", 9000))
        while True:
            who = s.recvfrom(9)[1]
            s.sendto(who[0].encode(), who)
    """
    client = """
        import socket, sys
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(0.1)
        s.connect((sys.argv[1], 9000))
        for _ in range(50):
            try:
                s.send(b"?")
                print(s.recv(99).decode())
                break
            except OSError:
                pass
    """
    web1, app3 = demo.vm("web1"), demo.vm("app3")
    system = web1.system()
    pid = system.start(*python(server), log=web1.disk / "server.log")
    seen = app3.system().run(*python(client), str(web1.seat.address.ip)).stdout.strip()
    system.stop(pid, sys.executable)
    assert seen == str(app3.seat.outer.ip) == "198.18.2.13"


def test_nat_lets_nobody_in_who_knows_the_way(demo):
    app1, app3 = demo.vm("app1"), demo.vm("app3")
    way = ("192.168.77.0/24", "via", str(app3.seat.outer.ip))
    app1.system().run("ip", "route", "add", *way)
    assert is_deaf_to(app1, app3.seat.address.ip)
    app1.system().run("ip", "route", "del", *way)


def test_core_is_reached_from_everywhere_and_reaches_the_routed(demo):
    assert all(reaches(vm, topology.core_address().ip) for vm in demo.vms())
    demo.core().run("ping", "-q", "-c", "1", str(demo.vm("app1").seat.address.ip))


def test_lab_without_core_says_so(lab):
    lab.up(SMALL)
    with pytest.raises(NotFound, match="no site 'core'"):
        lab.core()


def test_vm_is_a_machine_of_its_own(demo):
    vm = demo.vm("web1")
    said = vm.system().run(
        "sh",
        "-c",
        "hostname; ls /sys/class/net; ls -A /run; stat -c %a /run/wireguard; ps -e -o comm=",
    )
    assert said.stdout.split() == (
        ["web1", "eth0", "lo", "lock", "wireguard", "700", "sleep", "sh", "ps"]
    )
    mtu = vm.system().run("cat", "/sys/class/net/eth0/mtu").stdout
    assert int(mtu) == vm.seat.facts().mtu


def test_disk_is_the_same_inside_and_outside(demo):
    vm = demo.vm("db1")
    (vm.disk / "outside").write_text("x")
    vm.system().run("cp", str(vm.disk / "outside"), str(vm.disk / "inside"))
    assert (vm.disk / "inside").read_text() == "x"
    assert vm.disk.stat().st_mode & 0o777 == 0o700


def test_init_reaps_orphans(demo):
    vm = demo.vm("web2")
    orphan = vm.system().run("sh", "-c", "sleep 0.3 >/dev/null 2>&1 & echo $!").stdout.strip()
    vm.system().run("tail", f"--pid={orphan}", "-s", "0.01", "-f", "/dev/null")
    assert " Z" not in vm.system().run("ps", "-e", "-o", "pid,stat").stdout


def test_daemon_started_in_a_vm_has_the_id_that_the_vm_sees(demo):
    vm = demo.vm("web2")
    system = vm.system()
    pid = system.start("sleep", "60", log=vm.disk / "log")
    assert system.alive(pid, "sleep")
    assert pid != 1
    system.stop(pid, "sleep")
    assert not system.alive(pid, "sleep")


def test_reboot_keeps_disk_and_address_and_nothing_else(lab):
    lab.up(SMALL)
    for name in ("a", "n"):
        vm, b = lab.vm(name), lab.vm("b")
        old = vm.system()
        daemon = old.start("sleep", "60", log=vm.disk / "log")
        before = [Process.of(pid) for pid in inside(vm)]
        assert len(before) >= 3  # init, who waits for it, the daemon
        old.run("touch", "/run/flag", str(vm.disk / "flag"))
        old.run("ip", "link", "add", "wg0", "type", "bridge")
        old.run("nft", "add", "table", "ip", "perimeter")
        init = vm.pid
        vm.reboot()
        assert vm.pid != init
        assert not any(process.alive for process in before)
        new = vm.system()
        assert not new.alive(daemon, "sleep")
        assert new.run("ls", "/run/flag", ok=(2,)).code == 2
        assert (vm.disk / "flag").exists()
        assert new.run("nft", "list", "ruleset").stdout == ""
        assert new.run("ls", "/sys/class/net").stdout.split() == ["eth0", "lo"]
        assert reaches(vm, b.seat.address.ip)
        assert (reaches if name == "a" else is_deaf_to)(b, vm.seat.address.ip)


def test_vm_that_is_off_is_silent_until_it_is_started(lab):
    lab.up(SMALL)
    a, b = lab.vm("a"), lab.vm("b")
    pid = a.pid
    a.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not a.is_running
    assert is_deaf_to(b, a.seat.address.ip)
    with pytest.raises(LabError, match="VM a is not running: start it"):
        a.system()
    a.stop()
    a.start()
    a.start()
    assert reaches(b, a.seat.address.ip)


def test_everything_in_a_vm_dies_with_its_init(lab):
    lab.up(SMALL)
    vm = lab.vm("b")
    vm.system().run("sh", "-c", "for s in 61 62; do setsid sleep $s >/dev/null 2>&1 & done")
    vm.system().start("sleep", "63", log=vm.disk / "log")
    before = [Process.of(pid) for pid in inside(vm)]
    assert len(before) >= 6  # init and who waits for it, two orphans, nsenter and its daemon
    os.kill(vm.pid, signal.SIGKILL)
    assert all(process.wait(5) for process in before)
    assert not vm.is_running
    vm.start()
    assert reaches(lab.vm("a"), vm.seat.address.ip)


def test_process_that_took_over_the_number_of_an_init_is_not_harmed(lab):
    lab.up(SMALL)
    vm = lab.vm("a")
    vm.stop()
    stranger = subprocess.Popen(["sleep", "60"])
    old = {"pid": stranger.pid, "started": 5, "boot": Process.of(stranger.pid).boot}
    record.write(lab.directory / "run" / "a.json", {"init": old, "outer": old})
    assert not vm.is_running
    vm.stop()
    lab.down()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_vm_joins_and_leaves(lab):
    lab.up(SMALL)
    late = lab.add(VmSpec("late", "x", ("web",)))
    nat = lab.add(VmSpec("late2", "x", nat=True))
    assert reaches(late, lab.vm("b").seat.address.ip)
    assert reaches(nat, late.seat.address.ip)
    assert len(lab.vms()) == 5
    pids = (late.pid, nat.pid)
    lab.remove("late")
    lab.remove("late2")
    assert [vm.name for vm in Lab.load(lab.directory).vms()] == ["a", "b", "n"]
    assert not late.disk.exists()
    assert not [name for name in os.listdir(NETNS) if name.startswith(f"{lab.name}-late")]
    assert "s1n12" not in lab.network.system("router").run("ip", "-br", "link").stdout
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with pytest.raises(NotFound, match="no VM 'late'"):
        lab.remove("late")
    again = lab.add(VmSpec("late", "x", nat=True))
    assert reaches(again, lab.vm("a").seat.address.ip)


def test_cut_vm_hears_and_says_nothing_even_after_a_reboot(lab):
    lab.up(SMALL)
    a, b, n = lab.vms()
    for vm in (b, n):
        lab.faults.restore(vm.name)
        lab.faults.cut(vm.name)
        lab.faults.cut(vm.name)
        assert is_deaf_to(vm, a.seat.address.ip)
        assert is_deaf_to(a, vm.seat.outer.ip)
        vm.reboot()
        assert is_deaf_to(vm, a.seat.address.ip)
        assert vm.system().run("cat", "/sys/class/net/eth0/carrier").stdout == "1\n"
        lab.faults.restore(vm.name)
        assert reaches(vm, a.seat.address.ip)


def test_a_lossy_line_loses_some_packets_and_not_all(lab):
    lab.up(SMALL)
    a, b, _n = lab.vms()
    ping = ("ping", "-c", "200", "-i", "0.002", "-W", "1", str(a.seat.address.ip))
    lab.faults.lose(b.name)
    lab.faults.lose(b.name)
    lost = 200 - int(received(b.system().run(*ping, ok=(0, 1)).stdout))
    assert 10 <= lost <= 80, "of 200 there and back, 38 on average"
    lab.faults.keep(b.name)
    assert received(b.system().run(*ping).stdout) == "200"


def received(said: str) -> str:
    """How many answers ping(8) counted."""
    return said.partition(" received")[0].split()[-1]


def test_partition_parts_two_sites_and_no_others(lab):
    vms = (VmSpec("a", "x"), VmSpec("b", "y"), VmSpec("b2", "y"), VmSpec("c", "z"))
    lab.up(Topology(vms, ("x", "y", "z"), core=True))
    a, b, b2, c = lab.vms()
    core = topology.core_address().ip
    lab.faults.partition("x", "y")
    lab.faults.partition("core", "x")
    assert is_deaf_to(a, b.seat.address.ip)
    assert is_deaf_to(b, a.seat.address.ip)
    assert is_deaf_to(a, core)
    assert reaches(b, core)
    assert all(reaches(vm, c.seat.address.ip) for vm in (a, b))
    assert reaches(b, b2.seat.address.ip)
    lab.faults.cut("c")  # does not undo the other fault
    assert is_deaf_to(a, b.seat.address.ip)
    lab.faults.heal("y", "x")
    lab.faults.heal("x", "core")
    assert reaches(a, b.seat.address.ip)
    assert reaches(a, core)
    assert is_deaf_to(a, c.seat.address.ip)


def test_two_labs_side_by_side_do_not_meet(demo, lab):
    lab.up(SMALL)
    assert lab.vm("a").seat.address == demo.vm("web1").seat.address
    lab.vm("a").system().run("touch", "/run/mine")
    assert "mine" not in demo.vm("web1").system().run("ls", "/run").stdout
    assert is_deaf_to(lab.vm("a"), demo.vm("web2").seat.address.ip)
    assert {lab.directory, demo.directory} <= {other.directory for other in labs()}
    lab.down()
    assert reaches(demo.vm("web1"), demo.vm("app1").seat.address.ip)


def test_same_name_in_another_directory_is_refused_and_harms_nobody(demo, tmp_path):
    twin = Lab(tmp_path / demo.name)
    with pytest.raises(Conflict, match=f"is up already, in {demo.directory}"):
        twin.up(SMALL)
    assert not twin.directory.exists()
    assert reaches(demo.vm("web1"), demo.vm("app1").seat.address.ip)
    with pytest.raises(Conflict, match="is up already"):
        demo.up(SMALL)
    assert reaches(demo.vm("web1"), demo.vm("app1").seat.address.ip)


def test_namespace_of_somebody_else_is_left_alone(lab):
    foreign = f"{lab.name}-a"
    subprocess.run(["ip", "netns", "add", foreign], check=True)
    try:
        with pytest.raises(Conflict, match=f"ip netns delete {foreign}"):
            lab.up(SMALL)
        assert all(foreign in left for left in leftovers(lab))
        assert not lab.directory.exists()
    finally:
        subprocess.run(["ip", "netns", "del", foreign], check=True)


def test_directory_with_other_files_is_left_alone(lab):
    lab.directory.mkdir()
    file = lab.directory / "letter"
    file.write_text("x")
    with pytest.raises(Conflict, match="is not empty"):
        lab.up(SMALL)
    with pytest.raises(LabError, match="no lab"):
        lab.down()
    assert file.read_text() == "x"
    file.unlink()


def test_creator_killed_at_its_first_letter_leaves_a_directory_that_can_be_used(lab):
    lab.directory.mkdir()
    (lab.directory / "lab.json.new").write_text("{")
    lab.up(SMALL)
    lab.down()
    lab.directory.mkdir()
    (lab.directory / "lab.json.new").write_text("{")
    lab.down()
    assert leftovers(lab) == []


def test_two_who_take_the_same_lab_down_are_both_content(lab, thread):
    lab.up(SMALL)
    pids = [vm.pid for vm in lab.vms()]
    both = [thread(Lab(lab.directory).down) for _ in range(2)]
    for one in both:
        one.join()
    assert leftovers(lab, pids) == []


def test_vm_that_does_not_start_says_why_and_leaves_nothing(lab, monkeypatch):
    monkeypatch.setattr(boot, "INIT", "echo no room >&2; exit 1")
    with pytest.raises(LabError, match=r"VM a does not start: no room"):
        lab.up(SMALL)
    assert leftovers(lab) == []
    monkeypatch.undo()
    lab.up(SMALL)
    monkeypatch.setattr(boot, "INIT", "echo no room >&2; exit 1")
    with pytest.raises(LabError, match="VM late does not start"):
        lab.add(VmSpec("late", "x", nat=True))
    assert [vm.name for vm in lab.vms()] == ["a", "b", "n"]
    assert not [name for name in os.listdir(NETNS) if name.startswith(f"{lab.name}-late")]


def test_program_that_fails_half_way_leaves_nothing(lab, monkeypatch):
    monkeypatch.setattr("cnsmo.lab.network.NAT_RULES", "nonsense")
    with pytest.raises(ProgramError, match="nft"):
        lab.up(SMALL)
    assert leftovers(lab) == []


def test_down_ends_guests_that_sit_in_its_namespaces(lab):
    lab.up(dataclasses.replace(SMALL, core=True))
    guest = Process.of(lab.core().start("sleep", "60", log=lab.directory / "guest.log"))
    pids = [vm.pid for vm in lab.vms()]
    lab.down()
    assert leftovers(lab, pids) == []
    assert not guest.alive
    lab.down()


STAGES = {
    "written down": "claim.claim",
    "half a network": "network.Network._set_up_nat",
    "network": "network.Network.build",
    "first init begun": "vm.Vm.boot",
    "first init up": "vm.Vm.booted",
    "all up": "lab.Lab.up",
}


@pytest.mark.parametrize("stage", STAGES)
def test_down_cleans_up_after_a_creator_that_was_killed(lab, stage):
    script = f"""
        import os, pathlib
        from cnsmo.lab import claim, lab, network, vm, topology
        holder, name = {STAGES[stage].rpartition(".")[0]}, {STAGES[stage].rpartition(".")[2]!r}
        real = getattr(holder, name)
        def dies(*args, **kw):
            real(*args, **kw)
            os.kill(os.getpid(), 9)
        setattr(holder, name, dies)
        lab.Lab(pathlib.Path({str(lab.directory)!r})).up(topology.demo())
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=env, check=False)
    assert done.returncode == -signal.SIGKILL
    left = Lab.load(lab.directory)
    if stage == "all up":
        assert all(vm.is_running for vm in left.vms())
        assert reaches(left.vm("web1"), left.vm("app1").seat.address.ip)
    left.down()
    assert leftovers(lab) == []


def test_down_leaves_the_machine_as_it_was(tmp_path):
    """Exactly: in a machine of our own, where nobody else makes anything meanwhile."""
    script = """
        import json, os, pathlib, subprocess, sys
        from cnsmo.lab import topology
        from cnsmo.lab.lab import Lab

        def machine():
            def said(*args):
                return sorted(subprocess.check_output(args, text=True).splitlines())
            return {
                "netns": said("ip", "netns"),
                "links": said("ip", "-br", "link"),
                "rules": said("nft", "list", "ruleset"),
                "routes": said("ip", "route", "show", "table", "all"),
                "mounts": sorted(line.split(" ", 3)[3] for line in open("/proc/self/mountinfo")),
                "processes": [pid for pid in os.listdir("/proc") if pid.isdecimal()],
                "files": sorted(map(str, pathlib.Path(sys.argv[1]).rglob("*"))),
                "run": sorted(map(str, pathlib.Path("/run").rglob("*"))),
            }

        subprocess.run(["ip", "netns", "add", "first"])  # makes /run/netns a mount, for good
        subprocess.run(["ip", "netns", "del", "first"])
        before = machine()
        lab = Lab(pathlib.Path(sys.argv[1], "exact"))
        lab.up(topology.demo())
        lab.add(topology.VmSpec("late", "east", nat=True))
        lab.faults.cut("late")
        lab.vm("app3").reboot()
        during = machine()
        assert all(during[what] != before[what] for what in ("netns", "processes", "files", "run"))
        lab.down()
        print(json.dumps([before, machine()]))
    """
    alone = 'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"'
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
         "sh", "-c", alone, "sh", sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert after == before


def test_fifty_vms_are_up_in_seconds_and_know_each_other(lab, capsys):
    started = time.monotonic()
    lab.up(topology.mesh(50))
    took = time.monotonic() - started
    vms = lab.vms()
    assert all(vm.is_running for vm in vms)
    assert reaches(vms[0], vms[-1].seat.address.ip)
    neighbours = vms[0].system().run("ip", "neigh", "show", "nud", "permanent").stdout
    assert len(neighbours.splitlines()) == 25  # its site's, and the router
    started = time.monotonic()
    late = lab.add(VmSpec("late", "site1"))
    added = time.monotonic() - started
    known = vms[0].system().run("ip", "neigh", "show", str(late.seat.address.ip)).stdout
    assert "PERMANENT" in known
    started = time.monotonic()
    lab.down()
    with capsys.disabled():
        down = time.monotonic() - started
        print(f"\n50 VMs: up {took:.2f} s, one more {added:.2f} s, down {down:.2f} s")
    assert took < 20
