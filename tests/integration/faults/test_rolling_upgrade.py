# SPDX-License-Identifier: Apache-2.0
"""Cores and agents of two releases side by side, over a real broker and a real database."""

from pathlib import Path

from tests.integration.fleet import SHOP, Agent, Fleet, Program

BEFORE = Path(__file__).parents[1] / "releases" / "before.py"
TOO_NEW = "does not take version 1.2"


def changed(number: int) -> str:
    return SHOP.replace("driver:", f"listen_port: {number}, driver:")


def of_the_release_before(program: Program, what: str) -> Program:
    """The same program again, as the release before was."""
    program.kill()
    arguments = program.command[program.command.index("--config-file") :]
    program.command = [program.command[0], str(BEFORE), what, *arguments]
    return program.start()


def test_agents_of_both_releases_work_with_cores_of_both(bare_fleet: Fleet) -> None:
    fleet = bare_fleet
    old = of_the_release_before(fleet.core("old"), "core").says("core answers")
    new = fleet.core("new").says("core answers")
    fleet.operator.deployment_create("shop")
    fleet.apply()
    agents: list[Agent] = [fleet.agent(host, heartbeat=0.5) for host in ("one", "two")]
    of_the_release_before(agents[0], "agent")
    fleet.until_ready("one", "two")
    for number in range(1, 11):
        plan = fleet.apply(changed(number))
    fleet.until_ready("one", "two", revision=plan.revision or 0)
    assert all(core.said.count("rows=") > 3 for core in (old, new)), "both took their part"
    refused = agents[1].said.count(TOO_NEW)
    assert 1 <= refused <= 5, "the new agent said it once, and then what an old core understands"
    assert TOO_NEW not in agents[0].said


def test_cores_are_replaced_one_by_one_and_agents_after_them(bare_fleet: Fleet) -> None:
    fleet = bare_fleet
    cores = [of_the_release_before(fleet.core(name), "core") for name in ("one", "two")]
    for core in cores:
        core.says("core answers")
    fleet.operator.deployment_create("shop")
    fleet.apply()
    agents = [fleet.agent(host, heartbeat=0.5) for host in ("web1", "web2")]
    for agent in agents:
        of_the_release_before(agent, "agent")
    fleet.until_ready("web1", "web2")
    for number, program in enumerate([*cores, *agents], start=1):
        assert program.stop() == 0
        program.command = [program.command[0], "-m", _module(program), *program.command[3:]]
        program.start()
        plan = fleet.insist(changed(number))
        fleet.until_ready("web1", "web2", revision=plan.revision or 0)
    for program in fleet.programs:
        assert program.process.alive
        assert TOO_NEW not in program.said
        assert "incident" not in program.said


def _module(program: Program) -> str:
    return "cnsmo.cmd.agent" if isinstance(program, Agent) else "cnsmo.cmd.core"
