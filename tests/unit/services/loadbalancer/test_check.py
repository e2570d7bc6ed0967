# SPDX-License-Identifier: Apache-2.0
"""Mistakes that show only when the whole deployment is seen."""

from tests.unit.services.loadbalancer.scenes import BALANCER, balancer, deployment, view


def test_a_name_of_nobody_hides_no_mistake_of_another_kind() -> None:
    """Who is named and gone stands in the way of no change: the others have to be found then."""
    gone = balancer("old", listen=81, pool={"group": "gone", "port": 1})
    twice = balancer("www2", vip="10.1.0.12/24")
    found = BALANCER.check(view(deployment(balancer(), gone, twice)))
    assert [(problem.path, problem.absent) for problem in found] == [
        ("loadbalancer.old.pool.group", True),
        ("loadbalancer.www2.listen", False),
        ("loadbalancer.www2.vip", False),
    ]
