# SPDX-License-Identifier: Apache-2.0
"""Who may connect to the hub, and as whom: files that openvpn reads on every handshake.

They change under the running daemon, so that a member comes or goes without a word to the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cnsmo.model.errors import DriverError
from cnsmo.services.kit.private_files import (
    ensure_directory,
    read_private,
    remove_tree,
    write_private,
)
from cnsmo.services.vpn.drivers.certificate import issuer_pem
from cnsmo.services.vpn.drivers.openvpn_config import (
    CLIENTS,
    ISSUER,
    MEMBERS,
    SEEN,
    VERIFY,
    VERIFY_SCRIPT,
    Plan,
)
from cnsmo.services.vpn.drivers.openvpn_management import Session

GOES = {MEMBERS: "may no longer connect", CLIENTS: "has no networks any more"}
COMES = {MEMBERS: "may connect", CLIENTS: "has its networks"}


class MemberFiles:
    """The files of the hub in state_dir; on other hosts there are none."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def drift(self, plan: Plan) -> list[str]:
        """What is not as planned, one line each."""
        if not plan.serves:
            return []
        members, clients = self._wanted(plan)
        found = [f"{name} may connect, and shall not" for name in self._extra(MEMBERS, members)]
        found += [f"{name} may not connect, and shall" for name in self._wrong(MEMBERS, members)]
        found += [f"the networks of {name} are wrong" for name in self._wrong(CLIENTS, clients)]
        found += [f"there are networks for {name}" for name in self._extra(CLIENTS, clients)]
        if read_private(self._state_dir / VERIFY) != VERIFY_SCRIPT:
            found.append(f"{VERIFY} was changed")
        return found

    def converge(self, plan: Plan) -> list[str]:
        """Write and delete what differs; first who goes, then who comes.

        :return: what was changed, one line each.
        :raises DriverError: when a file cannot be written or deleted.
        """
        if not plan.serves:
            for name in (MEMBERS, CLIENTS, SEEN):
                remove_tree(self._state_dir / name)
            return []
        members, clients = self._wanted(plan)
        changes = []
        for folder, wanted in ((MEMBERS, members), (CLIENTS, clients)):
            ensure_directory(self._state_dir / folder)
            for name in self._extra(folder, wanted):
                _unlink(self._state_dir / folder / name)
                changes.append(f"{_short(name)} {GOES[folder]}")
        ensure_directory(self._state_dir / SEEN)
        if read_private(self._state_dir / VERIFY) != VERIFY_SCRIPT:
            write_private(self._state_dir / VERIFY, VERIFY_SCRIPT)
        if read_private(self._state_dir / ISSUER) is None:
            write_private(self._state_dir / ISSUER, issuer_pem())
        for folder, wanted in ((CLIENTS, clients), (MEMBERS, members)):
            for name in self._wrong(folder, wanted):
                write_private(self._state_dir / folder / name, wanted[name])
                changes.append(f"{_short(name)} {COMES[folder]}")
        return changes

    def unwelcome(self, plan: Plan, sessions: Iterable[Session]) -> dict[str, Session]:
        """The sessions that would not come about any more today, by the reason."""
        found = {}
        for session in sessions:
            reason = self._objection(plan, session)
            if reason:
                found[f"{session.host} ({session.endpoint}) {reason}"] = session
        return found

    def _objection(self, plan: Plan, session: Session) -> str:
        if session.host not in plan.clients:
            return "is connected and no member"
        seen = (read_private(self._state_dir / SEEN / session.host) or "").strip()
        if seen and f"{session.host}.{seen}" not in plan.members:
            return "is connected with a certificate that is no longer its own"
        # Without networks it is still shaking hands, and will get what is right by now.
        if session.networks and session.networks != plan.networks[session.host]:
            return "is connected with other addresses than its own"
        return ""

    def _wanted(self, plan: Plan) -> tuple[Mapping[str, str], Mapping[str, str]]:
        return dict.fromkeys(plan.members, ""), plan.clients

    def _extra(self, folder: str, wanted: Mapping[str, str]) -> list[str]:
        path = self._state_dir / folder
        there = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        return sorted(there - set(wanted))

    def _wrong(self, folder: str, wanted: Mapping[str, str]) -> list[str]:
        path = self._state_dir / folder
        return sorted(name for name, text in wanted.items() if read_private(path / name) != text)


def _short(name: str) -> str:
    """A file's name for the eye: the host, and the beginning of the fingerprint."""
    host, dot, digest = name.partition(".")
    return f"{host}{dot}{digest[:11]}"


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise DriverError(f"{path} cannot be deleted: {exc.strerror}") from exc
