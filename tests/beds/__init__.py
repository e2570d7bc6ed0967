# SPDX-License-Identifier: Apache-2.0
"""Real servers for the tests: each one private to the test run that started it.

A bed has a directory, ports and a password of its own, never reads the distribution's
configuration, and ends with the process that made it, however that process ends.
"""

from tests.beds.bed import Bed, BedError, MissingPackage
from tests.beds.mariadb import MariadbBed
from tests.beds.postgresql import PostgresqlBed
from tests.beds.rabbitmq import Queue, RabbitmqBed, Vhost
from tests.beds.rabbitmq_tls import TlsRabbitmqBed

__all__ = [
    "Bed",
    "BedError",
    "MariadbBed",
    "MissingPackage",
    "PostgresqlBed",
    "Queue",
    "RabbitmqBed",
    "TlsRabbitmqBed",
    "Vhost",
]
