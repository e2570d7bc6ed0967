# SPDX-License-Identifier: Apache-2.0
"""TLS to the broker, in which it proves to be the host that was called, whichever of several.

oslo.messaging checks a broker's name only where its URL names one host and a file of authorities.
"""

from __future__ import annotations

import ssl
from typing import Any

from amqp import transport


class NamedTransport(transport.SSLTransport):  # type: ignore[misc]
    """TLS 1.2 or later; without a file of authorities the system's vouch for the broker."""

    def _wrap_socket(self, sock: Any, context: Any = None, **options: Any) -> ssl.SSLSocket:
        made = ssl.create_default_context(cafile=options.get("ca_certs"))
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        if options.get("certfile"):
            made.load_cert_chain(options["certfile"], options.get("keyfile"))
        named = options.get("server_hostname") or self.host  # kombu makes an address of localhost
        return made.wrap_socket(sock, server_hostname=named, do_handshake_on_connect=False)


def register() -> None:
    """Let py-amqp make its connections with TLS so."""
    transport.SSLTransport = NamedTransport
