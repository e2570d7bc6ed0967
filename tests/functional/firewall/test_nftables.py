# SPDX-License-Identifier: Apache-2.0
"""The nftables driver in a namespace: real rules, real packets."""

import dataclasses

import pytest

from cnsmo.agent.system import LocalSystem
from cnsmo.model.errors import DriverError
from cnsmo.services.firewall.desired import Action, Direction, Kind, Line, Part, Rate
from tests.eventually import eventually
from tests.functional.firewall.scene import (
    FOREIGN,
    ONE,
    ONE6,
    REALMS,
    TCP,
    TWO,
    TWO6,
    UDP,
    VPN_ONE,
    VPN_TWO,
    Scene,
    desired,
    opened,
)
from tests.functional.vpn.systems import Recorder, Saboteur

WEB = opened(80, version=4, peers="web_4")
MEMBERS = {"web_4": (TWO, "10.9.0.77"), "web_6": (TWO6,)}


def without(**sets):
    return {**MEMBERS, **sets}


# --- packets ------------------------------------------------------------------------------


def test_what_is_not_declared_is_dropped_in_both_ip_versions(scene: Scene) -> None:
    assert scene.ask("tcp", ONE, 80) == "open"
    scene.settle(desired(opened(22), opened(53, UDP)))
    assert scene.ask("tcp", ONE, 22) == "open"
    assert scene.ask("tcp", ONE6, 22) == "open"
    assert scene.ask("udp", ONE, 53) == "open"
    assert scene.ask("udp", ONE6, 53) == "open"
    assert scene.ask("tcp", ONE, 53) == "silent"
    assert scene.ask("tcp", ONE6, 80) == "silent"
    assert scene.ask("udp", ONE, 22) == "silent"
    assert scene.two.ping(ONE, count=1, wait=1).received == 0
    assert scene.ask("tcp", TWO, 80, scene.one) == "open"  # replies belong to a flow


def test_ports_types_and_addresses_are_matched(scene: Scene) -> None:
    scene.settle(
        desired(
            Line("p/inbound/web", Action.ACCEPT, 4, "web_4", (f"{ONE}/32",), TCP,
                 ((80, 80), (440, 450))),
            Line("p/inbound/ping", Action.ACCEPT, 4, protocol=1, types=(8,)),
            Line("p/inbound/web", Action.ACCEPT, 6, "web_6", protocol=TCP, ports=((80, 80),)),
            sets=MEMBERS,
        )
    )  # fmt: skip
    assert scene.ask("tcp", ONE, 80) == scene.ask("tcp", ONE, 443) == "open"
    assert scene.ask("tcp", ONE6, 80) == "open"
    assert scene.ask("tcp", ONE6, 443) == "silent"
    assert scene.two.ping(ONE, count=1).received == 1
    assert scene.two.ping(ONE6, count=1, wait=1).received == 0


def test_the_first_line_that_matches_decides_and_a_rejected_sender_is_told(scene: Scene) -> None:
    scene.settle(
        desired(
            opened(80, action=Action.DROP, version=4),
            opened(80),
            opened(22, action=Action.REJECT),
            opened(53, UDP, action=Action.REJECT, log=Rate(5, "second")),
            default=Action.ACCEPT,
        )
    )
    assert scene.ask("tcp", ONE, 80) == "silent"
    assert scene.ask("tcp", ONE6, 80) == "open"
    assert scene.ask("tcp", ONE, 22) == scene.ask("tcp", ONE6, 22) == "refused"
    assert scene.ask("udp", ONE, 53) == scene.ask("udp", ONE6, 53) == "refused"
    assert scene.ask("tcp", ONE, 443) == "open"


def test_what_leaves_is_judged_by_its_destination(scene: Scene) -> None:
    line = dataclasses.replace(WEB, rule="p/outbound/web")
    wanted = desired(outbound=(line,), outward=Action.REJECT, default=Action.ACCEPT, sets=MEMBERS)
    scene.settle(wanted)
    assert scene.ask("tcp", TWO, 80, scene.one) == "open"
    assert scene.ask("tcp", TWO, 443, scene.one) == "refused"
    assert scene.ask("tcp", TWO6, 80, scene.one) == "refused"
    assert scene.ask("tcp", ONE, 443) == "open"
    assert scene.ask("tcp", "127.0.0.1", 443, scene.one) == "open"


def test_a_vpn_is_a_realm_of_its_own(scene: Scene) -> None:
    scene.settle(desired(opened(22), vpn=(opened(80),)))
    assert scene.ask("tcp", VPN_ONE, 80) == "open"
    assert scene.ask("tcp", VPN_ONE, 22) == "silent"
    assert scene.ask("tcp", ONE, 22) == "open"
    assert scene.ask("tcp", ONE, 80) == "silent"


