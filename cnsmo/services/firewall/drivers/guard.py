# SPDX-License-Identifier: Apache-2.0
"""The process that puts the last good ruleset back unless somebody confirms the new one.

It outlives the agent: ``python -I -S guard.py STATE_DIR``. It needs nothing but the standard
library, so that no mistake elsewhere keeps it from its work, and it is started, with all that it
needs in memory, before there is anything to watch: an agent waits for it with each change of rules,
and fifty hosts may be one machine. It connects to the agent's socket, and is told there which trial
to watch over, or that it may rest; it answers when it does. When the agent is gone it ends, but not
before the trial that it watches over has. While it watches it holds a lock on the trial's file,
which says so to everybody.

It puts rules in force as the agent does: stage() loads chains and sets of the names that are free,
with ``.a`` or ``.b`` at the end; bring_in() turns the chains that hook in to them, which is the one
moment of change, and sweeps the others away. One transaction for all would not be atomic to
packets: fresh interval sets look empty, and the maps of the old chains are, for 0.2 ms.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Nft = Callable[..., str]

GOOD, TRIAL_RULES, TRIAL, REFUSED, LOCK = (
    "good.nft", "trial.nft", "trial.json", "refused.json", "lock",
)  # fmt: skip
SOCKET = "guard.sock"
"""Where the agent waits for a guard that it has started."""
REST = b"rest"
"""The order to watch over nothing; any other is the id of a trial."""
LONGEST_ORDER = 100
TABLE = "inet cnsmo"
BASES = ("input", "output")
"""The chains that hook in."""
SLOTS = ("a", "b")
"""Ends of the names of all other chains and sets; rulesets on disk are in the first."""
STAGE, SWITCH = "# stage\n", "# switch\n"
"""What the parts of a ruleset's text begin with."""
_QUOTED_OR_SLOT = re.compile(r'"[^"]*"|\.[ab](?![\w.-])')
_JUMP = re.compile(r"(?m)^\s*jump \S+\.([ab])$")
PATIENCE_SECONDS = 60.0
"""How long an agent may hold the lock before it is taken for hung."""
BUSY_SECONDS = 0.05
"""How soon a lock that somebody holds is tried again."""
RETRY_SECONDS = 1.0
NFT_SECONDS = 30.0
MILLI = 1000
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"}


def main(args: list[str]) -> int:
    """Watch, look, put back; the exit code is 0 whatever was found."""
    os.umask(0o077)
    (folder,) = args
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as agent:
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        agent.connect(socket_name(at))
        os.close(at)
        serve(agent, Path(folder))
    return 0


def socket_name(folder: int) -> str:
    """Of the socket in an open folder: the whole name may be too long for one, see unix(7)."""
    return f"/proc/self/fd/{folder}/{SOCKET}"


def serve(agent: socket.socket, state_dir: Path) -> None:
    """Follow the agent's orders until it is gone, and nothing is on trial."""
    present, watch = True, None
    heard = select.poll()
    heard.register(agent, select.POLLIN)
    while present or watch:
        if not heard.poll(watch.pause * MILLI if watch else None):
            if watch and watch.is_over():
                watch.end()
                watch = None
            continue
        order = _order(agent)
        if order:
            watch = _obeyed(agent, order, watch, state_dir)
        else:
            present = False
            heard.unregister(agent)


def _order(agent: socket.socket) -> bytes:
    """The next order; empty when the agent is gone, however that came."""
    try:
        return agent.recv(LONGEST_ORDER)
    except OSError:
        return b""


def _obeyed(
    agent: socket.socket, order: bytes, watch: Watch | None, state_dir: Path
) -> Watch | None:
    """What is watched over from now on; what was before is not let go until then."""
    with contextlib.suppress(OSError):  # the agent waits in vain, or is gone
        fresh = None if order == REST else Watch(state_dir, order.decode())
        if watch is not None:
            watch.end()
        watch = fresh
        agent.send(order)
    return watch


