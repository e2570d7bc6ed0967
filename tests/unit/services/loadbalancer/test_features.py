# SPDX-License-Identifier: Apache-2.0
"""What a driver cannot is refused at plan, by name."""

from typing import Any

import pytest

from cnsmo.services.loadbalancer.features import Feature
from cnsmo.services.loadbalancer.spec import LoadBalancerSpec
from tests.unit.services.loadbalancer.scenes import BALANCER, balancer, deployment, view

CERTIFICATE = "/etc/ssl/shop.pem"
ASKING: dict[Feature, tuple[str, dict[str, Any]]] = {
    Feature.HTTP: ("mode", {"mode": "http"}),
    Feature.TCP: ("mode", {"mode": "tcp"}),
    Feature.UDP: ("mode", {"mode": "udp"}),
    Feature.LOOPBACK: ("listen", {"listen": [80, "127.0.0.1:81"]}),
    Feature.ROUNDROBIN: ("algorithm", {"algorithm": "roundrobin"}),
    Feature.LEASTCONN: ("algorithm", {"algorithm": "leastconn"}),
    Feature.SOURCE: ("algorithm", {"algorithm": "source"}),
    Feature.RANDOM: ("algorithm", {"algorithm": "random"}),
    Feature.FIRST: ("algorithm", {"algorithm": "first"}),
    Feature.URI: ("algorithm", {"algorithm": "uri"}),
    Feature.WEIGHTS: ("pool.weights", {"pool": {"group": "web", "port": 1, "weights": {"web": 2}}}),
    Feature.BACKUP: ("pool.backup", {"pool": {"group": "web", "port": 1, "backup": "web1"}}),
    Feature.CHECK_TCP: ("check", {"check": "tcp"}),
    Feature.CHECK_HTTP: ("check", {"check": {"http": "/"}}),
    Feature.PERSIST_SOURCE: ("persistence", {"persistence": "source"}),
    Feature.PERSIST_COOKIE: ("persistence", {"persistence": "cookie"}),
    Feature.TLS: ("tls", {"tls": {"certificates": CERTIFICATE}}),
    Feature.CLIENT_CA: ("tls.client_ca", {"tls": {"certificates": CERTIFICATE, "client_ca": "/a"}}),
    Feature.REDIRECT: ("tls.redirect", {"tls": {"certificates": CERTIFICATE, "redirect": 81}}),
    Feature.TIMEOUTS: ("timeouts", {"timeouts": {"client": 1}}),
    Feature.MAX_CONNECTIONS: ("max_connections", {"max_connections": 1}),
    Feature.PROXY_ACCEPT: ("proxy_protocol.accept", {"proxy_protocol": {"accept": True}}),
    Feature.PROXY_SEND: ("proxy_protocol.send", {"proxy_protocol": {"send": "v1"}}),
    Feature.HEADERS: ("headers", {"headers": {"forwarded": False}}),
    Feature.ROUTES: ("routes", {"routes": {"path": "/a", "pool": {"group": "db", "port": 1}}}),
    Feature.ALLOW: ("allow", {"allow": "192.0.2.0/24"}),
    Feature.VIP: ("vip", {"vip": "10.1.0.100/24"}),
}
"""How each is asked for, and the key that is named where a driver cannot do it."""


def refusals(driver: str, feature: Feature) -> dict[str, str]:
    """What the plan says of a balancer of that driver, by the key."""
    spec = ASKING[feature][1]
    problems = BALANCER.check(view(deployment(balancer(driver=driver, **spec))))
    return {it.path: f"{it.message} ({it.remedy})" for it in problems if str(feature) in it.message}


@pytest.mark.parametrize("feature", Feature)
@pytest.mark.parametrize("driver", sorted(BALANCER.abilities()))
def test_a_driver_is_asked_only_for_what_it_can(driver: str, feature: Feature) -> None:
    abilities = BALANCER.abilities()
    key, said = ASKING[feature][0], refusals(driver, feature)
    if feature in abilities[driver]:
        assert said == {}
        return
    able = ", ".join(sorted(name for name, can in abilities.items() if feature in can))
    assert said == {
        f"loadbalancer.www.{key}": f"the driver {driver} cannot do {feature} "
        f"(drivers that can: {able})"
    }


def test_each_key_that_a_driver_might_not_know_is_a_feature() -> None:
    """A cookie is persistence's; the others are everybody's."""
    asked = {key.partition(".")[0] for key, _spec in ASKING.values()}
    assert set(LoadBalancerSpec.model_fields) - asked == {"on", "cookie", "drain", "driver"}
