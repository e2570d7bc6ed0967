# SPDX-License-Identifier: Apache-2.0
"""Two of what there may only be one of."""

from cnsmo.model.errors import Removed
from tests.integration.fleet import PLUGIN, SHOP, Fleet

PHONES = SHOP + "phonebook:\n  office: {}\n"


def test_the_second_of_two_agents_with_one_name_is_refused_clearly(fleet: Fleet) -> None:
    fleet.apply()
    first = fleet.agent("web1")
    fleet.until_ready("web1")
    before = fleet.operator.host_list("shop")[0].id
    second = fleet.agent("web1", state_dir=fleet.directory / "other")
    assert second.ends() == 5
    told = [line for line in second.said.splitlines() if line.startswith("cnsmo-agent:")]
    assert told == [
        "cnsmo-agent: a host named 'web1' is already in deployment 'shop', with another key: "
        "choose another name ([host] name); or, if this is the same VM made anew, let it take the "
        "old one's place ('cnsmo-manage host readmit web1') or remove the old one first "
        "('cnsmo-manage host remove web1')"
    ]
    assert first.process.alive
    assert [host.id for host in fleet.operator.host_list("shop")] == [before]
    plan = fleet.apply(SHOP.replace("driver:", "listen_port: 9, driver:"))
    fleet.until_ready("web1", revision=plan.revision or 0)


def test_a_second_process_with_the_same_work_is_refused(fleet: Fleet) -> None:
    fleet.apply()
    roles = {"own": ("vpn", "vpn"), "part": ("vpn", ""), "whole": ("", "vpn"), "every": ("", "")}
    running = {host: fleet.agent(host, *alone(first)) for host, (first, _) in roles.items()}
    fleet.until_ready(*running)
    late = {host: fleet.agent(host, *alone(second)) for host, (_, second) in roles.items()}
    for host, agent in late.items():
        assert agent.ends() == 5
        assert f"another cnsmo-agent works in {agent.state_dir}" in agent.said
        assert running[host].process.alive


def alone(service: str) -> list[str]:
    """The arguments that let an agent's process have that service alone; empty: all."""
    return ["--service", service] if service else []


def test_two_processes_of_one_host_with_a_service_each_join_as_one(bare_fleet: Fleet) -> None:
    """They start at the same moment, with one token that is good for one host."""
    fleet = bare_fleet
    fleet.env["PYTHONPATH"] = str(PLUGIN)
    fleet.core().says("core answers")
    fleet.operator.deployment_create("shop")
    plan = fleet.apply(PHONES)
    processes = [fleet.agent("web1", *alone(s), token=t) for s, t in two(fleet)]

    def look() -> bool:
        hosts = fleet.operator.host_list("shop")
        agents = [agent for host in hosts for agent in host.agents]
        return {(agent.service, str(agent.state)) for agent in agents} == {
            ("vpn", "ready"),
            ("phonebook", "ready"),
        } and all(agent.applied_revision >= (plan.revision or 0) for agent in agents)

    fleet.until(look, "both are ready")
    book = processes[1].state_dir / "units" / "phonebook" / "office" / "noop" / "phonebook.txt"
    assert book.read_text().endswith(" web1\n")
    fleet.operator.host_remove("shop", "web1")
    assert [process.ends() for process in processes] == [Removed.exit_code] * 2
    assert not book.exists()
    assert not processes[0].remembered.exists()


def test_a_process_that_was_away_when_its_host_was_removed_cleans_up_after_itself(
    bare_fleet: Fleet,
) -> None:
    fleet = bare_fleet
    fleet.env["PYTHONPATH"] = str(PLUGIN)
    fleet.core().says("core answers")
    fleet.operator.deployment_create("shop")
    fleet.apply(PHONES)
    away, there = (fleet.agent("web1", *alone(s), token=t) for s, t in two(fleet))
    fleet.until(away.remembered.exists, "the VPN is there")
    fleet.until(lambda: list(there.state_dir.glob("units/phonebook/*/*/*.txt")), "the book, too")
    away.kill()
    fleet.operator.host_remove("shop", "web1")
    assert there.ends() == Removed.exit_code
    assert away.remembered.exists()
    away.start()
    assert away.ends() == Removed.exit_code
    left = {path.name for path in away.state_dir.rglob("*") if path.is_file()}
    assert left == {"agents.lock", "vpn.lock", "phonebook.lock", "removed", "notice-vpn.json"}


def two(fleet: Fleet) -> list[tuple[str, str]]:
    """Both services, with a token for one host."""
    token = fleet.token()
    return [("vpn", token), ("phonebook", token)]


def test_a_service_that_is_not_installed_is_named(fleet: Fleet) -> None:
    agent = fleet.agent("web1", "--service", "vnp")
    assert agent.ends() == 2
    assert (
        "cnsmo-agent: no service 'vnp' is installed; there are: firewall, loadbalancer, vpn"
        in agent.said
    )
