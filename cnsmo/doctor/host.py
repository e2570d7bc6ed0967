# SPDX-License-Identifier: Apache-2.0
"""Symptoms that a VM looks for at itself: its agent, its files, its way to the core."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import fcntl
import http.client
import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from oslo_config import cfg

from cnsmo.agent import notice
from cnsmo.agent.identity import CERTIFICATE, HostIdentity, StateDir
from cnsmo.agent.join import JoinClient
from cnsmo.agent.notice import EVERY_SERVICE
from cnsmo.bus import transport
from cnsmo.bus.knock import knock
from cnsmo.doctor import files
from cnsmo.doctor.certificates import LATE
from cnsmo.doctor.database import skewed
from cnsmo.doctor.symptom import Finding, critical, warning
from cnsmo.model.errors import CnsmoError
from cnsmo.model.lifecycle import State

PATIENCE = 5.0
"""Seconds for a connection."""


class Vm:
    """This host, as its agent's directory has it."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self.conf = conf
        self.path = Path(conf.agent.state_dir)
        self.state_dir = StateDir(self.path, EVERY_SERVICE)

    def identity(self) -> HostIdentity | None:
        """Who it is, if it has joined.

        :raises CnsmoError: when that cannot be read.
        """
        return self.state_dir.identity()


def agent_away(vm: Vm) -> Iterator[Finding]:
    """No agent runs here, or this VM has not joined.

    What is in force stays so, and nobody keeps it so. 'systemctl status cnsmo-agent', and its log:
    a token that is not valid, a core that does not answer. One that has not joined needs [agent]
    join_url, ca_fingerprint and token_file.
    """
    if vm.identity() is None:
        yield critical(f"this VM has not joined: there is no identity in {vm.path}")
    if not _runs(vm.path):
        yield critical(f"no cnsmo-agent works in {vm.path}")


def not_in_force(vm: Vm) -> Iterator[Finding]:
    """What is declared for this VM is not in force, or something keeps the agent from its work.

    The reason says what is missing; it is tried again with every change and at every resync.
    """
    for path in sorted(vm.path.glob("notice-*.json")):
        told = notice.read(path)
        if told is None:
            continue
        if told.code:
            yield critical(told.message)
        for name, service in told.services.items():
            if service.state is State.ERROR:
                yield critical(f"{name}: {service.reason}")
            elif service.state is not State.READY:
                yield warning(f"{name} is {service.state or 'not known yet'}: {service.reason}")


def way_to_core(vm: Vm) -> Iterator[Finding]:
    """This VM does not reach the broker, or the place where hosts join.

    What is in force stays so. Is the address right ([agent] join_url, [bus] url), does a firewall
    or a security group between here and there let TCP pass?
    """
    identity = vm.identity()
    url = identity.bus_url if identity is not None else ""
    if not transport.is_in_process(vm.conf, url):
        try:
            knock(vm.conf, PATIENCE, url)
        except CnsmoError as exc:
            yield critical(str(exc))
    if vm.conf.agent.join_url:
        try:
            _date(vm)
        except (OSError, http.client.HTTPException) as exc:
            yield warning(f"no core lets hosts join at {vm.conf.agent.join_url}: {exc}")


def clock(vm: Vm) -> Iterator[Finding]:
    """The clock of this VM is not that of the core.

    Tunnels do not care, but certificates are renewed too early or too late, and logs mislead: let
    the VM follow a time server (chrony, systemd-timesyncd).
    """
    if not vm.conf.agent.join_url:
        return
    with contextlib.suppress(OSError, http.client.HTTPException):  # which way_to_core tells of
        before = time.time()
        theirs = _date(vm)
        after = time.time()
        # Theirs is in whole seconds, rounded down.
        ahead = max(before - (theirs + 1), min(after - theirs, 0.0))
        yield from skewed("the clock of this VM", ahead)


def certificate_ends(vm: Vm) -> Iterator[Finding]:
    """The certificate of this VM ends soon, and was not renewed.

    Its agent renews it after two thirds of its life. Does the agent run, and reach the core? Once
    it has ended, only a fresh token helps: 'cnsmo-manage token create' at the core, into [agent]
    token_file here.
    """
    path = vm.path / CERTIFICATE
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as exc:
        yield critical(f"{path} cannot be read: {exc}")
        return
    ends, now = found.not_valid_after_utc, datetime.datetime.now(datetime.UTC)
    identity = vm.identity()
    life = datetime.timedelta(seconds=identity.life if identity else 0.0)
    if ends <= now:
        yield critical(f"it has ended on {ends:%Y-%m-%d %H:%M} UTC")
    elif ends - now < life * LATE:
        yield warning(f"it ends on {ends:%Y-%m-%d %H:%M} UTC")


def file_modes(vm: Vm) -> Iterator[Finding]:
    """Others than root can read what proves who this VM is, or its keys.

    'chmod -R go= DIRECTORY'. If somebody could have read it, remove the host at the core, run
    'cnsmo-agent --teardown', and let it join anew.
    """
    if not vm.path.exists() or not vm.path.stat().st_mode & (files.GROUP | files.OTHERS):
        return  # who cannot enter the directory reads nothing in it
    yield from files.exposed(vm.path)
    for path in sorted(vm.path.rglob("*")):
        if path.is_file():
            yield from files.exposed(path)


def no_space(vm: Vm) -> Iterator[Finding]:
    """There is little room left where the agent keeps its files.

    Make room: without any, the replica is not written any more, and the VM comes back from a
    reboot with an older state until it hears the core.
    """
    if vm.path.exists():
        yield from files.cramped(vm.path)


def _runs(path: Path) -> bool:
    """Whether an agent's process has its lock."""
    try:
        handle = os.open(path / "agents.lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _date(vm: Vm) -> float:
    """What time it is at the core, in seconds of the epoch. Nothing is said to it.

    :raises OSError: when it does not answer.
    """
    group = vm.conf.agent
    host, port = JoinClient(group.join_url, group.ca_fingerprint, PATIENCE).address
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=anybody)
    with contextlib.closing(connection):
        connection.request("GET", "/v1/ca")
        told = connection.getresponse().getheader("Date", "")
    moment = email.utils.parsedate_to_datetime(told) if told else None
    if moment is None:
        raise OSError("it does not say what time it is")
    return moment.timestamp()
