# SPDX-License-Identifier: Apache-2.0
"""The process of a lab's hub; started by the lab itself: ``DIRECTORY READY-SOCKET``."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from cnsmo import conf
from cnsmo.lab.hub import Caller, Hub, Sink, configure, tell_ready
from cnsmo.lab.lab import Lab
from cnsmo.manage import app


class _Sink(io.StringIO):
    """A text stream that hands on what is written to it."""

    def __init__(self, hand_on: Sink) -> None:
        super().__init__()
        self._hand_on = hand_on

    def write(self, text: str) -> int:
        """Hand on."""
        self._hand_on(text)
        return len(text)


def _run(argv: Sequence[str], caller: Caller, out: Sink, err: Sink) -> int:
    stdin, directory, env = caller
    streams = (io.StringIO(stdin), _Sink(out), _Sink(err))
    return app.run(list(argv), *streams, env=env, cwd=directory)


def main() -> int:
    """Entry point."""
    directory, ready = Path(sys.argv[1]), sys.argv[2]
    conf.load([], program="cnsmo-lab-hub")
    configure(conf.CONF, directory)
    hub = Hub(Lab.load(directory), conf.CONF, _run)
    signal.signal(signal.SIGTERM, lambda *_: hub.stop())

    def tell() -> None:
        os.chdir(directory)
        tell_ready(ready)
        os.chdir("/")

    hub.serve(tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
