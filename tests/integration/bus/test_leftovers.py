# SPDX-License-Identifier: Apache-2.0
"""Nothing piles up in the broker, however our programs end."""

import re
import sys

from cnsmo.bus.events import Watch
from cnsmo.services import registry
from tests.beds import RabbitmqBed
from tests.beds.erlang import binary
from tests.beds.process import ServerProcess
from tests.eventually import eventually
from tests.integration.fleet import Fleet

KEPT = {"cnsmo-core", "cnsmo-core.core", "cnsmo-operator", "cnsmo-operator.core"}
"""Where calls wait for a core; what waits there has the caller's own time-out."""
WATCHER = """
import sys, time, cnsmo.cmd
from cnsmo import conf
from cnsmo.bus.events import Watch
conf.load(sys.argv[1:])
with Watch(conf.CONF) as watch:
    print("watching", flush=True)
    time.sleep(600)
"""


def lasting(rabbitmq: RabbitmqBed, fleet: Fleet) -> set[str]:
    """Names of queues that nobody consumes and that would still be there in two minutes."""
    found = rabbitmq.evaluate(
        "lists:map(fun(Queue) ->"
        "  [{_, {resource, _, _, N}}, {_, A}, {_, C}] ="
        "    rabbit_amqqueue:info(Queue, [name, arguments, consumers]),"
        '  E = case lists:keyfind(<<"x-expires">>, 1, A) of {_, _, M} -> M; false -> 0 end,'
        f"  [N, E, C] end, rabbit_amqqueue:list({binary(fleet.vhost.name)}))"
    )
    return {name for name, expires, consumers in found if not consumers and not 0 < expires < 12e4}


def test_processes_that_end_or_are_killed_leave_no_queue_behind(
    fleet: Fleet, rabbitmq: RabbitmqBed
) -> None:
    fleet.apply()
    agents = [fleet.agent("web1"), fleet.agent("web2")]
    fleet.until_ready("web1", "web2")
    with Watch(fleet.conf):
        pass
    log = fleet.directory / "watcher.log"
    config = str(next(fleet.directory.glob("core.conf")))
    command = [sys.executable, "-c", WATCHER, "--config-file", config]
    watcher = ServerProcess(command, log=log, env=agents[0].env)
    eventually(lambda: "watching" in log.read_text(), 20)
    watcher.kill()
    agents[0].kill()
    agents[1].stop()
    fleet.programs[0].kill()
    eventually(lambda: lasting(rabbitmq, fleet) <= KEPT, 10, "no queue but the core's")


def test_events_that_nobody_watches_are_not_kept(fleet: Fleet, rabbitmq: RabbitmqBed) -> None:
    with Watch(fleet.conf):
        fleet.apply()
    fleet.agent("web1")
    fleet.until_ready("web1", services=registry.services())
    eventually(  # a call may be under way; what nobody takes would stay
        lambda: not any(queue.messages for queue in rabbitmq.queues(fleet.vhost)), 10, "no message"
    )
    assert "not sent" not in fleet.programs[0].said
    assert not re.search(r"^\S+ \S+ \d+ ERROR ", fleet.programs[0].said, re.MULTILINE)


def test_notifications_go_out_where_the_operator_asks_for_them(
    bare_fleet: Fleet, rabbitmq: RabbitmqBed
) -> None:
    bare_fleet.settings["oslo_messaging_notifications"] = {"driver": "messagingv2"}
    bare_fleet.core().says("core answers")
    bare_fleet.operator.deployment_create("shop")
    bare_fleet.apply()
    eventually(
        lambda: {q.name: q.messages for q in rabbitmq.queues(bare_fleet.vhost)}.get(
            "cnsmo-events.info"
        ),
        10,
        "a notification waits",
    )
