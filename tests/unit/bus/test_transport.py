# SPDX-License-Identifier: Apache-2.0
"""The way to the broker, before there is one."""

import subprocess
import sys
from pathlib import Path

from tests.eventually import eventually

ORPHAN = """
import os, sys
import cnsmo.cmd
from cnsmo import conf
from cnsmo.bus import transport
leader = os.getpgrp()
while os.path.exists(f"/proc/{leader}/stat"):  # it has nothing else to do than to end
    os.sched_yield()
conf.register()
conf.CONF([])
transport.calls(conf.CONF, "rabbit://a:b@localhost:1/x?use_queue_manager=true&hostname=h")
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpgrp() == os.getpid()))
"""


def test_who_was_started_by_a_script_that_ended_can_use_the_bus(tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = 'cd "$1" && "$2" -c "$3" "$4" &'
    words = ["sh", "-c", script, "sh", Path.cwd(), sys.executable, ORPHAN, said]
    subprocess.run(words, check=True, start_new_session=True)
    eventually(lambda: said.exists() and said.read_text(), 30, "the orphan is through")
    assert said.read_text() == "True"
