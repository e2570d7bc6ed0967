# SPDX-License-Identifier: Apache-2.0
"""Symptoms of files: who may read what is secret, and is there room to write."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import oslo_messaging
import sqlalchemy as sa
from oslo_config import cfg

from cnsmo.bus import transport
from cnsmo.bus.depth import tls_options
from cnsmo.doctor.site import Site
from cnsmo.doctor.symptom import Finding, critical, warning
from cnsmo.model.errors import CnsmoError
from cnsmo.trust import authority

GROUP, OTHERS = 0o070, 0o007
MIB = 1024 * 1024
LITTLE, HARDLY, NOTHING = 512 * MIB, 64 * MIB, MIB
"""Bytes that are left: to look after, to act on, and to act on however small the disk is."""
SHARE = 0.1
"""Of a file system; while that is left, a small disk is no full one."""
NODES = 0.02


def file_modes(site: Site) -> Iterator[Finding]:
    """Files with secrets can be read by others than their owner.

    'chmod 600' each, and 'chown' it to the account that runs cnsmo-core. If somebody could have
    read it: 'cnsmo-manage secrets rotate' for the key of the database, 'cnsmo-manage ca rotate
    --overlap 0s' for the authority, and new passwords for what is in the configuration.
    """
    for path in sorted(set(secret_files(site))):
        yield from exposed(path)


def no_space(site: Site) -> Iterator[Finding]:
    """There is little room left where a core keeps its files.

    Make room, or move them. Without any, an SQLite database takes no writes, the authority cannot
    be rotated, and the log ends. A database server's own disk: see database-takes-no-writes.
    """
    places = {path.stat().st_dev: path for path in map(_existing, _directories(site))}
    for path in sorted(places.values()):
        yield from cramped(path)


def exposed(path: Path) -> Iterator[Finding]:
    """Whether others can read a file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & OTHERS:
        yield critical(f"everybody can use {path} (mode {stat.S_IMODE(mode):04o})")
    elif mode & GROUP:
        yield warning(f"a group can use {path} (mode {stat.S_IMODE(mode):04o})")


def cramped(path: Path) -> Iterator[Finding]:
    """Whether there is room at a path."""
    found = os.statvfs(path)
    room, share = found.f_bavail * found.f_frsize, found.f_bavail / max(found.f_blocks, 1)
    told = f"{room // MIB} MiB ({share:.0%}) are left at {path}"
    if room < NOTHING or (room < HARDLY and share < SHARE):
        yield critical(told)
    elif room < LITTLE and share < SHARE:
        yield warning(told)
    if found.f_files and found.f_favail / found.f_files < NODES:
        yield critical(f"hardly a file can be made any more at {path}: inodes are used up")


def secret_files(site: Site) -> Iterator[Path]:
    """Files of a core that hold something secret, whether they are there or not."""
    conf = site.conf
    yield site.vault.path
    yield Path(conf.join.ca_directory) / authority.FILE
    if conf.bus.broker != "none":
        yield Path(conf.bus.key_file)
        yield Path(conf.bus.management_password_file)
    yield from _tls_keys(conf)
    yield from _configuration(conf)
    file = _sqlite(conf)
    if file is not None and file.exists() and file.parent.stat().st_mode & (GROUP | OTHERS):
        yield file


def _tls_keys(conf: cfg.ConfigOpts) -> Iterator[Path]:
    if transport.is_in_process(conf):
        return
    try:
        transport.calls(conf)  # so that the driver's options are registered
    except CnsmoError:
        return
    options = tls_options(conf, oslo_messaging.TransportURL.parse(conf, conf.bus.url))
    if options and "keyfile" in options:
        yield Path(options["keyfile"])


def _configuration(conf: cfg.ConfigOpts) -> Iterator[Path]:
    """Files of the configuration that have a password."""
    secrets = [
        str(value)
        for value in (conf.bus.url, conf.bus.management_password, conf.database.connection)
        if value and ("@" in str(value) or value == conf.bus.management_password)
    ]
    for path in _read(conf):
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError):
            continue
        if any(secret in text for secret in secrets):
            yield path


def _read(conf: cfg.ConfigOpts) -> Iterable[Path]:
    """The files that the configuration comes from."""
    yield from map(Path, conf.config_file or conf.default_config_files or [])
    for folder in conf.config_dir or conf.default_config_dirs or []:
        yield from Path(folder).glob("*.conf")


def _directories(site: Site) -> Iterator[Path]:
    file = _sqlite(site.conf)
    if file is not None:
        yield file.parent
    yield site.vault.path.parent
    yield Path(site.conf.join.ca_directory)


def _sqlite(conf: cfg.ConfigOpts) -> Path | None:
    url = sa.make_url(conf.database.connection)
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


def _existing(path: Path) -> Path:
    """It, or the nearest directory above it that is there."""
    return next(it for it in (path, *path.absolute().parents) if it.exists())
