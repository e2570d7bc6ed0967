# SPDX-License-Identifier: Apache-2.0
"""Asking a process how it is, as monitoring does."""

import http.client
import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, ...], float]


def ask(port: int, path: str, address: str = "127.0.0.1", method: str = "GET") -> tuple[int, str]:
    """HTTP status, and body."""
    connection = http.client.HTTPConnection(address, port, timeout=20)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def scrape(port: int) -> Series:
    """Figures by name and values of labels, in the order of the labels' names."""
    status, text = ask(port, "/metrics")
    assert status == 200
    return read(text)


def read(text: str) -> Series:
    """What Prometheus' own parser makes of it."""
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def health(port: int) -> tuple[int, str, dict[str, Any]]:
    """HTTP status, level, and what of each check."""
    status, text = ask(port, "/healthz")
    told = json.loads(text)
    return status, told["status"], told["checks"]
