# SPDX-License-Identifier: Apache-2.0
"""The published example in a world: its VMs, its web servers, and a client that asks."""

import contextlib
import json
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

from cnsmo.lab.topology import VmSpec
from tests.functional.loadbalancer.hap_scene import CLIENT as PROGRAM
from tests.functional.loadbalancer.hap_scene import Counted
from tests.functional.mesh.world import World

EXAMPLE = (pathlib.Path(__file__).parents[3] / "examples" / "two_tier.yaml").read_text()
EDGE = VmSpec("edge1", "east", ("edge",))
WEB1 = VmSpec("web1", "east", ("web",))
WEB2 = VmSpec("web2", "west", ("web",))
CLIENT = VmSpec("client", "west", ("clients",))
SERVER = """\
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = sys.argv[1].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *told):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Answer).serve_forever()
"""
ASK = """\
import sys, urllib.request
for number in range(int(sys.argv[2])):
    try:
        with urllib.request.urlopen(sys.argv[1], timeout=2) as answer:
            print(answer.read().decode())
    except OSError as exc:
        print(getattr(exc, "code", "silence"))
"""


def serve(world: World, name: str) -> None:
    """Let a VM answer with its name."""
    vm = world.lab.vm(name)
    vm.system().start("python3", "-c", SERVER, name, log=vm.disk / "server.log")


def ask(world: World, address: str, port: int = 80, times: int = 8) -> set[str]:
    """Who answers the client: names, statuses of errors, silence."""
    url = f"http://{address}:{port}/"
    return set(world.run("client", "python3", "-c", ASK, url, str(times), timeout=60).split())


def public(world: World, name: str) -> str:
    return str(world.lab.vm(name).seat.address.ip)


@contextlib.contextmanager
def load(world: World, address: str) -> Iterator[list[Counted]]:
    """The client asks all the time while the block is carried out; the list then has the counts."""
    options: dict[str, Any] = {"address": address, "port": 80, "timeout": 0.3,
                               "kept": 0, "fresh": 2, "pause": 0.02}  # fmt: skip
    process = subprocess.Popen(
        [*world.lab.vm("client").system().enter, *PROGRAM, "load", json.dumps(options)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline().strip() == "ready"
    counted: list[Counted] = []
    try:
        yield counted
    finally:
        said, _ = process.communicate(timeout=30)
        counted.append(Counted(**json.loads(said)))