def test_nobody_has_a_vpns_address_on_the_underlay(scene: Scene) -> None:
    wanted = desired(opened(53, UDP))
    scene.settle(wanted)
    scene.two.run(f"ip route add {ONE}/32 dev eth0 src {VPN_TWO}")
    assert scene.ask("udp", ONE, 53) == "silent"
    assert scene.hits(wanted)["", "", "always/anti-spoofing"] == 1
    scene.settle(dataclasses.replace(wanted, pools=()))
    scene.two.run(f"ip neigh replace {ONE} lladdr {_mac(scene)} dev eth0")
    scene.ask("udp", ONE, 53)
    assert scene.hits(wanted)["", "enforce", "perimeter/inbound/53"] == 1


def test_beyond_its_limit_a_line_does_not_match(scene: Scene) -> None:
    scene.settle(desired(opened(22, limit=Rate(3, "hour"))))
    answers = [scene.ask("tcp", ONE, 22) for _ in range(3)]
    assert answers == ["open"] * 3
    assert scene.ask("tcp", ONE, 22) == "silent"
    assert scene.ask("tcp", ONE6, 22) == "open"  # another source


def test_an_audit_counts_and_decides_nothing(scene: Scene) -> None:
    blocked = Line("strict/inbound/web", Action.DROP, protocol=TCP, ports=((80, 80),))
    logged = dataclasses.replace(
        opened(22), rule="strict/inbound/ssh", log=Rate(3, "second"), action=Action.DROP
    )
    realms = dict.fromkeys(REALMS, (blocked, logged))
    audit = Part(Kind.AUDIT, Direction.INBOUND, realms, Action.DROP, "strict", Rate(1, "minute"))
    wanted = desired(audits=(audit,), enforced=False)
    scene.settle(wanted)
    for port in (80, 22, 443):
        assert scene.ask("tcp", ONE, port) == "open"
    hits = scene.hits(wanted)
    assert hits["", "strict", "strict/inbound/web"] == 1
    assert hits["", "strict", "strict/inbound/ssh"] == 1
    assert hits["", "strict", "strict/inbound/default"] == 1


def test_the_agents_way_to_the_core_is_open_whatever_is_declared(scene: Scene) -> None:
    scene.fresh(LocalSystem(scene.one.system.enter, ((TWO, 5671), ("fd09::2", 5671))))
    scene.settle(desired(outward=Action.DROP))
    assert scene.ask("tcp", TWO, 5671, scene.one) == "open"
    assert scene.ask("tcp", TWO6, 5671, scene.one) == "open"
    assert scene.ask("tcp", TWO, 443, scene.one) in ("silent", "refused")


def test_what_the_core_says_over_an_old_connection_is_heard(scene: Scene) -> None:
    """The kernel watches no flow before the first ruleset: it does not know who began this one."""
    told, heard = scene.hear(5999)
    scene.fresh(LocalSystem(scene.one.system.enter, ((TWO, 5999),)))
    scene.settle(desired())
    assert told.stdin
    told.stdin.write("news\n")
    told.stdin.flush()
    assert heard.communicate("\n", timeout=10)[0].strip() == "news"
    assert scene.ask("tcp", ONE, 80, source=5999) == "silent", "but it opens no door"


def test_hits_are_told_by_rule_and_realm(scene: Scene) -> None:
    wanted = desired(opened(22), vpn=(opened(22),))
    scene.settle(wanted)
    scene.ask("tcp", ONE, 22)
    scene.ask("tcp", VPN_ONE, 22)
    scene.ask("udp", VPN_ONE, 22)
    hits = scene.hits(wanted)
    assert hits["", "enforce", "perimeter/inbound/22"] == 1
    assert hits["backbone", "enforce", "perimeter/inbound/22"] == 1
    assert hits["backbone", "enforce", "inbound/default"] == 1


@pytest.mark.parametrize("cut", [True, False])
def test_flows_of_those_who_left_are_ended_if_so_declared(scene: Scene, cut: bool) -> None:
    stays = opened(443)
    wanted = desired(WEB, stays, sets=MEMBERS, cut=cut)
    scene.settle(wanted)
    talks = [scene.talk(port) for port in (80, 443)]
    scene.driver.apply(dataclasses.replace(wanted, sets=without(web_4=())))
    assert [_say(talk) for talk in talks] == ["silent" if cut else "ok", "ok"]


