# SPDX-License-Identifier: Apache-2.0
"""A deployment lives through a schedule of faults, and every invariant holds; see doc/chaos.md."""

import os
import random
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from oslo_config import cfg

from tests.beds.bed import MissingPackage
from tests.chaos import cast, report
from tests.chaos.faults import Faults
from tests.chaos.history import Flow, History
from tests.chaos.judges import judge
from tests.chaos.operators import Operators
from tests.chaos.schedule import schedule
from tests.chaos.stage import UP_SECONDS, Stage, faketime
from tests.chaos.watch import Watch, calm, remove_all

CALM = 60.0
"""Seconds after the last fault until all has to be well."""
FLOWING = 60.0
"""Seconds in which all that is allowed has to flow, before the first fault."""


@pytest.mark.timeout(0)
def test_chaos(conf: cfg.ConfigOpts, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if os.geteuid() != 0:
        pytest.skip("a lab with real drivers and disks of its own needs root")
    if faketime() is None:
        pytest.skip("MISSING PACKAGE: faketime")
    options = request.config
    seed = options.getoption("--chaos-seed")
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    count, minutes = options.getoption("--chaos-vms"), options.getoption("--chaos-minutes")
    assert cast.FEWEST <= count <= len(cast.VMS)
    print(f"\nchaos: --chaos-seed {seed} --chaos-minutes {minutes:g} --chaos-vms {count}")
    try:
        with Stage(cast.VMS[:count], tmp_path, conf) as stage:
            history = run(stage, seed, minutes * 60.0)
            breaches = judge(history)
            who = sorted({name for it in breaches for name in it.who} & set(stage.agents))
            logs = stage.logs(who) if breaches else ""
    except MissingPackage as error:
        pytest.skip(f"MISSING SERVER: {error}")
    print(report.report(seed, count, history))
    assert not breaches, f"{report.failure(seed, history, breaches)}\n{logs}"


def run(stage: Stage, seed: int, seconds: float) -> History:
    """All of a run on a stage that is up: what is allowed flows, faults, calm, the end."""
    operators = Operators(stage, seed)
    opened = stage.operator().apply(cast.without_firewall())
    stage.until_ready(opened.revision or 0, UP_SECONDS)
    flows = cast.flows(stage.specs, *stage.addresses())
    stage.traffic.plan(flows)
    for vm in stage.lab.vms():
        stage.traffic.start(vm)
    flowing(stage, flows)  # what is forbidden, too: it passes where nothing forbids it
    stage.until_ready(operators.insist().revision, UP_SECONDS)
    flowing(stage, [it for it in flows if it.allowed])
    begin = stage.now
    faults = Faults(stage, schedule(seed, seconds, cast.stage(len(stage.specs))), begin)
    with Watch(stage) as watch:
        operators.start()
        faults.run()
        operators.stop()
        operators.insist()
        threading.Event().wait(CALM)
        found = calm(stage, [it.marker for it in operators.applies])
    end = stage.now
    answers, arrivals = tuple(stage.traffic.answers), tuple(stage.traffic.arrivals)
    return History(
        sites={it.name: it.site for it in stage.specs},
        watched=(begin, end),
        faults=tuple(faults.happened),
        flows=flows,
        answers=tuple(it for it in answers if begin <= it.at <= end),
        arrivals=tuple(it for it in arrivals if begin <= it.at),
        applies=tuple(operators.applies),
        copies=tuple(watch.copies),
        calm=found,
        left=tuple(remove_all(stage)),
    )


def flowing(stage: Stage, flows: Iterable[Flow]) -> None:
    """Wait until each of these flows is answered, from now on."""
    since, until = stage.now, stage.now + FLOWING
    while True:
        missing = set(flows) - {
            it.flow for it in tuple(stage.traffic.answers) if it.ok and it.at >= since
        }
        if not missing:
            return
        assert stage.now < until, f"these do not flow: {sorted(it.name for it in missing)}"
        threading.Event().wait(0.5)
