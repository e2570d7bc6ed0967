#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The first of CNSMO on a VM: install it, let cnsmo-boot do the rest, and tell how it went.

The user-data carries this very file (tools/update-cloudinit.sh puts it there), and cloud-init runs
it at each boot until it succeeded once. So it is one file, of the standard library alone, for
Python 3.9 and later; what CNSMO itself can do is done in the rest of this package.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

PARAMETERS = "/etc/cnsmo/boot.json"
VENV = "/opt/cnsmo"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE, PAUSE = 60.0, 3.0
"""Seconds for which a server may not answer, and between two tries."""
MAX_REASON = 500
"""Characters."""
STATUS, LAST_STAGE, EXPLAIN = "/run/cloud-init/status.json", "cloud-final.service", "--explain"

URL = r"https?://[A-Za-z0-9._~:/@%+=,;&?!*()#\[\]-]{1,2000}"
PLACE = r"/[A-Za-z0-9._/+-]{1,250}"
SERVICE = r"[a-z0-9][a-z0-9-]*(?:/[a-z0-9][a-z0-9-]*)?"
PATTERNS = {
    "role": r"agent|core",
    "requirements": rf"(?:{URL}|{PLACE})?",
    "requirements_sha256": r"(?:[0-9a-f]{64})?",
    "wheelhouse": rf"(?:{URL}|{PLACE})?",
    "index": rf"(?:{URL})?",
    "services": rf"(?:{SERVICE}(?:,{SERVICE})*)?",
    "signal": rf"(?:{URL})?",
    "signal_token": r"[A-Za-z0-9._~=+/-]{0,1000}",  # nosec B105
}
"""What the parameters that are used here may be; all others are checked by cnsmo-boot."""

NEEDS = {
    "core": {"rabbitmqctl": "rabbitmq-server"},
    "firewall": {"nft": "nftables", "conntrack": "conntrack"},
    "loadbalancer": {"haproxy": "haproxy"},
    "loadbalancer/nftables": {"nft": "nftables", "conntrack": "conntrack"},
    "loadbalancer/vip": {"keepalived": "keepalived"},
    "vpn": {"wg": "wireguard-tools"},
    "vpn/openvpn": {"openvpn": "openvpn"},
    "everything": {"ip": "iproute2"},
}
"""The programs of each service (and of a driver, or a feature), with their Debian packages."""
OF_RPM = {"conntrack": "conntrack-tools", "iproute2": "iproute", "python3-pip": "python3.12-pip"}
"""Packages that bear another name there."""
POLICY = "/usr/sbin/policy-rc.d"
"""Asked by Debian's packages whether they may start their daemons."""
NOT_STARTED = {"haproxy", "keepalived", "nftables", "openvpn"}
"""Packages whose own units would run beside CNSMO's."""


class Failed(Exception):
    """The boot cannot go on. The text is for the operator."""


def main(words: list[str]) -> int:
    """Boot, unless that was done. words: of the command line."""
    os.environ["PATH"] = PATH
    if words[:1] == [EXPLAIN]:
        return explain(words[1])
    if not os.path.exists(PARAMETERS):
        return 0
    given, told = {}, {}
    try:
        given = read(PARAMETERS)
        check(given)
        install(given)
        told = go_on()
    except Failed as exc:
        told = {"reason": str(exc)}
    except Exception as exc:  # noqa: BLE001  # whoever waits is told, whatever it is
        told = {"reason": f"unforeseen {type(exc).__name__}: {exc}"}
    failure = told.get("reason", "")
    try:
        signal(given, failure, told.get("data", {}))
    except Failed as exc:
        failure = failure or str(exc)
    say(f"failed: {failure}" if failure else "done")
    if not failure:
        os.unlink(PARAMETERS)  # its secrets are used up, and its work is done
        return 0
    # cloud-init itself says but which script failed, and writes that when its last stage ends.
    unit = ("systemd-run", "--quiet", "--no-block", "--collect", f"--property=After={LAST_STAGE}")
    works(*unit, sys.executable, os.path.abspath(__file__), EXPLAIN, failure)
    return 1