class Watch:
    """Over one trial, from the moment on in which there is such an object."""

    def __init__(self, state_dir: Path, ident: str) -> None:
        self._dir, self._ident = state_dir, ident
        self._patient_until: float | None = None
        self._not_before = 0.0
        self._file = guard_file(state_dir, ident).open("a")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    @property
    def pause(self) -> float:
        """Seconds after which it has to be looked at."""
        wait = self._not_before - time.monotonic()
        return max(0.0, wait, _left(self._dir, self._ident))

    def end(self) -> None:
        """Watch no more."""
        with contextlib.suppress(FileNotFoundError):
            guard_file(self._dir, self._ident).unlink()
        self._file.close()

    def is_over(self) -> bool:
        """Decide what becomes of the trial once its time is up; False: look again after a pause."""
        if self.pause > 0:
            return False
        self._not_before = time.monotonic() + RETRY_SECONDS
        try:
            with open(self._dir / LOCK, "a") as lock:
                if self._may_decide(lock.fileno()):
                    return _settled(self._dir, self._ident)
        except FileNotFoundError:
            return True  # the folder is gone, and the firewall with it
        except OSError as exc:
            _complain(exc)
            return False
        self._not_before = time.monotonic() + BUSY_SECONDS
        return False

    def _may_decide(self, lock: int) -> bool:
        """Take the lock that an agent holds while it applies; go on without it if it hangs."""
        now = time.monotonic()
        if self._patient_until is None:
            self._patient_until = now + PATIENCE_SECONDS
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return now > self._patient_until
        self._patient_until = None
        return True


def _left(state_dir: Path, ident: str) -> float:
    """Seconds of the trial; the agent gives it more while it loads. None once it is given up."""
    trial = read_json(state_dir / TRIAL)
    return float(trial["deadline"]) - time.monotonic() if trial.get("id") == ident else 0.0


def guard_file(state_dir: Path, ident: str) -> Path:
    """The file that the guard of a trial holds while it lives; its process id is in it."""
    return state_dir / f"guard-{ident}"


def guard_pid(state_dir: Path, ident: str) -> int | None:
    """Process id, in its own namespace, of the guard of a trial; None when none is armed."""
    try:
        with guard_file(state_dir, ident).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read().strip()
                return int(text) if text.isdecimal() else None
    except FileNotFoundError:
        pass
    return None


def read_json(path: Path) -> dict[str, Any]:
    """A file's object; empty where there is none, or a torn one."""
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _settled(state_dir: Path, ident: str) -> bool:
    """Decide what becomes of the trial; False: it could not be done, and has to be tried again."""
    trial = read_json(state_dir / TRIAL)
    if not trial or not (state_dir / TRIAL_RULES).exists():
        return True  # confirmed, or given up
    if trial.get("id") != ident and guard_pid(state_dir, str(trial.get("id"))) is not None:
        return True  # replaced by another trial, which has a guard of its own
    if _left(state_dir, ident) > 0:
        return False  # it took long to load
    return _revert(state_dir, trial)


def _revert(state_dir: Path, trial: dict[str, Any]) -> bool:
    try:
        put_back(_nft, (state_dir / GOOD).read_text(encoding="utf-8"))
        seconds = trial.get("seconds", "?")
        reason = f"no answer from the core within {seconds} s; the last good policy is back"
        refused = {"fingerprint": trial.get("fingerprint"), "reason": reason}
        fresh = state_dir / f"{REFUSED}.guard.new"
        fresh.write_text(json.dumps(refused))
        fresh.replace(state_dir / REFUSED)
    except (OSError, subprocess.SubprocessError) as exc:
        _complain(exc)
        return False
    (state_dir / TRIAL_RULES).unlink(missing_ok=True)
    (state_dir / TRIAL).unlink(missing_ok=True)
    return True


def _complain(exc: Exception) -> None:
    sys.stderr.write(f"the last good ruleset cannot be loaded: {exc}\n")
    sys.stderr.flush()


