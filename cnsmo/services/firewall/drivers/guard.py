# SPDX-License-Identifier: Apache-2.0
"""The process that puts the last good ruleset back unless somebody confirms the new one.

It outlives the agent: ``python -m cnsmo.services.firewall.drivers.guard STATE_DIR TRIAL``. It needs
nothing but the standard library, so that it is armed within milliseconds and no mistake elsewhere
keeps it from its work. While it lives it holds a lock on its file, which says so to everybody.

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
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

GOOD, TRIAL_RULES, TRIAL, REFUSED, LOCK = (
    "good.nft", "trial.nft", "trial.json", "refused.json", "lock",
)  # fmt: skip
TABLE = "inet cnsmo"
BASES = ("input", "output")
"""The chains that hook in."""
SLOTS = ("a", "b")
"""Ends of the names of all other chains and sets; rulesets on disk are in the first."""
STAGE, SWITCH = "# stage\n", "# switch\n"
"""What the parts of a ruleset's text begin with."""
_QUOTED_OR_SLOT = re.compile(r'"[^"]*"|\.[ab](?![\w.-])')
_JUMP = re.compile(r"^\s*jump \S+\.([ab])$", re.MULTILINE)
Nft = Callable[..., str]
"""Runs nft(8) with arguments and ``stdin``, gives its output; raises when it fails."""
PATIENCE_SECONDS = 60.0
"""How long an agent may hold the lock before it is taken for hung."""
RETRY_SECONDS = 1.0
NFT_SECONDS = 30.0
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"}


def main(args: list[str]) -> int:
    """Wait, look, put back; the exit code is 0 whatever was found."""
    os.umask(0o077)
    state_dir, ident = Path(args[0]), args[1]
    mine = guard_file(state_dir, ident)
    with mine.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(f"{os.getpid()}\n")
        held.flush()
        trial = read_json(state_dir / TRIAL)
        if trial.get("id") == ident:  # not given up before this process was armed
            while (left := float(trial["deadline"]) - time.monotonic()) > 0:
                time.sleep(left)
            while not _settled(state_dir, ident):
                time.sleep(RETRY_SECONDS)
        mine.unlink(missing_ok=True)
    return 0


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
    with _locked(state_dir / LOCK):
        trial = read_json(state_dir / TRIAL)
        if not trial or not (state_dir / TRIAL_RULES).exists():
            return True  # confirmed, or given up
        if trial.get("id") != ident and guard_pid(state_dir, str(trial.get("id"))) is not None:
            return True  # replaced by another trial, which has a guard of its own
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
        sys.stderr.write(f"the last good ruleset cannot be loaded: {exc}\n")
        return False
    (state_dir / TRIAL_RULES).unlink(missing_ok=True)
    (state_dir / TRIAL).unlink(missing_ok=True)
    return True


def put_back(nft: Nft, text: str) -> None:
    """Bring a whole ruleset in force; where its parts are refused, in one transaction."""
    try:
        bring_in(nft, *stage(nft, text))
    except (subprocess.SubprocessError, ValueError):
        nft("-f", "-", stdin=text)


def stage(nft: Nft, text: str) -> tuple[str, str]:
    """Load a ruleset beside the one in force; nothing of it is in force yet.

    :return: its slot, and the text that brings it in force.
    """
    used = slot_in_force(nft)
    free = SLOTS[1] if used == SLOTS[0] else SLOTS[0]
    _start, staged, switch = re.split(f"^{STAGE}|^{SWITCH}", text, flags=re.MULTILINE)
    sweep(nft, used)
    nft("-f", "-", stdin=in_slot(staged, free))
    return free, in_slot(switch, free)


def bring_in(nft: Nft, slot: str, switch: str) -> None:
    """Bring in force what was staged; what was in force is swept away."""
    nft("-f", "-", stdin=switch)
    sweep(nft, slot)


def in_slot(text: str, slot: str) -> str:
    """The same commands about the names of a slot."""
    if slot == SLOTS[0]:
        return text
    return _QUOTED_OR_SLOT.sub(lambda it: f".{slot}" if it[0][0] == "." else it[0], text)


def slot_in_force(nft: Nft) -> str | None:
    """Where the chains that hook in lead to; None: nowhere, or to both."""
    bases = [name for kind, name in _objects(nft, "chains") if name in BASES]
    shown = "\n".join(nft("list", "chain", *TABLE.split(), name) for name in bases)
    found = set(_JUMP.findall(shown))
    return found.pop() if len(found) == 1 else None


def sweep(nft: Nft, slot: str | None) -> None:
    """Delete whatever does not belong to a slot, nor hooks in by right."""
    there = [*_objects(nft, "chains"), *_objects(nft, "sets"), *_objects(nft, "maps")]
    rest = [it for it in there if it[1] not in BASES and not it[1].endswith(f".{slot}")]
    lines = [f"flush chain {TABLE} {name}\n" for kind, name in rest if kind == "chain"]
    lines += [f"delete {kind} {TABLE} {name}\n" for kind, name in rest]
    if lines:
        nft("-f", "-", stdin="".join(lines))


def _objects(nft: Nft, kinds: str) -> list[tuple[str, str]]:
    """Kind and name of what is in our table."""
    family, table = TABLE.split()
    listed = json.loads(nft("-j", "-t", "list", kinds, family))["nftables"]
    found = [next(iter(it.items())) for it in listed]
    return [(kind, it["name"]) for kind, it in found if it.get("table") == table]


def _nft(*args: str, stdin: str = "") -> str:
    return subprocess.run(
        ["nft", *args], input=stdin, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
        timeout=NFT_SECONDS, check=True,
    ).stdout  # fmt: skip


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock that an agent holds while it applies; go on without it if that one hangs."""
    with path.open("a") as file:
        earlier = signal.signal(signal.SIGALRM, _give_up)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
        with contextlib.suppress(TimeoutError):
            fcntl.flock(file, fcntl.LOCK_EX)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
        yield


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
