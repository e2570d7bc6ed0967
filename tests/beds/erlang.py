# SPDX-License-Identifier: Apache-2.0
"""Talk to a running Erlang node with erl_call, a small C program that comes with Erlang.

A call costs 5 to 40 ms, where rabbitmqctl starts a virtual machine for each (seconds).
"""

import base64
import json
import re
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from tests.beds.bed import BedError

UNHEARD = "failed to connect to node"
"""What erl_call says when nothing was evaluated; on a busy machine once in a hundred times."""
TRIES = 5


def evaluate(
    program: str, node: str, expression: str, *, env: Mapping[str, str], timeout: int
) -> Any:
    """Value of an Erlang expression in RabbitMQ's `node`, as JSON makes it a Python object.

    `env` leads to the cookie (HOME) and to epmd; `timeout` in seconds. Raises BedError.
    """
    # In base64, because erl_call prints binaries and special characters in a way of its own.
    code = f"binary_to_list(base64:encode(rabbit_json:encode(begin {expression} end))).\n"
    for _again in range(TRIES):
        try:
            answer = subprocess.run(
                [program, "-sname", node, "-r", "-e", "-timeout", str(timeout)],
                input=code,
                env=dict(env),
                capture_output=True,
                text=True,
                timeout=timeout + 5,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BedError(f"{node} did not answer within {timeout} s") from error
        if UNHEARD not in answer.stdout + answer.stderr:
            break
        time.sleep(0.2)
    found = re.fullmatch(r'\{ok, "(.*)"\}', answer.stdout.strip(), re.DOTALL)
    if answer.returncode or not found:
        raise BedError(f"erl_call {expression}: {answer.stdout}{answer.stderr}")
    return json.loads(base64.b64decode(found[1]))


def binary(text: str) -> str:
    """An Erlang binary that holds `text`, whatever characters it has."""
    return f"<<{','.join(str(byte) for byte in text.encode())}>>"
