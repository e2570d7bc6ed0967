# SPDX-License-Identifier: Apache-2.0
"""Balancers to render, and what is wanted of their tables."""

import dataclasses
from typing import Any

from cnsmo.services.loadbalancer.desired import (
    Bind,
    Check,
    LoadBalancerDesired,
    Mode,
    Pool,
    Server,
)
from cnsmo.services.loadbalancer.drivers.nfl_render import render
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Target, Wanted

NOW, BOOT = 1000.0, "this one"


def server(number: int, **more: Any) -> Server:
    """One of many."""
    return Server(**{"name": f"web-{number}", "address": f"10.66.0.{number}", "port": 80, **more})


def balancer(*servers: Server, **changed: Any) -> LoadBalancerDesired:
    """A balancer of these; changed: of the pool or of the whole."""
    fields = {it.name for it in dataclasses.fields(Pool)}
    pool = {"check": Check(), **{key: changed.pop(key) for key in fields & set(changed)}}
    whole: dict[str, Any] = {"mode": Mode.TCP, "binds": (Bind("", 8080),)}
    return LoadBalancerDesired(
        "nftables", pools=(Pool("web", servers, **pool),), **{**whole, **changed}
    )


def wanted(*servers: Server, earlier: Wanted | None = None, **changed: Any) -> Wanted:
    """What is wanted of the table of such a balancer."""
    return render("www", "shop/edge/www", balancer(*servers, **changed), earlier, (), BOOT)


def target(number: int, **more: Any) -> Target:
    """A server as the table knows it."""
    made = wanted(server(number)).targets[0]
    return dataclasses.replace(made, **more)
