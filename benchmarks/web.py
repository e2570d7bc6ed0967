# SPDX-License-Identifier: Apache-2.0
"""HAProxies made by hand: web servers of a pool, and the balancer that CNSMO's is measured by."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.inside import Inside
from cnsmo.lab.vm import Vm

PORT = 8080
START_SECONDS = 20.0
SERVER = f"""global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend web
  bind :{PORT}
  http-request return status 200 content-type text/plain string "hello from the pool"
"""
BALANCER = """global
  nbthread {threads}
  cpu-map auto:1/1-{threads} 0-{last}
  maxconn 4000
  user haproxy
  group haproxy
defaults
  mode http
  option http-keep-alive
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  timeout http-request 10s
  timeout http-keep-alive 10s
frontend www
  bind 0.0.0.0:{port}
{front}
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  default_backend pool
backend pool
  balance roundrobin
{back}
  default-server check inter 2s rise 2 fall 3 pool-max-conn -1 pool-purge-delay 5s
{servers}
"""
CAREFUL = {
    "front": "  http-request disable-l7-retry unless { method GET HEAD OPTIONS PUT DELETE TRACE }",
    "back": "  http-reuse safe\n  retries 3\n  retry-on conn-failure empty-response",
}
"""No request is lost when a server dies or closes an idle connection, as CNSMO promises it."""
CARELESS = {"front": "", "back": "  http-reuse always"}
"""As fast as can be: a request that meets a connection which the server closes is answered 502."""


@contextlib.contextmanager
def server(vm: Vm, directory: Path) -> Iterator[None]:
    """Serves a few bytes, whatever is asked for, on all addresses of a VM."""
    with _haproxy(vm, SERVER, directory / f"{vm.name}-web"):
        yield


@contextlib.contextmanager
def balancer(
    vm: Vm, port: int, servers: Sequence[str], manner: Mapping[str, str], directory: Path
) -> Iterator[None]:
    """Balances among servers, which are addresses, in one of the manners above."""
    lines = "\n".join(f"  server web{n} {it}:{PORT}" for n, it in enumerate(servers, 1))
    threads = os.cpu_count() or 1
    text = BALANCER.format(threads=threads, last=threads - 1, port=port, servers=lines, **manner)
    with _haproxy(vm, text, directory / f"{vm.name}-{port}"):
        yield


@contextlib.contextmanager
def _haproxy(vm: Vm, text: str, place: Path) -> Iterator[None]:
    config, socket, log = (place.with_suffix(it) for it in (".cfg", ".sock", ".log"))
    config.write_text(f"{text}global\n  stats socket {socket}\n")
    with Inside(vm, "haproxy", "-db", "-f", str(config), log=log):
        until = time.monotonic() + START_SECONDS
        while not socket.exists():  # it comes with all others that it listens on
            if time.monotonic() > until:
                raise TimeoutError(f"haproxy does not start: {log.read_text()}")
            time.sleep(0.01)
        yield