def test_flows_of_every_kind_are_ended(scene: Scene) -> None:
    scene.settle(desired(default=Action.ACCEPT))
    for kind in ("tcp", "udp"):
        assert {scene.ask(kind, address, 80) for address in (ONE, ONE6)} == {"open"}
    assert scene.two.ping(ONE, count=1).received
    assert scene.two.ping("fd09::1", count=1).received
    assert flows(scene) == 6
    scene.settle(desired())
    assert flows(scene) == 0


def test_a_busy_server_ends_its_flows_within_the_trial(scene: Scene) -> None:
    scene.settle(desired(WEB, sets=without(web_4=("10.0.0.0/8",))))
    scene.one.system.run("conntrack", "-R", "-", stdin="".join(
        f"-I -p tcp -s 10.1.{number // 250}.{number % 250} -d {ONE} --sport 40000 --dport 80 "
        "--state ESTABLISHED -t 600 -u ASSURED\n" for number in range(10_000)
    ), timeout=60)  # fmt: skip
    assert flows(scene) == 10_000
    scene.driver.apply(desired(opened(22), sets=MEMBERS, confirm=8))
    assert scene.driver.trial()
    assert flows(scene) == 0


def flows(scene: Scene) -> int:
    """How many flows the kernel knows."""
    return len(scene.one.run("conntrack -L -o extended").splitlines())


# --- changes ------------------------------------------------------------------------------


def test_what_is_as_declared_is_left_alone(scene: Scene) -> None:
    wanted = desired(WEB, sets=MEMBERS)
    scene.settle(wanted)
    before = scene.handles()
    assert scene.driver.apply(wanted) == []
    assert scene.fresh().apply(wanted) == []
    assert scene.handles() == before
    assert scene.driver.observe(wanted).drift == ()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_member_is_one_element_and_loads_nothing_anew(scene: Scene, restarted: bool) -> None:
    wanted = desired(WEB, sets=MEMBERS)
    scene.settle(wanted)
    assert scene.ask("tcp", ONE, 80) == "open"
    handles = scene.handles()
    fewer = dataclasses.replace(wanted, sets=without(web_4=("10.9.0.78",)))
    recorder = Recorder(scene.one.system)
    if restarted:
        scene.fresh(recorder)
    else:
        scene.driver.system = recorder
    assert scene.driver.apply(fewer) == ["set web_4: 1 added, 2 removed"]
    loads = [args for args in recorder.commands if args[:2] == ("nft", "-f")]
    assert len(loads) == 1
    assert scene.driver.trial() is None
    assert scene.ask("tcp", ONE, 80) == "silent"
    assert scene.driver.apply(wanted)
    assert scene.ask("tcp", ONE, 80) == "open"
    assert scene.hits(wanted)["", "enforce", "perimeter/inbound/80"] == 2
    assert scene.handles() == handles


def test_members_that_are_networks_come_and_go(scene: Scene) -> None:
    wide = desired(WEB, sets=without(web_4=("10.9.0.0/25", "10.9.0.5", "10.9.0.128/25")))
    scene.settle(wide)
    assert scene.driver.observe(wide).drift == ()
    assert scene.ask("tcp", ONE, 80) == "open"
    narrow = dataclasses.replace(wide, sets=without(web_4=("10.9.0.5", "10.9.0.128/25")))
    assert scene.driver.apply(narrow) == ["set web_4: 1 added, 1 removed"]
    assert scene.ask("tcp", ONE, 80) == "silent"
    assert scene.driver.apply(wide)
    assert scene.ask("tcp", ONE, 80) == "open"
    assert scene.fresh().apply(wide) == []


def test_what_a_machine_loads_when_it_starts_follows_the_members(scene: Scene) -> None:
    wanted = desired(WEB, sets=MEMBERS)
    scene.settle(wanted)
    more = dataclasses.replace(wanted, sets=without(web_4=(TWO,)))
    scene.driver.apply(more)
    scene.one.run("nft flush ruleset")
    scene.one.run(f"nft -f {scene.state_dir / 'good.nft'}")
    assert scene.fresh().apply(more) == []
    assert scene.ask("tcp", ONE, 80) == "open"


DRIFTS = {
    "the table is missing": "delete table inet cnsmo",
    "set web_4 lacks 10.9.0.2": "delete element inet cnsmo SETS { 10.9.0.2 }",
    "set web_4 has 10.9.0.99, which is no member": "add element inet cnsmo SETS { 10.9.0.99 }",
    "rule perimeter/inbound/80 (chain inbound-2-underlay) is missing":
        "flush chain inet cnsmo CHAINS",
    "a rule of the chain input was added by somebody": "insert rule inet cnsmo input accept",
    "the chain input was changed": "add chain inet cnsmo input { policy accept; }",
    "the chain mine was added by somebody": "add chain inet cnsmo mine",
    "the map mine was added by somebody":
        "add map inet cnsmo mine { type ipv4_addr : verdict; }",
    "the chain output was changed":
        "delete chain inet cnsmo output\n"
        "add chain inet cnsmo output { type filter hook output priority 5; }",
}  # fmt: skip


