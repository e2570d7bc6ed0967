# SPDX-License-Identifier: Apache-2.0
"""A driver that keeps the load balancer it was told in a file; see kit.noop."""

from __future__ import annotations

from typing import Any

from cnsmo.services.kit.noop import Noop
from cnsmo.services.loadbalancer.desired import LoadBalancerDesired
from cnsmo.services.loadbalancer.driver import LoadBalancerDriver


class NoopDriver(Noop[LoadBalancerDesired], LoadBalancerDriver):
    """A load balancer that nobody reaches."""

    def detail(self, desired: LoadBalancerDesired) -> dict[str, Any]:
        servers = {
            pool.name: {server.name: {"state": "unchecked"} for server in pool.servers}
            for pool in desired.pools
        }
        return {"servers": servers, "frontends": {}, "vip": False}
