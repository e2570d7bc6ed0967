# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage: what operators do."""

from __future__ import annotations

import gc
import logging
import sys

SELDOM = 200_000
"""So many objects more there have to be until garbage is looked for: most commands are over by
then, and those that watch for days have not much of it."""
gc.set_threshold(SELDOM)

from cnsmo.manage import app  # noqa: E402


def main() -> int:
    """Entry point."""
    argv = sys.argv[1:]
    _log(debug="--debug" in argv)
    forwarded = app.forward(argv)
    if forwarded is not None:
        return forwarded
    return app.run(argv, sys.stdin, sys.stdout, sys.stderr, embed=True)


def _log(debug: bool) -> None:
    """Warnings go to the terminal; from the messaging library only what went wrong."""
    level = logging.INFO if debug else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    if not debug:
        logging.getLogger("oslo.messaging").setLevel(logging.ERROR)
        logging.getLogger("amqp").setLevel(logging.ERROR)  # it warns of every channel it closes


if __name__ == "__main__":
    sys.exit(main())
