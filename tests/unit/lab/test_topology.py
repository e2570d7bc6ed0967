# SPDX-License-Identifier: Apache-2.0
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.lab import topology
from cnsmo.lab.topology import Plan, Topology, VmSpec
from cnsmo.model.errors import CnsmoError, Conflict, InvalidRequest, NotFound


def test_demo_has_three_vms_at_each_site_and_one_of_west_behind_nat():
    plan = Plan.of(topology.demo())
    shown = {seat.name: (seat.spec.site, str(seat.address), seat.spec.nat) for seat in plan.seats}
    assert shown == {
        "web1": ("east", "198.18.1.11/24", False),
        "web2": ("east", "198.18.1.12/24", False),
        "db1": ("east", "198.18.1.13/24", False),
        "app1": ("west", "198.18.2.11/24", False),
        "app2": ("west", "198.18.2.12/24", False),
        "app3": ("west", "192.168.77.11/24", True),
    }
    assert {seat.name: seat.spec.groups for seat in plan.seats}["web2"] == ("web",)


def test_routed_vm_announces_its_own_address_as_the_public_one():
    facts = Plan.of(topology.demo()).seat("app1").facts()
    assert facts.site == "west"
    assert facts.private == ("198.18.2.11/24",)
    assert facts.public == ("198.18.2.11",)
    assert not facts.behind_nat
    assert facts.mtu == 1500


def test_vm_behind_nat_announces_no_public_address():
    seat = Plan.of(topology.demo()).seat("app3")
    assert seat.facts().public == ()
    assert seat.facts().behind_nat
    assert str(seat.outer) == "198.18.2.13/24"
    assert str(seat.gateway) == "192.168.77.1/24"


def test_every_nat_has_an_inner_network_of_its_own():
    vms = tuple(VmSpec(f"n{n}", "a", nat=True) for n in range(3))
    plan = Plan.of(Topology(vms, ("a",)))
    assert [str(seat.address.network) for seat in plan.seats] == [
        "192.168.77.0/24", "192.168.78.0/24", "192.168.79.0/24",
    ]  # fmt: skip


def test_mesh_deals_its_vms_out_over_the_sites():
    plan = Plan.of(topology.mesh(100))
    assert len(plan.seats) == 100
    assert sum(seat.site == 1 for seat in plan.seats) == 50
    assert plan.seats[99].name == "vm100"


def test_core_is_a_site_where_there_is_one():
    assert Plan(("a",), core=True).site_number("core") == 0
    assert str(topology.core_address()) == "198.18.0.11/24"
    with pytest.raises(NotFound, match="no site 'core'"):
        Plan(("a",)).site_number("core")


def test_full_site_refuses_one_more():
    plan = Plan.of(topology.mesh(244, sites=1))
    with pytest.raises(InvalidRequest, match="244 VMs fit here"):
        plan.add(VmSpec("more", "site1"))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"name": "core"}, "the lab's own"),
        ({"name": "router"}, "the lab's own"),
        ({"name": "Web1"}, "is not a name"),
        ({"name": "a b"}, "is not a name"),
        ({"name": "a.nat"}, "is not a name"),
        ({"name": "a\nnetns del x"}, "is not a name"),
        ({"site": "../x"}, "is not a name"),
        ({"groups": ("all",)}, "every host"),
    ],
)
def test_names_that_would_do_harm_are_refused(spec, said):
    with pytest.raises(InvalidRequest, match=said):
        VmSpec(**{"name": "web1", "site": "east", **spec})


def test_vm_twice_or_at_no_site_is_refused():
    plan = Plan.of(topology.demo())
    with pytest.raises(Conflict, match="'web1' already"):
        plan.add(VmSpec("web1", "west"))
    with pytest.raises(NotFound, match="it has: east, west"):
        plan.add(VmSpec("web3", "north"))
    with pytest.raises(NotFound, match="it has: web1, web2"):
        plan.seat("web3")


@pytest.mark.parametrize("sites", [("a", "a"), ("core",), tuple(f"s{n}" for n in range(256))])
def test_sites_that_cannot_be_are_refused(sites):
    with pytest.raises(InvalidRequest, match="sites"):
        Plan.of(Topology((), sites))


CHANGES = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(("x", "y")), st.booleans()), max_size=40
)


@given(CHANGES)
def test_seats_stay_and_are_never_shared_whoever_comes_and_goes(changes):
    plan = Plan(("x", "y"))
    for name, site, nat in changes:
        before = {seat.name: seat for seat in plan.seats}
        plan = plan.without(name) if name in before else plan.add(VmSpec(name, site, nat=nat))
        after = {seat.name: seat for seat in plan.seats}
        assert all(after[other] == seat for other, seat in before.items() if other != name)
        for one, other in itertools.combinations(plan.seats, 2):
            assert one.outer != other.outer
            assert one.address != other.address
            assert topology.mac(one.outer) != topology.mac(other.outer)
            assert (one.port, one.inner) != (other.port, other.inner)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_port_names_fit_the_kernels_limit():
    assert len(topology.Seat(VmSpec("a", "b"), 255, 254).port) <= 15


def test_a_plan_that_is_none_is_noticed():
    with pytest.raises((KeyError, TypeError, CnsmoError)):
        Plan.from_json({"sites": ["a"], "seats": [{"spec": {}}], "core": False})
