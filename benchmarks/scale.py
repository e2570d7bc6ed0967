# SPDX-License-Identifier: Apache-2.0
"""How much is measured: in full, or just enough to see that it works."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scale:
    """Times in seconds."""

    iperf_seconds: int = 2
    wireguard_pairs: int = 30
    peer_rounds: int = 7
    mesh_hosts: int = 20
    mesh_rounds: int = 7
    newcomer_rounds: int = 20
    core_hosts: tuple[int, ...] = (10, 50, 100)
    core_changes: int = 8
    core_joins: int = 4
    quiet_seconds: float = 1.0
    warm_ups: int = 1
    agent_starts: int = 10
    idle_seconds: float = 60.0
    rules: int = 10_000
    rule_pairs: int = 15
    members: int = 10_000
    member_rounds: int = 30
    firewall_pairs: int = 30
    enforce_hosts: tuple[int, ...] = (1, 5, 50)
    enforce_rounds: int = 20
    wrk_seconds: int = 2
    balancer_pairs: int = 15
    pool_servers: int = 1000
    pool_rounds: int = 30
    carried_hosts: int = 20
    carried_rounds: int = 20
    boot_rounds: int = 3
    fleet_sizes: tuple[int, ...] = (100, 300, 1000)
    fleet_share: int = 100
    fleet_changes: int = 20
    fleet_idle_seconds: float = 60.0
    fleet_cores_hosts: int = 300
    fleet_reports: int = 20
    snapshot_rows: int = 100_000


FULL = Scale()
SMOKE = Scale(
    iperf_seconds=1,
    wireguard_pairs=1,
    peer_rounds=1,
    mesh_hosts=3,
    mesh_rounds=1,
    newcomer_rounds=1,
    core_hosts=(2, 4),
    core_changes=1,
    core_joins=1,
    quiet_seconds=0.3,
    warm_ups=0,
    agent_starts=1,
    idle_seconds=1.0,
    rules=20,
    rule_pairs=2,
    members=20,
    member_rounds=2,
    firewall_pairs=1,
    enforce_hosts=(1, 3),
    enforce_rounds=2,
    wrk_seconds=1,
    balancer_pairs=1,
    pool_servers=20,
    pool_rounds=2,
    carried_hosts=3,
    carried_rounds=1,
    boot_rounds=1,
    fleet_sizes=(10, 20),
    fleet_share=10,
    fleet_changes=2,
    fleet_idle_seconds=3.0,
    fleet_cores_hosts=20,
    fleet_reports=3,
    snapshot_rows=2000,
)