def say(text: str) -> None:
    """A line for /var/log/cloud-init-output.log."""
    sys.stderr.write(f"cnsmo-boot: {text}\n")


def explain(failure: str) -> int:
    """Add the reason to what ``cloud-init status --long`` shows."""
    status = json.loads(fetch(STATUS))
    status["v1"]["modules-final"]["errors"].append(f"cnsmo-boot: {failure}")
    write(f"{STATUS}.cnsmo", json.dumps(status, indent=1).encode())
    os.replace(f"{STATUS}.cnsmo", STATUS)
    return 0


def read(path: str) -> dict[str, Any]:
    """The parameters, as they were given; Failed when that is no table."""
    try:
        with open(path, encoding="utf-8") as file:
            given = json.load(file)
    except (OSError, ValueError) as exc:
        raise Failed(f"the parameters in {path} cannot be read: {exc}") from exc
    if not isinstance(given, dict):
        raise Failed(f"the parameters in {path} are no table")
    return dict.fromkeys(PATTERNS, "") | given


def fits(given: dict[str, Any], name: str) -> bool:
    """Whether a parameter is what it may be."""
    value = given.get(name, "")
    return isinstance(value, str) and bool(re.fullmatch(PATTERNS[name], value))


def check(given: dict[str, Any]) -> None:
    """Look at the parameters that are used here; Failed names a wrong one, and shows no secret."""
    for name in PATTERNS:
        if not fits(given, name):
            shown = "" if name == "signal_token" else f": {ascii(given[name])[:80]}"
            raise Failed(f"the parameter cnsmo_{name} is not what it should be{shown}")


def install(given: dict[str, Any]) -> None:
    """Have CNSMO and the programs that its services run; what is there is not installed again."""
    baked = os.access(f"{VENV}/bin/cnsmo-boot", os.X_OK) and not given["requirements"]
    missing = packages(given)
    stamp = f"{VENV}/installed-{given['requirements_sha256']}"
    wanted = b"" if baked or os.path.exists(stamp) else requirements(given)
    if wanted and not archive_of(given, wanted):
        python = find_python()
        if not (python and works(python, "-m", "pip", "--version")):
            missing.append("python3-pip")
    install_packages(missing)
    if wanted:
        install_cnsmo(given, wanted, find_python())
        write(stamp, b"")


def packages(given: dict[str, Any]) -> list[str]:
    """The system packages that are missing."""
    services = ["core"] if given["role"] == "core" else given["services"].split(",")
    wanted = [
        package
        for service in ["everything", *services]
        for program, package in NEEDS.get(service, {}).items()
        if not shutil.which(program)
    ]
    if "vpn" in services and not shutil.which("wireguard-go") and not kernel_has("wireguard"):
        wanted.append("wireguard-go")
    return list(dict.fromkeys(wanted))


def kernel_has(module: str) -> bool:
    """Whether the kernel has a module, or could load it."""
    return os.path.isdir(f"/sys/module/{module}") or works("modprobe", "-n", "-q", module)


def install_packages(names: list[str]) -> None:
    """Install system packages; no daemon of theirs is left running beside CNSMO."""
    if not names:
        return
    say(f"installing {' '.join(names)}")
    if shutil.which("apt-get"):
        apt = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3")
        run("the package lists", *apt, "update")
        with no_daemon_started():
            run("the packages", *apt, "install", "-y", "--no-install-recommends", *names)
    elif shutil.which("dnf"):
        names = [OF_RPM.get(name, name) for name in names]
        run(
            "the packages", "dnf", "-y", "-q", "--setopt=install_weak_deps=False", "install", *names
        )
    else:
        raise Failed(f"missing here, and there is no apt-get or dnf: {', '.join(names)}")
    for name in NOT_STARTED.intersection(names):
        run(name, "systemctl", "disable", "--now", f"{name}.service")


