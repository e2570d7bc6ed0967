# SPDX-License-Identifier: Apache-2.0
"""The certificates on this host: looked at, and copied to where haproxy reads them.

A copy is named after its file's path and content, so another content is another configuration, and
the earlier one stays usable until the new one is in force. A file that cannot be used any more does
not end the service: the last good copy stays, and the operator is told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cnsmo.model.errors import DriverError
from cnsmo.services.base import System
from cnsmo.services.kit.private_files import read_private, remove_tree, write_private
from cnsmo.services.loadbalancer.desired import Tls
from cnsmo.services.loadbalancer.drivers import hap_text as text
from cnsmo.services.loadbalancer.drivers.hap_host import Material
from cnsmo.services.loadbalancer.drivers.hap_pem import Validity, check_pair, read_chain

FOLDER = "certificates"
SEEN_FROM_JAIL = f"../{FOLDER}"


@dataclasses.dataclass(frozen=True)
class Certificates:
    """``material``: as the configuration calls it. ``copies``: names and contents of the files that
    it needs. ``validity``: of each certificate, by its path. ``problems``: one line each."""

    material: Material | None = None
    copies: dict[str, str] = dataclasses.field(default_factory=dict)
    validity: dict[str, Validity] = dataclasses.field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def told(self, now: datetime.datetime) -> list[str]:
        """All that is wrong with them."""
        doubts = [
            f"certificate {path} {doubt}"
            for path, it in self.validity.items()
            if (doubt := it.doubt(now))
        ]
        return [*self.problems, *doubts]

    @property
    def detail(self) -> dict[str, Any]:
        """For the operator's eyes."""
        return {
            path: {"names": list(it.names), "expires": it.ends.isoformat()}
            for path, it in self.validity.items()
        }


class CertificateStore:
    """The folder ``certificates`` of a unit."""

    def __init__(self, system: System, state_dir: Path) -> None:
        self._system = system
        self._folder = state_dir / FOLDER
        self._refused: set[str] = set()

    def refused(self, found: Certificates, said: str) -> bool:
        """Take note of the copies that haproxy refused, by what it said; they are not used again.

        :return: whether there were any.
        """
        names = {name for name in found.copies if f"/{name}'" in said or f"/{name}:" in said}
        self._refused |= names
        return bool(names)

    def find(self, tls: Tls | None) -> Certificates:
        """What is there to be used; nothing is written.

        :raises DriverError: when nothing is left that could be served.
        """
        if tls is None:
            return Certificates()
        wanted = [text.file(path) for path in tls.certificates]
        authority = text.file(tls.client_ca) if tls.client_ca else ""
        digests = self._digests([*wanted, *filter(None, [authority])])
        copies: dict[str, str] = {}
        validity: dict[str, Validity] = {}
        problems: list[str] = []
        names = []
        for path in dict.fromkeys(wanted):
            name, content = self._usable(path, digests, check_pair, problems)
            if name:
                names.append(name)
                copies[name], validity[path] = content, read_chain(content)
        if not names:
            raise DriverError("; ".join(problems) or "tls needs a certificate")
        list_ = "".join(f"{SEEN_FROM_JAIL}/{name}\n" for name in names)
        list_name = f"list-{hashlib.sha256(list_.encode()).hexdigest()[:32]}"
        copies[list_name] = list_
        chain = ""
        if authority:
            chain, content = self._usable(authority, digests, read_chain, problems)
            if not chain:
                raise DriverError("; ".join(problems))
            copies[chain], validity[authority] = content, read_chain(content)
        material = Material(f"{SEEN_FROM_JAIL}/{list_name}", chain and f"{SEEN_FROM_JAIL}/{chain}")
        return Certificates(material, copies, validity, tuple(problems))

    def put(self, found: Certificates) -> None:
        """Write the copies that are not there yet.

        :raises DriverError: when that fails.
        """
        for name, content in found.copies.items():
            if read_private(self._folder / name) != content:
                write_private(self._folder / name, content)

    def clean(self, found: Certificates) -> None:
        """Delete the copies that are not needed any more."""
        if not found.copies:
            remove_tree(self._folder)
        elif self._folder.exists():
            for path in self._folder.iterdir():
                if path.name not in found.copies:
                    path.unlink(missing_ok=True)

    def intact(self, found: Certificates) -> bool:
        """Whether all copies are as they were made."""
        return all(read_private(self._folder / name) == it for name, it in found.copies.items())

    def _usable(
        self,
        path: str,
        digests: dict[str, str],
        check: Callable[[str], object],
        problems: list[str],
    ) -> tuple[str, str]:
        """Name and content of the copy of a file, else of its last good one, else nothing."""
        mark = hashlib.sha256(path.encode()).hexdigest()[:12]
        name = f"{mark}-{digests.get(path, '')[:32]}.pem"
        known = read_private(self._folder / name) or ""
        same = path in digests and hashlib.sha256(known.encode()).hexdigest() == digests[path]
        try:
            content = known if same else self._read(path)
            check(content)
            if name in self._refused:
                raise ValueError("is refused by haproxy")
        except ValueError as exc:
            earlier, content = self._earlier(mark, check)
            stays = "; its last good copy stays in use" if earlier else ""
            problems.append(f"certificate {path} {exc}{stays}")
            return earlier, content
        return name, content

    def _read(self, path: str) -> str:
        done = self._system.run("cat", "--", path, ok=(0, 1))
        if done.code != 0:
            raise ValueError(f"cannot be read: {done.stderr.strip().rpartition(': ')[2]}")
        return done.stdout

    def _earlier(self, mark: str, check: Callable[[str], object]) -> tuple[str, str]:
        """Name and content of the newest copy of a file, if there is one that can be used."""
        found = self._folder.glob(f"{mark}-*.pem")
        for path in sorted(found, key=lambda it: it.stat().st_mtime_ns, reverse=True):
            content = read_private(path) or ""
            with contextlib.suppress(ValueError):
                check(content)
                if path.name not in self._refused:
                    return path.name, content
        return "", ""

    def _digests(self, paths: Iterable[str]) -> dict[str, str]:
        """Of the files that can be read."""
        shown = self._system.run("sha256sum", "--", *paths, ok=(0, 1)).stdout
        pairs = (line.split("  ", 1) for line in shown.splitlines())
        return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}
