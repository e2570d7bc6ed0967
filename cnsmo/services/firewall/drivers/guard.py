# SPDX-License-Identifier: Apache-2.0
"""The process that puts the last good ruleset back unless somebody confirms the new one.

It outlives the agent: ``python -m cnsmo.services.firewall.drivers.guard STATE_DIR TRIAL``. It needs
nothing but the standard library, so that it is armed within milliseconds and no mistake elsewhere
keeps it from its work. While it lives it holds a lock on its file, which says so to everybody.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

GOOD, TRIAL_RULES, TRIAL, REFUSED, LOCK = (
    "good.nft", "trial.nft", "trial.json", "refused.json", "lock",
)  # fmt: skip
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
        subprocess.run(
            ["nft", "-f", str(state_dir / GOOD)],
            stdin=subprocess.DEVNULL, env=ENVIRONMENT, timeout=NFT_SECONDS, check=True,
        )  # fmt: skip
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
