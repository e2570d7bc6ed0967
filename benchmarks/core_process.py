# SPDX-License-Identifier: Apache-2.0
"""A core alone in its process, which tells what it has cost so far. ``CONFIG-FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

import cnsmo.cmd  # noqa: F401  chooses the threading backend
from benchmarks.child import serve
from benchmarks.meter import Meter
from cnsmo import conf
from cnsmo.core.server import CoreServer
from cnsmo.state import schema
from cnsmo.state.engine import make_engine
from cnsmo.state.vault import vault_of


def main() -> None:
    """Entry point of the helper process."""
    conf.load(["--config-file", sys.argv[1]])
    meter = Meter()
    engine = make_engine(conf.CONF)
    schema.upgrade(engine)
    if not Path(conf.CONF.secrets.key_file).exists():  # a second core has the first one's
        vault_of(conf.CONF).create()
    CoreServer(conf.CONF, engine).start()
    serve(lambda _question: meter.read())


if __name__ == "__main__":
    main()
