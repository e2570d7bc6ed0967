# SPDX-License-Identifier: Apache-2.0
"""The way to the broker, before there is one."""

import subprocess
import sys
from pathlib import Path

from oslo_config import cfg

from cnsmo.bus import transport
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


DRAWN = """
import cnsmo.cmd
from cnsmo.bus import transport
from cnsmo import conf
conf.register()
conf.CONF([])
transport.calls(conf.CONF, "rabbit://a:b@localhost:1/x")
group = conf.CONF.oslo_messaging_rabbit
print(group.kombu_reconnect_delay, group.rabbit_retry_interval, group.rabbit_interval_max)
"""


def test_each_process_draws_the_pauses_after_which_it_returns_to_a_lost_broker() -> None:
    """So that a thousand of them do not return together."""
    drawn = {
        subprocess.run(
            [sys.executable, "-c", DRAWN], capture_output=True, text=True, check=True
        ).stdout
        for _process in range(4)
    }
    assert len(drawn) > 1
    for text in drawn:
        added, shortest, longest = map(float, text.split())
        assert 0.1 <= added <= 2.5
        assert shortest in (1, 2)
        assert 8 <= longest <= 12


def test_queues_of_calls_are_quorum_queues_where_that_is_wanted(conf: cfg.ConfigOpts) -> None:
    url = "rabbit://a:b@one:1,a:b@two:2/x"
    conf.set_override("url", url, "bus")
    assert "quorum" not in str(transport.calls(conf)._driver._url)
    transport.close()
    conf.set_override("quorum_queues", True, "bus")
    assert transport.calls(conf)._driver._url.query["rabbit_quorum_queue"] == "true"
    assert transport.listening(conf)._driver._url.query["rabbit_quorum_queue"] == "false"
    assert len(transport.calls(conf)._driver._url.hosts) == 2
