# SPDX-License-Identifier: Apache-2.0
"""Real tunnels, firewalls and keys: no log, no argument, no file for others has a secret."""

import logging
from pathlib import Path

import pytest
from oslo_config import cfg

from cnsmo.lab.topology import VmSpec
from cnsmo.state import sealing
from cnsmo.state.engine import make_engine
from cnsmo.state.vault import Vault
from tests.eventually import eventually
from tests.functional.mesh.world import DEPLOYMENT, World
from tests.hunt import Hunt, open_to_others

EAST = VmSpec("east1", "east", ("core",))
WEST = VmSpec("west1", "west", ("edge",))
SOUTH = VmSpec("south1", "south", ("edge",))
DOCUMENT = """
vpn:
  backbone: {cidr: 10.66.0.0/24}
  remote: {cidr: 10.67.0.0/24, topology: hub, hub: core, driver: openvpn, listen_port: 1194}
firewall:
  perimeter: {inbound: [{from: any, to: all, protocol: tcp, ports: [22]}]}
"""


def state_of(world: World) -> list[Path]:
    return [vm.disk / "agent" for vm in world.lab.vms()]


def keys_of(world: World, hunt: Hunt) -> Hunt:
    """Know all keys that there are now."""
    hunt.know_all(*state_of(world))
    return hunt


def public_keys(world: World) -> dict[str, str | None]:
    """What members announce as theirs, by host."""
    rows = world.client.member_list(DEPLOYMENT, "vpn", "backbone")
    return {host: row.body["public_key"] for host, row in rows.items()}


def live(world: World, conf: cfg.ConfigOpts, hunt: Hunt) -> None:
    """Join, bring up, rotate all keys, remove a host; keys are known while they are there."""
    world.up(EAST, WEST, SOUTH)
    world.settle(world.apply(DOCUMENT), timeout=60)
    keys_of(world, hunt)
    before = public_keys(world)
    world.client.renew(DEPLOYMENT, "vpn", "backbone")
    world.client.renew(DEPLOYMENT, "vpn", "remote")
    eventually(
        lambda: all(public_keys(world)[host] != key for host, key in before.items()), 60, "new keys"
    )
    world.settle(timeout=60)
    keys_of(world, hunt)
    sealing.rotate(make_engine(conf), Vault(Path(conf.secrets.key_file)))
    world.client.host_remove(DEPLOYMENT, "south1")
    world.forget_agent("south1")


@pytest.mark.timeout(240)
def test_no_secret_leaves_a_vm_but_by_the_bus(
    world: World, conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture
) -> None:
    hunt = Hunt()
    hunt.know_all(Path(conf.join.ca_directory), Path(conf.secrets.key_file).parent)
    create = world.token

    def token(*arguments: object) -> str:
        made = create(*arguments)
        hunt.know("token", made, made.partition(".")[2])
        return made

    world.token = token  # type: ignore[method-assign]
    caplog.set_level(logging.DEBUG)
    with hunt:
        live(world, conf, hunt)
    assert hunt.words >= {"token", "agent-secret", "nonce", "key", "keys", "authority", "secrets"}
    assert "DEBUG" in caplog.text
    assert hunt.found_in(caplog.text) == set()
    daemons = [path for vm in world.lab.vms() for path in vm.disk.rglob("*.log")]
    assert daemons
    assert hunt.found_in_logs(daemons) == {}
    assert hunt.seen("wg")
    assert hunt.seen("openvpn")
    assert hunt.found_in_processes() == set()
    assert open_to_others(*(path for path in state_of(world) if path.exists())) == {}
