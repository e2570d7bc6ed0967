# SPDX-License-Identifier: Apache-2.0
"""The process that checks the servers of one balancer, whether an agent lives or not.

It is run by its path, ``python -I -S nfl_checker.py STATE_DIR``, with nothing but the standard
library and the modules of ours that need no more: so it is at work within a moment, takes little
memory, and no broken package keeps it from its work. What it does is in nfl_watch.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TOP = Path(__file__).resolve().parents[4]
"""Where the package lies."""
PROGRAM_SECONDS = 30.0
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
    "LC_ALL": "C",
}


def main(args: list[str]) -> int:
    """Check until nothing is wanted any more; 1 where another one does already."""
    sys.path.insert(0, str(TOP))
    from cnsmo.services.loadbalancer.drivers.nfl_files import Files
    from cnsmo.services.loadbalancer.drivers.nfl_watch import Watch

    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a socket for each check under way
    files = Files(Path(args[0]), writer=".checker")
    with files.hold() as mine:
        if not mine:
            return 1
        watch = Watch(files, run)
        while watch.go_on():
            files.beat()
    return 0


def run(*args: str, stdin: str | None = None, ok: Sequence[int] = (0,)) -> str:
    """Run a program to its end; what it printed.

    :raises ProgramError: when its exit code is not in ok, it takes too long, or is missing.
    """
    from cnsmo.model.errors import ProgramError

    try:
        done = subprocess.run(
            args, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=PROGRAM_SECONDS,
            env=ENVIRONMENT, cwd="/", check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as exc:
        raise ProgramError(f"{args[0]} cannot be run: {exc}") from exc
    if done.returncode not in ok:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise ProgramError(f"{args[0]} ended with {done.returncode}: {said}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
