# SPDX-License-Identifier: Apache-2.0
"""The process that puts the last good ruleset back unless somebody confirms the new one.

It outlives the agent: ``python -I -S guard.py STATE_DIR TRIAL``. It needs nothing but the standard
library, so that no mistake elsewhere keeps it from its work, and of that only the lightest before
it is armed: an agent waits for that with each change of rules, and fifty hosts may be one machine.
While it lives it holds a lock on its file, which says so to everybody.

It puts rules in force as the agent does: stage() loads chains and sets of the names that are free,
with ``.a`` or ``.b`` at the end; bring_in() turns the chains that hook in to them, which is the one
moment of change, and sweeps the others away. One transaction for all would not be atomic to
packets: fresh interval sets look empty, and the maps of the old chains are, for 0.2 ms.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType
    from typing import Any, TextIO

    Nft = Callable[..., str]

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
_QUOTED_OR_SLOT = r'"[^"]*"|\.[ab](?![\w.-])'
_JUMP = r"(?m)^\s*jump \S+\.([ab])$"
PATIENCE_SECONDS = 60.0
"""How long an agent may hold the lock before it is taken for hung."""
RETRY_SECONDS = 1.0
POLITE_SECONDS = 0.5
"""How long it leaves the processor to the agent that it guards, before it gets ready itself."""
NFT_SECONDS = 30.0
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"}


def main(args: list[str]) -> int:
    """Wait, look, put back; the exit code is 0 whatever was found."""
    os.umask(0o077)
    folder, ident = args
    mine = f"{folder}/guard-{ident}"
    with open(mine, "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(f"{os.getpid()}\n")
        held.flush()
        time.sleep(POLITE_SECONDS)
        _watch(_prepare(folder), ident)
        _remove(mine)
    return 0


def _prepare(folder: str) -> Path:
    """Have in memory what is needed at the deadline, whatever becomes of the disk until then."""
    import json  # noqa: F401
    import re  # noqa: F401
    import signal  # noqa: F401
    import subprocess  # noqa: F401
    from pathlib import Path

    return Path(folder)


def _watch(state_dir: Path, ident: str) -> None:
    """Be there until the trial is no trial any more."""
    if read_json(state_dir / TRIAL).get("id") != ident:
        return  # given up before this process was armed
    while (left := _left(state_dir, ident)) > 0:
        time.sleep(left)
    while not _settled(state_dir, ident):
        time.sleep(max(RETRY_SECONDS, _left(state_dir, ident)))


def _left(state_dir: Path, ident: str) -> float:
    """Seconds of the trial; the agent gives it more while it loads. None once it is given up."""
    trial = read_json(state_dir / TRIAL)
    return float(trial["deadline"]) - time.monotonic() if trial.get("id") == ident else 0.0


def _remove(path: str) -> None:
    import contextlib

    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


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
    import json

    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _settled(state_dir: Path, ident: str) -> bool:
    """Decide what becomes of the trial; False: it could not be done, and has to be tried again."""
    with open(state_dir / LOCK, "a") as lock:
        _take(lock)
        trial = read_json(state_dir / TRIAL)
        if not trial or not (state_dir / TRIAL_RULES).exists():
            return True  # confirmed, or given up
        if trial.get("id") != ident and guard_pid(state_dir, str(trial.get("id"))) is not None:
            return True  # replaced by another trial, which has a guard of its own
        if _left(state_dir, ident) > 0:
            return False  # it took long to load
        return _revert(state_dir, trial)


def _revert(state_dir: Path, trial: dict[str, Any]) -> bool:
    import json
    import subprocess

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
    """Bring a whole ruleset in force; where its parts are refused, in one transaction.

    nft: runs nft(8) with arguments and ``stdin``, gives its output; raises when it fails.
    """
    import subprocess

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
    free = SLOTS[1] if used == SLOTS[0] else SLOTS[0]
    _start, stage_mark, rest = text.partition(f"\n{STAGE}")
    staged, switch_mark, switch = rest.partition(f"\n{SWITCH}")
    if not stage_mark or not switch_mark:
        raise ValueError("a ruleset without its marks")
    _sweep(nft, there, used)
    nft("-f", "-", stdin=in_slot(f"{staged}\n", free))
    return free, in_slot(switch, free)


def bring_in(nft: Nft, slot: str, switch: str) -> None:
    """Bring in force what was staged; what was in force is swept away."""
    nft("-f", "-", stdin=switch)
    sweep(nft, slot)


def in_slot(text: str, slot: str) -> str:
    """The same commands about the names of a slot."""
    import re

    if slot == SLOTS[0]:
        return text
    marks = tuple(f".{it}" for it in SLOTS)
    named = re.compile(_QUOTED_OR_SLOT)
    return "".join(
        named.sub(lambda it: f".{slot}" if it[0][0] == "." else it[0], line)
        if any(mark in line for mark in marks)  # few of thousands of rules name one
        else line
        for line in text.splitlines(keepends=True)
    )


def slot_in_force(nft: Nft) -> str | None:
    """Where the chains that hook in lead to; None: nowhere, or to both."""
    return _used(nft, _objects(nft))


def _used(nft: Nft, there: list[tuple[str, str]]) -> str | None:
    import re

    bases = [name for kind, name in there if kind == "chain" and name in BASES]
    shown = "\n".join(nft("list", "chain", *TABLE.split(), name) for name in bases)
    found = set(re.findall(_JUMP, shown))
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
    import json

    family, table = TABLE.split()
    asked = "; ".join(f"list {kinds} {family}" for kinds in ("chains", "sets", "maps"))
    answers = map(json.loads, nft("-j", "-t", asked).splitlines())
    entries = [it for answer in answers for it in answer["nftables"]]
    found = [next(iter(it.items())) for it in entries]
    return [(kind, it["name"]) for kind, it in found if it.get("table") == table]


def _nft(*args: str, stdin: str = "") -> str:
    import subprocess

    return subprocess.run(
        ["nft", *args], input=stdin, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
        timeout=NFT_SECONDS, check=True,
    ).stdout  # fmt: skip


def _take(lock: TextIO) -> None:
    """Take the lock that an agent holds while it applies; go on without it if that one hangs."""
    import contextlib
    import signal

    earlier = signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
    with contextlib.suppress(TimeoutError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, earlier)


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
