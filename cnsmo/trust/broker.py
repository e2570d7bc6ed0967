# SPDX-License-Identifier: Apache-2.0
"""What a broker that hosts enter with certificates needs: its own, and whom it shall believe."""

from __future__ import annotations

import datetime
import ipaddress

from cnsmo.model.names import check_label
from cnsmo.trust import certificates
from cnsmo.trust.authority import Authority

AUTHORITIES = "authorities.pem"
KEY = "broker.key"
CERTIFICATE = "broker.pem"


def files(ca: Authority, address: str, now: datetime.datetime) -> dict[str, str]:
    """Content by name: a new key, the chain of its certificate, and the authorities of hosts.

    address: where hosts find the broker, or its name; the certificate is for nothing else.

    :raises ValueError: when it is neither; or a core's name, which no broker may bear.
    """
    _check(address)
    chain = ca.broker_chain(address, now)
    return {
        AUTHORITIES: ca.bundle(now),
        KEY: chain.key,
        CERTIFICATE: chain.certificates,
    }


def _check(address: str) -> None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        for label in address.split("."):
            check_label(label)
        if address == certificates.CORE_NAME:
            raise ValueError("that is the name by which cores are known") from None
