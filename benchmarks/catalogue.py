# SPDX-License-Identifier: Apache-2.0
"""All benchmarks by name, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import (
    agent_cost,
    boot,
    core_growth,
    enforce,
    fleet,
    fleet_cores,
    fleet_snapshot,
    member,
    membership,
    mesh,
    newcomer,
    pool,
    rules,
    throughput_balancer,
    throughput_firewall,
    throughput_peers,
    throughput_wireguard,
)
from benchmarks.figures import Figure
from benchmarks.run import Run

BENCHMARKS: dict[str, Callable[[Run], list[Figure]]] = {
    "throughput-wireguard": throughput_wireguard.measure,
    "throughput-peers": throughput_peers.measure,
    "mesh": mesh.measure,
    "newcomer": newcomer.measure,
    "core-growth": core_growth.measure,
    "agent-cost": agent_cost.measure,
    "firewall-rules": rules.measure,
    "firewall-member": member.measure,
    "firewall-enforce": enforce.measure,
    "throughput-firewall": throughput_firewall.measure,
    "balancer-membership": membership.measure,
    "balancer-pool": pool.measure,
    "throughput-balancer": throughput_balancer.measure,
    "boot": boot.measure,
    "fleet": fleet.measure,
    "fleet-cores": fleet_cores.measure,
    "fleet-snapshot": fleet_snapshot.measure,
}
