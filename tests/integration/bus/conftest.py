# SPDX-License-Identifier: Apache-2.0
"""Real core and agent processes over a real RabbitMQ and a real PostgreSQL."""
