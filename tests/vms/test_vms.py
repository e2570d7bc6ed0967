# SPDX-License-Identifier: Apache-2.0
"""Real VMs from nothing: a VPN of the kernel's, a firewall and a load balancer, by one document."""

import json
from typing import Any

from tests.beds.qemu import Machine
from tests.eventually import eventually
from tests.vms.conftest import FETCH, Vms

WARNINGS = "WARN|ERROR|CRITICAL|Traceback"


def finished(machine: Machine) -> dict[str, Any]:
    """What cloud-init says of the boot, once it has ended."""
    machine.run("cloud-init", "status", "--wait", check=False)
    return json.loads(machine.run("cloud-init", "status", "--format", "json", check=False))


def test_cloud_init_is_done_with_nothing_to_complain_of(vms: Vms) -> None:
    for machine in [vms.core.machine, *vms.hosts]:
        told = finished(machine)
        assert (told["status"], told["errors"]) == ("done", []), machine.name
        assert told.get("extended_status", "done") == "done"
        assert told.get("recoverable_errors", {}) == {}
        found = machine.run("grep", "-E", WARNINGS, "/var/log/cloud-init.log", check=False)
        assert found == ""


def test_every_unit_of_the_vm_is_well(vms: Vms) -> None:
    for machine in [vms.core.machine, *vms.hosts]:
        assert machine.run("systemctl", "--failed", "--no-legend", "--plain") == ""


def test_all_agents_are_ready(vms: Vms) -> None:
    for host in vms.hosts:
        eventually(lambda host=host: vms.core.state(host.name) == {"ready"}, 120, host.name)


def test_the_vpn_is_the_kernels_and_reaches_both_ways(vms: Vms) -> None:
    for host in vms.hosts:
        links = json.loads(host.run("ip", "-j", "-d", "link", "show", "type", "wireguard"))
        assert [link["linkinfo"]["info_kind"] for link in links] == ["wireguard"]
        host.run("test", "-d", "/sys/module/wireguard")
        assert host.run("sh", "-c", "command -v wireguard-go || true") == ""
        for name, address in vms.core.addresses().items():
            said = host.run("ping", "-c", "2", "-W", "10", address, check=False)
            assert " 0% packet loss" in said, f"{host.name} to {name}"
        assert "\t0\n" not in host.run("wg", "show", "all", "latest-handshakes")


def test_who_is_outside_gets_the_page_through_the_load_balancer(vms: Vms) -> None:
    url = f"http://{vms.edge.address}/"
    assert eventually(lambda: vms.fetch(url), 120, url) == "hello from web1"


def test_the_firewall_lets_nobody_but_the_load_balancer_to_the_web_server(vms: Vms) -> None:
    assert vms.fetch(f"http://{vms.web.address}:8080/") == ""
    assert vms.fetch(f"http://{vms.edge.address}:8080/") == ""
    inside = f"http://{vms.core.addresses()['web1']}:8080/"
    assert "hello from web1" in vms.edge.run("python3", "-c", FETCH, inside)


def test_the_unit_renews_the_brokers_certificate_and_disturbs_nobody(vms: Vms) -> None:
    assert vms.core.renew_broker()
    vms.core.manage("apply", "/etc/cnsmo/document.yaml", "--wait")


def test_a_vm_that_reboots_has_its_services_again(vms: Vms) -> None:
    vms.edge.restart()
    url = f"http://{vms.edge.address}/"
    assert eventually(lambda: vms.fetch(url), 400, url) == "hello from web1"
    assert vms.edge.run("systemctl", "is-active", "cnsmo-firewall", "cnsmo-agent")
    assert finished(vms.edge)["status"] == "done"
