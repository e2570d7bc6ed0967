# SPDX-License-Identifier: Apache-2.0
"""Is the broker there at all? Found out at once, and said with the reason."""

from __future__ import annotations

import socket

import oslo_messaging
from oslo_config import cfg

from cnsmo.bus.transport import BAD_URL, BAD_URL_ERRORS
from cnsmo.model.errors import InvalidRequest, Unavailable

PATIENCE = 5.0
"""Seconds for a connection to one of the broker's addresses."""
PORTS = {"amqps": 5671}
AMQP = 5672


def ways(conf: cfg.ConfigOpts, url: str = "") -> tuple[tuple[str, int], ...]:
    """Host and TCP port of each of the broker's addresses.

    url: of the broker; empty: ``[bus] url``.

    :raises InvalidRequest: when it is not a URL of a broker.
    """
    try:
        parsed = oslo_messaging.TransportURL.parse(conf, url or conf.bus.url)
    except BAD_URL_ERRORS:
        raise InvalidRequest(BAD_URL) from None  # the error itself has the URL, with its password
    standard = PORTS.get(parsed.transport, AMQP)
    return tuple((host.hostname, host.port or standard) for host in parsed.hosts if host.hostname)


def knock(conf: cfg.ConfigOpts, patience: float = PATIENCE, url: str = "") -> None:
    """Connect to one of the broker's addresses, and hang up.

    patience: seconds for all of them together; each has its share. url: as with ways().

    :raises InvalidRequest: when ``[bus] url`` is not a URL of a broker.
    :raises Unavailable: when nobody answers at any address; the text says which and why.
    """
    failures = []
    addresses = ways(conf, url)
    for address in addresses:
        try:
            with socket.create_connection(address, timeout=patience / len(addresses)):
                return
        except OSError as exc:
            failures.append(f"{address[0]}:{address[1]}: {exc.strerror or exc}")
    if failures:
        raise Unavailable(f"the broker cannot be reached ([bus] url): {'; '.join(failures)}")