@pytest.mark.parametrize("found", DRIFTS)
def test_drift_is_told_and_repaired_without_a_trial(scene: Scene, found: str) -> None:
    wanted = desired(WEB, sets=MEMBERS)
    scene.settle(wanted)
    before = scene.ruleset()
    meddling = DRIFTS[found].replace("SETS", scene.called("web_4"))
    meddling = meddling.replace("CHAINS", scene.called("inbound-2-underlay"))
    scene.one.system.run("nft", "-f", "-", stdin=meddling + "\n")
    assert found in scene.driver.observe(wanted).drift
    assert scene.driver.apply(wanted)
    assert scene.driver.trial() is None
    assert scene.ruleset() == before
    assert scene.driver.observe(wanted).drift == ()
    assert scene.driver.apply(wanted) == []


def test_foreign_tables_are_never_touched(scene: Scene) -> None:
    scene.one.system.run("nft", "-f", "-", stdin=FOREIGN)
    before = scene.one.run("nft list ruleset")
    wanted = desired(WEB, sets=MEMBERS)
    scene.settle(wanted)
    assert scene.foreign() == before
    scene.driver.apply(dataclasses.replace(wanted, sets=without(web_4=())))
    scene.settle(desired(opened(22)))
    assert scene.foreign() == before
    scene.driver.remove()
    assert scene.one.run("nft list ruleset") == before


def test_removing_leaves_nothing(scene: Scene) -> None:
    before = scene.one.picture()
    scene.driver.remove()
    assert not scene.state_dir.exists()
    scene.driver.apply(desired(WEB, sets=MEMBERS))  # on trial: its guard runs
    assert scene.guards() == 1
    scene.fresh().remove()
    assert scene.one.picture() == before
    assert not scene.state_dir.exists()
    scene.driver.remove()


def test_files_are_the_owners_alone(scene: Scene) -> None:
    scene.driver.apply(desired(WEB, sets=MEMBERS))
    assert scene.state_dir.stat().st_mode & 0o777 == 0o700
    files = [path for path in scene.state_dir.iterdir() if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


# --- failure ------------------------------------------------------------------------------


def test_the_kernel_is_asked_what_it_can_once_and_again_after_a_failure(scene: Scene) -> None:
    recorder = Recorder(scene.one.system)
    driver = scene.fresh(recorder)
    driver.check()
    driver.check()
    assert recorder.commands == [("nft", "-c", "-f", "-")]
    driver.system = Saboteur(scene.one.system, 0)
    with pytest.raises(DriverError):
        driver.apply(desired(opened(22)))
    driver.system = recorder
    driver.check()
    assert len(recorder.commands) == 2


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_failing_half_way_keeps_what_was_and_is_made_good_later(scene: Scene, after: bool) -> None:
    first, second = desired(opened(22)), desired(opened(80))
    scene.settle(first)
    before = scene.ruleset()
    for allowed in range(40):
        saboteur = Saboteur(scene.one.system, allowed, after=after)
        scene.fresh(saboteur)
        try:
            scene.driver.apply(second)
        except DriverError:
            if scene.fresh().trial() is None:
                assert scene.ruleset() == before
                eventually(lambda: scene.guards() == 0, 5)  # a late one ends by itself
        if not saboteur.struck:
            break
        scene.fresh()
        scene.driver.apply(first)
        assert scene.ruleset() == before
        eventually(lambda: scene.guards() == 0, 5)
    else:
        pytest.fail("never got to the end")
    assert scene.ask("tcp", ONE, 80) == "open"


def test_a_ruleset_that_nft_refuses_changes_nothing(scene: Scene) -> None:
    scene.settle(desired(opened(22)))
    before = scene.ruleset()
    twice = desired(opened(80), interfaces={"backbone": "cn-x", "other": "cn-x"})
    with pytest.raises(DriverError):
        scene.driver.apply(twice)
    with pytest.raises(DriverError):
        scene.driver.apply(desired(opened(80, rule='x" drop\n')))
    assert scene.ruleset() == before
    assert scene.driver.trial() is None
    assert scene.driver.apply(desired(opened(22))) == []


def _say(talk) -> str:
    talk.stdin.write("x\n")
    talk.stdin.flush()
    return talk.stdout.readline().strip()


def _mac(scene: Scene) -> str:
    return scene.one.json("ip -j link show dev eth0")[0]["address"]
