# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ that speaks TLS only to those who have a certificate, with its management API."""

from collections.abc import Sequence

from tests.beds.pki import Authority, Pair
from tests.beds.ports import PortLease, accepts
from tests.beds.rabbitmq import RabbitmqBed

LARGEST = 4 * 1024 * 1024
"""Bytes of a message; the broker closes the channel on a larger one."""
CONFIG = """
max_message_size = {largest}
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL
ssl_cert_login_from = common_name
listeners.ssl.local = 127.0.0.1:{port}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_options.versions.1 = tlsv1.2
management.ssl.ip = 127.0.0.1
management.ssl.port = {management}
management.ssl.cacertfile = {ca}
management.ssl.certfile = {certificate}
management.ssl.keyfile = {key}
"""
MANAGER = "bed"
"""An administrator; its password is the bed's."""


class TlsRabbitmqBed(RabbitmqBed):
    """RabbitMQ with TLS on `tls_port` and the management API on `management_port`."""

    def __init__(self, trusted: str = "", addresses: Sequence[str] = ()) -> None:
        """trusted: authorities, as PEM, whose clients are let in, too; addresses: under which it
        is reached besides, by relays."""
        super().__init__(plugins=["rabbitmq_management", "rabbitmq_auth_mechanism_ssl"])
        lease = PortLease()
        self._leases.append(lease)
        self.tls_port = lease.port
        self.authority = Authority(self.directory / "pki")
        self.client: Pair = self.authority.issue("anybody")
        """Of a client that logs in by password."""
        server = self.authority.issue("broker", "127.0.0.1", *addresses)
        clients = self.directory / "pki" / "clients.pem"
        clients.write_text(self.authority.bundle.read_text() + trusted)
        self._config += CONFIG.format(
            largest=LARGEST,
            port=self.tls_port,
            management=self.management_port,
            ca=clients,
            certificate=server.certificate,
            key=server.key,
        )

    @property
    def management_url(self) -> str:
        """Of the management API."""
        return f"https://127.0.0.1:{self.management_port}"

    def _answers(self) -> bool:
        # The broker answers a client seconds before its API does.
        return super()._answers() and accepts(self.tls_port) and accepts(self.management_port)