@contextlib.contextmanager
def no_daemon_started() -> Iterator[None]:
    """Meanwhile no package starts its daemon: CNSMO does, once it is configured."""
    ours = not os.path.lexists(POLICY)
    if ours:
        write(POLICY, b"#!/bin/sh\nexit 101\n")
        os.chmod(POLICY, 0o755)  # nosec B103  # a program
    try:
        yield
    finally:
        if ours:
            os.unlink(POLICY)


def find_python() -> str:
    """A Python that CNSMO runs on; "" when there is none."""
    asked = "import sys; sys.exit(sys.version_info < (3, 11))"
    names = ("python3", "python3.14", "python3.13", "python3.12", "python3.11")
    return next((name for name in names if shutil.which(name) and works(name, "-c", asked)), "")


def requirements(given: dict[str, Any]) -> bytes:
    """The pins of all that CNSMO is installed from; Failed when they are others than given."""
    place, digest = given["requirements"], given["requirements_sha256"]
    if not place:
        why = "and cnsmo_requirements does not say what to install"
        raise Failed(f"CNSMO is not in this image (no {VENV}/bin/cnsmo-boot), {why}")
    if not digest:
        raise Failed("cnsmo_requirements is given without cnsmo_requirements_sha256")
    text = fetch(place)
    if hashlib.sha256(text).hexdigest() != digest:
        raise Failed(f"{place} has another SHA-256 than cnsmo_requirements_sha256")
    return text


def archive_of(given: dict[str, Any], wanted: bytes) -> tuple[str, str] | None:
    """An archive of the wheelhouse, installed for a Python that is here, and its digest."""
    pinned = r"(?m)^# cp3([0-9]+)-(\w+) ([\w.-]+) ([0-9a-f]{64})$"
    for minor, machine, name, digest in re.findall(pinned, wanted.decode()):
        here = machine == os.uname().machine and os.path.exists(f"/usr/bin/python3.{minor}")
        if here and given["wheelhouse"]:
            return name, digest
    return None


def install_cnsmo(given: dict[str, Any], wanted: bytes, python: str) -> None:
    """CNSMO, into a virtual environment of its own; every file has to have the pinned digest."""
    say(f"installing CNSMO into {VENV}")
    shutil.rmtree(VENV, ignore_errors=True)
    archive = archive_of(given, wanted)
    if archive:
        unpack(given["wheelhouse"], *archive)
        return
    if not python:
        raise Failed("there is no Python 3.11 or later here")
    run("the virtual environment", python, "-m", "venv", "--without-pip", VENV)
    listed = f"{VENV}/requirements.txt"
    write(listed, wanted)
    run(
        "CNSMO",
        *(python, "-m", "pip", "--python", f"{VENV}/bin/python", "install", "--quiet"),
        *("--disable-pip-version-check", "--no-input", "--no-cache-dir", "--retries", "3"),
        *("--require-hashes", "--only-binary", ":all:", "--requirement", listed, *source(given)),
    )


def unpack(wheelhouse: str, name: str, digest: str) -> None:
    """An archive of the wheelhouse: the virtual environment as pip has made it elsewhere."""
    place, here = f"{wheelhouse.rstrip('/')}/{name}", f"{VENV}/{name}"
    content = fetch(place)
    if hashlib.sha256(content).hexdigest() != digest:
        raise Failed(f"{place} has another SHA-256 than the requirements say")
    os.makedirs(VENV, mode=0o755)
    write(here, content)
    run("CNSMO", "tar", "-C", VENV, "--no-same-owner", "-xzf", here)
    os.unlink(here)


def write(path: str, content: bytes) -> None:
    """A file."""
    with open(path, "wb") as file:
        file.write(content)


