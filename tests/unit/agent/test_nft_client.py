# SPDX-License-Identifier: Apache-2.0
"""Who asks the process that stays for nft(8): what it does when that is not there, or ends."""

import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from cnsmo.agent.nft_client import MOST_CHARACTERS, NftClient
from cnsmo.agent.nft_server import understands
from cnsmo.model.errors import ProgramError
from tests.eventually import eventually

SERVER = """
import json, os, sys, time
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    word = asked["args"][-1]
    if word == "die":
        os._exit(3)
    if word == "hang":
        time.sleep(60)
    print(json.dumps([0, " ".join(asked["args"]) + asked["stdin"], str(os.getpid())]), flush=True)
"""


class Started:
    """Starts what the client asks for, or another script."""

    def __init__(self, script: str) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self._script = script

    def __call__(self, _script: str) -> subprocess.Popen[bytes]:
        made = subprocess.Popen(
            [sys.executable, "-c", self._script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.processes.append(made)
        return made


@pytest.fixture
def started() -> Started:
    return Started(SERVER)


@pytest.fixture
def client(started: Started) -> NftClient:
    return NftClient(started)


def test_one_process_answers_all(client: NftClient, started: Started) -> None:
    first = client.run(("nft", "list", "tables"), None, 5)
    second = client.run(("nft", "-f", "-"), "grüße\n", 5)
    assert first
    assert second
    assert (first[:2], second[:2]) == ((0, "list tables"), (0, "-f -grüße\n"))
    assert first[2] == second[2]
    assert len(started.processes) == 1


@pytest.mark.parametrize(
    ("args", "known"),
    [
        (("list", "ruleset"), True),
        (("-j", "-t", "list sets inet; list maps inet"), True),
        (("-c", "-f", "-"), True),
        (("-f", "/etc/nftables.conf"), False),
        (("--version",), False),
        (("-s", "list", "ruleset"), False),
        (("list", "ruleset", "-a"), False),
        ((), False),
    ],
)
def test_what_it_does_not_know_is_left_to_the_program(
    client: NftClient, started: Started, args: tuple[str, ...], known: bool
) -> None:
    assert understands(args) is known
    assert (client.run(("nft", *args), None, 5) is not None) is known
    assert len(started.processes) == known


def test_other_programs_and_long_commands_are_left_to_themselves(
    client: NftClient, started: Started
) -> None:
    assert client.run(("ip", "link"), None, 5) is None
    assert client.run(("nft", "-f", "-"), "x" * MOST_CHARACTERS, 5) is None
    assert started.processes == []


def test_over_what_it_ends_is_a_failure_and_the_next_one_has_another(
    client: NftClient, started: Started
) -> None:
    with pytest.raises(ProgramError, match="nft ended before it was done"):
        client.run(("nft", "die"), None, 5)
    assert client.run(("nft", "list"), None, 5)
    started.processes[-1].kill()  # as when a machine has no memory left
    started.processes[-1].wait()
    assert client.run(("nft", "list"), None, 5)
    assert len(started.processes) == 3


def test_what_takes_too_long_is_ended(client: NftClient, started: Started) -> None:
    with pytest.raises(ProgramError, match=r"nft did not end within 0\.05 s"):
        client.run(("nft", "hang"), None, 0.05)
    assert started.processes[0].returncode is not None
    assert client.run(("nft", "list"), None, 5)


@pytest.mark.parametrize("script", ["", "print('no library')"])
def test_where_it_cannot_be_used_it_is_tried_once(script: str) -> None:
    started = Started(script)
    client = NftClient(started)
    assert client.run(("nft", "list"), None, 5) is None
    assert client.run(("nft", "list"), None, 5) is None
    assert len(started.processes) == 1
    assert started.processes[0].returncode is not None


def test_where_no_process_can_be_started_the_program_is_run() -> None:
    def refuse(_script: str) -> subprocess.Popen[bytes]:
        raise FileNotFoundError(str(Path("/nowhere")))

    assert NftClient(refuse).run(("nft", "list"), None, 5) is None


def test_it_ends_with_who_asked_it(started: Started) -> None:
    client = NftClient(started)
    assert client.run(("nft", "list"), None, 5)
    gone = weakref.ref(client)
    del client
    eventually(lambda: gone() is None)
    assert started.processes[0].returncode is not None
