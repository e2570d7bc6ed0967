# SPDX-License-Identifier: Apache-2.0
"""Base of the drivers of the entry point group ``cnsmo.loadbalancer.drivers``."""

from __future__ import annotations

from typing import ClassVar

from cnsmo.services.base import Driver
from cnsmo.services.loadbalancer.desired import LoadBalancerDesired
from cnsmo.services.loadbalancer.features import Feature


class LoadBalancerDriver(Driver[LoadBalancerDesired]):
    """Keeps one load balancer on one of its carriers.

    observe() tells in ``detail`` what people ask for: ``servers``, by pool and server: ``state``
    (up, down, drain, leaving, unchecked), ``why``, ``weight``, ``sessions``, ``total``, ``rate``,
    ``errors``; ``frontends``, by ``address:port``: ``sessions``, ``total``, ``rate``, and where
    the driver knows them ``state`` (open, full: more clients wait) and ``errors``; ``vip``: whether
    this carrier holds it.
    """

    can: ClassVar[frozenset[Feature]] = frozenset(Feature)
    """What it can realise."""
