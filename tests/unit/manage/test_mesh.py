# SPDX-License-Identifier: Apache-2.0
from cnsmo.manage import hosts, mesh
from cnsmo.manage.cells import plain
from cnsmo.manage.style import Style
from cnsmo.model.host import HostFacts
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import AgentStatus, HostStatus


def host(name, observation=None, age=0.0, **facts) -> HostStatus:
    agent = AgentStatus(
        host=name,
        service="vpn",
        state=State.READY,
        reason="",
        observation=observation,
        observed_age=age,
        heartbeat_age=1.0,
    )
    return HostStatus(name=name, id=name, groups=[], facts=HostFacts(**facts), agents=[agent])


def peer(age=5, **more):
    return {"handshake_age": age, "rx": 10, "tx": 20, "path": "direct", **more}


MESH = [
    host("a", {"v": {"peers": {"b": peer(), "c": peer(None)}, "relayed": {"d": "b"}}}, age=2.0),
    host("b", {"v": {"peers": {"a": peer(), "old": peer()}}}),
    host("c", {"other": {"peers": {}}}),
    host("d", {"v": {"peers": {"a": {}}}}),
]


def seen(source: str, target: str) -> mesh.Link:
    found = mesh.links(MESH, "v", ["a", "b", "c", "d"])
    return next(link for link in found if (link.source, link.target) == (source, target))


def test_every_pair_of_members_is_there_and_peers_that_are_members_no_more():
    found = {(link.source, link.target) for link in mesh.links(MESH, "v", ["a", "b", "c", "d"])}
    assert len(found) == 4 * 3 + 1
    assert ("b", "old") in found


def test_a_handshake_is_as_old_as_it_is_now():
    assert seen("a", "b").handshake_age == 7.0
    assert mesh.cell(seen("a", "b")) == "7 s"


def test_cells_tell_each_case_apart():
    assert mesh.cell(seen("a", "c")) == "quiet"
    assert mesh.cell(seen("a", "d")) == "via b"
    assert mesh.cell(seen("b", "c")) == "none"
    assert mesh.cell(seen("c", "a")) == "?"
    assert mesh.cell(seen("d", "a")) == "peer"


def test_a_member_that_is_no_host_any_more_is_unknown():
    assert {link.path for link in mesh.links([], "v", ["x", "y"])} == {mesh.UNKNOWN}


def test_a_host_counts_the_peers_it_has_heard():
    heard = hosts.Handshakes(hosts.Heard.by(MESH[0]))
    assert heard.human_readable() == "1/2, 7 s ago"
    assert heard.machine_readable() == {"peers": 2, "heard": 1, "newest": 7.0, "oldest": 7.0}
    assert hosts.Handshakes(hosts.Heard.by(MESH[3])).human_readable() == "-"
    assert hosts.Handshakes(hosts.Heard(3, ())).human_readable() == "0/3"


def test_observations_of_other_services_shapes_are_passed_over():
    assert hosts.Heard.by(host("x", {"www": ["up"], "v": {"peers": None}})) == hosts.Heard(0, ())


def test_the_endpoint_is_where_others_reach_the_host():
    assert hosts.endpoint(host("a", public=("198.18.1.1",), private=("10.0.0.1/24",))) == (
        "198.18.1.1"
    )
    assert hosts.endpoint(host("a", private=("10.0.0.1/24",))) == "10.0.0.1"
    behind = host("a", private=("10.0.0.1/24",), public=("198.18.1.1",), behind_nat=True)
    assert hosts.endpoint(behind) == "10.0.0.1 (NAT)"
    assert hosts.endpoint(host("a", behind_nat=True)) == "? (NAT)"
    assert hosts.endpoint(host("a")) == ""


def test_states_are_one_word_where_all_services_agree():
    agents = MESH[0].agents
    other = agents[0].model_copy(update={"service": "firewall"})
    failed = other.model_copy(update={"state": State.ERROR})
    style = Style(enabled=False)
    assert hosts.States([*agents, other], style).human_readable() == "ready"
    assert hosts.States([*agents, failed], style).human_readable() == "vpn ready\nfirewall error"
    assert hosts.States([], style).human_readable() == "-"


def test_addresses_name_their_vpn_where_there_are_several():
    assert hosts.Addresses({"v": ["10.0.0.1", "fd::1"]}).human_readable() == "10.0.0.1, fd::1"
    assert hosts.Addresses({"v": ["1"], "a": ["2"]}).human_readable() == "a 2\nv 1"
    assert hosts.Addresses({}).human_readable() == "-"
    assert plain(hosts.Addresses({"v": ["1"]})) == '{"v":["1"]}'
