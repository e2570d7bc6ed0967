# SPDX-License-Identifier: Apache-2.0
"""A carrier, a pool and a client on one switch; the carrier has the load balancer under test."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnsmo.services.base import Observation, System
from cnsmo.services.loadbalancer.desired import (
    Bind,
    Check,
    Checking,
    LoadBalancerDesired,
    Mode,
    Pool,
    Server,
)
from cnsmo.services.loadbalancer.drivers.hap_socket import HapSocket
from cnsmo.services.loadbalancer.drivers.haproxy import AGAIN_SECONDS, HaproxyDriver
from tests.eventually import eventually
from tests.functional.loadbalancer import hap_backend, hap_client
from tests.functional.vpn.vms import Net

BACKEND = (sys.executable, "-I", "-S", hap_backend.__file__)
CLIENT = (sys.executable, "-I", "-S", hap_client.__file__)
FIRST_PORT = 8000
QUICK = Check(Checking.HTTP, interval=0.2, timeout=0.5, rise=1, fall=3, path="/healthz")


@dataclasses.dataclass(frozen=True)
class Counted:
    """What became of a load. ``gap``: the longest time without an answer, in seconds."""

    sent: int
    lost: dict[str, int]
    by: dict[str, int]
    gap: float


class Site:
    """The VMs, which tests share, and the web servers of the pool that run."""

    def __init__(self, net: Net, folder: Path, carriers: int = 1) -> None:
        self.net = net
        self.folder = folder
        self.carriers = [net.add(f"lb{number + 1}") for number in range(carriers)]
        self.pool, self.client = net.add("pool"), net.add("client")
        self._running: set[int] = set()

    def serve(self, *numbers: int) -> None:
        """See to it that web servers run; the n-th is ``webn``, at port 8000 + n."""
        started = [
            self.pool.spawn(
                " ".join((*BACKEND, f"web{it}", str(FIRST_PORT + it), str(self.folder)))
            )
            for it in numbers
            if it not in self._running
        ]
        self._running |= set(numbers)
        for process in started:
            assert process.stdout
            assert process.stdout.readline().strip() == "ready"
            process.stdout.close()

    def kill(self, number: int) -> None:
        """End one by force; its connections are reset."""
        self.pool.run(f"pkill -KILL -f hap_backend.py.web{number}.")
        self._running.remove(number)

    def sicken(self, number: int, sick: bool = True) -> None:
        """Let one fail its checks, and answer all else."""
        path = self.folder / f"web{number}.sick"
        path.touch() if sick else path.unlink(missing_ok=True)


class Scene:
    """A driver on a carrier of a site, and what it balances."""

    def __init__(self, site: Site, state: Path, carrier: int = 0) -> None:
        self.site = site
        self.carrier, self.pool, self.client = site.carriers[carrier], site.pool, site.client
        self.address = site.net.address(self.carrier.name)
        self.address6 = site.net.address(self.carrier.name, 6)
        self.serve, self.kill, self.sicken = site.serve, site.kill, site.sicken
        self.state_dir = state / self.carrier.name / "units" / "loadbalancer" / "www" / "haproxy"
        self.driver = self.fresh()

    def fresh(self, system: System | None = None) -> HaproxyDriver:
        """What a new agent process does: another driver object on the same files."""
        label = f"shop/{self.carrier.name}/www"
        self.driver = HaproxyDriver(system or self.carrier.system, "www", label, self.state_dir)
        return self.driver

    # --- the pool -------------------------------------------------------------------------

    def server(self, number: int, **more: Any) -> Server:
        """One of them as the load balancer is told of it."""
        return Server(f"web{number}", self.site.net.address("pool"), FIRST_PORT + number, **more)

    def servers(self, *numbers: int, **more: Any) -> tuple[Server, ...]:
        """Several of them."""
        return tuple(self.server(number, **more) for number in numbers)

    # --- the driver -----------------------------------------------------------------------

    def apply(self, wanted: LoadBalancerDesired) -> list[str]:
        return self.driver.apply(wanted)

    def observe(self, wanted: LoadBalancerDesired) -> Observation:
        return self.driver.observe(wanted)

    def state(self, wanted: LoadBalancerDesired, name: str, pool: str = "www") -> str:
        """A server's state; "gone" when nobody knows it."""
        found = self.observe(wanted).detail["servers"][pool].get(name, {"state": "gone"})
        return str(found["state"])

    def settle(self, wanted: LoadBalancerDesired) -> list[str]:
        """Apply, and go on until nothing is under way any more."""
        changes = self.apply(wanted)
        self.follow(wanted)
        return changes

    def follow(self, wanted: LoadBalancerDesired, seconds: float = 10) -> None:
        """What the agent does: look again as often as the driver asks for it."""
        until = time.monotonic() + seconds
        while self.observe(wanted).again == AGAIN_SECONDS:
            assert time.monotonic() < until, f"it does not settle: {self.observe(wanted)}"
            time.sleep(0.05)
            assert self.driver.apply(wanted) == []

    @property
    def config(self) -> str:
        return (self.state_dir / "haproxy.cfg").read_text()

    @property
    def log(self) -> str:
        return (self.state_dir / "haproxy.log").read_text()

    @property
    def workers(self) -> tuple[int, ...]:
        """Process ids of the workers that take new connections: others after a reload."""
        found = self.admin("show proc", "master.sock").partition("# old")[0].splitlines()
        return tuple(int(line.split()[0]) for line in found if "worker" in line and line[0] != "#")

    def admin(self, command: str, name: str = "stats.sock") -> str:
        """What an administrator does by hand."""
        return HapSocket(self.state_dir, name).ask(command)

    # --- the client -----------------------------------------------------------------------

    def asks(self, count: int = 1, **options: Any) -> list[dict[str, Any]]:
        """Answers to so many requests, each on a connection of its own unless ``keep``."""
        known = {"address": self.address, "port": 80, "count": count}
        run = self.client.system.run(*CLIENT, "ask", json.dumps({**known, **options}), timeout=60)
        return list(json.loads(run.stdout))

    def ask(self, path: str = "/", **options: Any) -> dict[str, Any]:
        """The answer to one."""
        (answer,) = self.asks(path=path, **options)
        return answer

    def hear(self, sent: str, **options: Any) -> dict[str, Any]:
        """What comes back, and when its end, where a client says nothing more than that."""
        known = {"address": self.address, "port": 80, "sent": sent}
        run = self.client.system.run(*CLIENT, "hear", json.dumps({**known, **options}), timeout=60)
        return dict(json.loads(run.stdout))

    def who(self, count: int = 20, **options: Any) -> dict[str, int]:
        """Who answers how many of so many requests; "nobody": an error."""
        found: dict[str, int] = {}
        for answer in self.asks(count, **options):
            good = answer["status"] == 200
            name = answer["headers"].get("x-backend", "nobody") if good else "nobody"
            found[name] = found.get(name, 0) + 1
        return found

    def begin(self, what: str, **options: Any) -> "subprocess.Popen[str]":
        """A client that goes on by itself; its standard input ends it, if it is a load."""
        known = {"address": self.address, "port": 80}
        return subprocess.Popen(
            [*self.client.system.enter, *CLIENT, what, json.dumps({**known, **options})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @contextlib.contextmanager
    def load(self, **options: Any) -> Iterator[list[Counted]]:
        """Constant load while the block is carried out; the list then has what was counted."""
        process = self.begin("load", **{"kept": 3, "fresh": 3, "pause": 0.01, **options})
        assert process.stdout
        assert process.stdout.readline().strip() == "ready"
        counted: list[Counted] = []
        try:
            yield counted
        finally:
            said, _ = process.communicate(timeout=30)
            counted.append(Counted(**json.loads(said)))

    def stop(self) -> None:
        """The end: whatever the test did, nothing is left of the load balancer."""
        self.fresh().remove()
        assert not self.state_dir.exists()
        eventually(lambda: not self.carrier.processes(), what="an empty carrier")
        for number in range(1, 10):
            self.sicken(number, sick=False)


def desired(*servers: Server, **other: Any) -> LoadBalancerDesired:
    """A load balancer at port 80 with one pool, ``www``; what is the pool's goes to the pool."""
    fields = {field.name for field in dataclasses.fields(Pool)}
    pool = {"check": QUICK, **{key: other.pop(key) for key in fields & set(other)}}
    known = {"mode": Mode.HTTP, "binds": (Bind("", 80),), "pools": (Pool("www", servers, **pool),)}
    return LoadBalancerDesired("haproxy", **{**known, **other})