def put_back(nft: Nft, text: str) -> None:
    """Bring a whole ruleset in force; where its parts are refused, in one transaction.

    nft: runs nft(8) with arguments and ``stdin``, gives its output; raises when it fails.
    """
    try:
        bring_in(nft, *stage(nft, text))
    except (subprocess.SubprocessError, ValueError):
        nft("-f", "-", stdin=text)


def stage(nft: Nft, text: str) -> tuple[str, str]:
    """Load a ruleset beside the one in force; nothing of it is in force yet.

    :return: its slot, and the text that brings it in force.
    """
    there = _objects(nft)
    used = _used(nft, there)
    free = free_slot(used)
    staged, switch = parts(text)
    _sweep(nft, there, used)
    nft("-f", "-", stdin=in_slot(staged, free))
    return free, in_slot(switch, free)


def parts(text: str) -> tuple[str, str]:
    """What is staged of a ruleset, and what brings it in force."""
    _start, stage_mark, rest = text.partition(f"\n{STAGE}")
    staged, switch_mark, switch = rest.partition(f"\n{SWITCH}")
    if not stage_mark or not switch_mark:
        raise ValueError("a ruleset without its marks")
    return f"{staged}\n", switch


def free_slot(used: str | None) -> str:
    """The slot beside the one in force."""
    return SLOTS[1] if used == SLOTS[0] else SLOTS[0]


def bring_in(nft: Nft, slot: str, switch: str) -> None:
    """Bring in force what was staged; what was in force is swept away."""
    nft("-f", "-", stdin=switch)
    sweep(nft, slot)


def in_slot(text: str, slot: str) -> str:
    """The same commands about the names of a slot."""
    if slot == SLOTS[0]:
        return text
    marks = tuple(f".{it}" for it in SLOTS)
    return "".join(
        _QUOTED_OR_SLOT.sub(lambda it: f".{slot}" if it[0][0] == "." else it[0], line)
        if any(mark in line for mark in marks)  # few of thousands of rules name one
        else line
        for line in text.splitlines(keepends=True)
    )


def slot_in_force(nft: Nft) -> str | None:
    """Where the chains that hook in lead to; None: nowhere, or to both."""
    return _used(nft, _objects(nft))


def _used(nft: Nft, there: list[tuple[str, str]]) -> str | None:
    bases = [name for kind, name in there if kind == "chain" and name in BASES]
    shown = "\n".join(nft("list", "chain", *TABLE.split(), name) for name in bases)
    found = set(_JUMP.findall(shown))
    return found.pop() if len(found) == 1 else None


def sweep(nft: Nft, slot: str | None) -> None:
    """Delete whatever does not belong to a slot, nor hooks in by right."""
    _sweep(nft, _objects(nft), slot)


def _sweep(nft: Nft, there: list[tuple[str, str]], slot: str | None) -> None:
    rest = [it for it in there if it[1] not in BASES and not it[1].endswith(f".{slot}")]
    lines = [f"flush chain {TABLE} {name}\n" for kind, name in rest if kind == "chain"]
    lines += [f"delete {kind} {TABLE} {name}\n" for kind, name in rest]
    if lines:
        nft("-f", "-", stdin="".join(lines))


def _objects(nft: Nft) -> list[tuple[str, str]]:
    """Kind and name of what is in our table, chains first."""
    family, table = TABLE.split()
    asked = "; ".join(f"list {kinds} {family}" for kinds in ("chains", "sets", "maps"))
    answers = map(json.loads, nft("-j", "-t", asked).splitlines())
    entries = [it for answer in answers for it in answer["nftables"]]
    found = [next(iter(it.items())) for it in entries]
    return [(kind, it["name"]) for kind, it in found if it.get("table") == table]


def _nft(*args: str, stdin: str = "") -> str:
    return subprocess.run(
        ["nft", *args], input=stdin, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
        timeout=NFT_SECONDS, check=True,
    ).stdout  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