def source(given: dict[str, Any]) -> list[str]:
    """Where pip finds packages. Who serves them need not be trusted: digests are pinned."""
    words = []
    if given["wheelhouse"]:
        words = ["--no-index", "--find-links", given["wheelhouse"]]
    elif given["index"]:
        words = ["--index-url", given["index"]]
    for url in (given["wheelhouse"] or given["index"], given["requirements"]):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "http":
            words += ["--trusted-host", parts.netloc.rpartition("@")[2]]
    return words


def fetch(place: str) -> bytes:
    """The bytes of a file here, or of a URL."""
    try:
        if place.startswith("/"):
            with open(place, "rb") as file:
                return file.read()
        return ask(urllib.request.Request(place))
    except OSError as exc:
        raise Failed(f"{place} cannot be fetched: {in_words(exc)}") from exc


def ask(request: urllib.request.Request) -> bytes:
    """What a server answers; while it does not, it is asked again."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            # The pattern of every URL says http or https.
            with urllib.request.urlopen(request, timeout=10) as answer:  # nosec B310
                return bytes(answer.read())
        except OSError as exc:
            final = isinstance(exc, urllib.error.HTTPError) and exc.code < 500
            if final or time.monotonic() > until:
                raise
        time.sleep(PAUSE)


def in_words(exc: OSError) -> str:
    """An error of the network, without Python's wrapping."""
    why = getattr(exc, "reason", exc)
    return str(getattr(why, "strerror", None) or why)


def go_on() -> dict[str, Any]:
    """Let the installed CNSMO do the rest: its ``reason`` if it failed, ``data`` for who waits."""
    with timed("cnsmo-boot"):
        done = subprocess.run([f"{VENV}/bin/cnsmo-boot"], stdout=subprocess.PIPE, check=False)
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        told = {"reason": f"{VENV}/bin/cnsmo-boot ended with {done.returncode}; see its output"}
    return told


def signal(given: dict[str, Any], failure: str, data: Any) -> None:
    """Tell who waits: a wait condition of Heat, or any server that takes a POST of JSON."""
    if not given.get("signal") or not (fits(given, "signal") and fits(given, "signal_token")):
        return
    host, status = socket.gethostname(), "FAILURE" if failure else "SUCCESS"
    reason, headers = failure[:MAX_REASON] or "ready", {"Content-Type": "application/json"}
    names, method = ("status", "reason", "data", "id"), "POST"
    if given["signal_token"]:
        headers["X-Auth-Token"] = given["signal_token"]
    elif "/waitcondition/" in given["signal"]:
        names, method = ("Status", "Reason", "Data", "UniqueId"), "PUT"
        data = json.dumps(data)  # it takes a text only
    values = (status, f"{host}: {reason}", data, host)
    body = json.dumps(dict(zip(names, values))).encode()  # noqa: B905  # Python 3.9
    request = urllib.request.Request(given["signal"], body, headers, method=method)
    try:
        ask(request)
    except OSError as exc:
        raise Failed(f"who waits could not be told: {in_words(exc)}") from exc


def works(*words: str) -> bool:
    """Whether a program ends well."""
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Say what a step took."""
    begin = os.times()
    yield
    end = os.times()
    work = sum(end[:4]) - sum(begin[:4])
    say(f"{what}: {end[4] - begin[4]:.1f} s, {work:.1f} s of a processor")


def run(what: str, *words: str) -> None:
    """Run a program; its output goes to cloud-init's log. Failed has what it said last."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    quiet["PYTHONDONTWRITEBYTECODE"] = ""
    both: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with timed(what):
        done = subprocess.run(words, env=quiet, text=True, check=False, **both)
        sys.stderr.write(done.stdout)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if re.match(r"(?i)e:|error", line)]
        said = " ".join(lines[-2:] or done.stdout.split()[-40:])
        raise Failed(f"{what} cannot be installed: {said}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
