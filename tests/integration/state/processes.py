# SPDX-License-Identifier: Apache-2.0
"""What the tests run in processes of their own."""

import random
import traceback
from pathlib import Path
from typing import Any

import cnsmo.cmd  # noqa: F401  chooses the threading backend
from cnsmo import conf
from cnsmo.bus.brokers.none import NoBroker
from cnsmo.core.context import Core
from cnsmo.core.membership import Membership
from cnsmo.model.errors import NotAdmitted
from cnsmo.model.messages import Announcement
from cnsmo.model.resource import OPERATOR
from cnsmo.state import schema
from cnsmo.state.claims import Claims
from cnsmo.state.engine import engine_for
from cnsmo.state.store import Store
from cnsmo.state.vault import Vault
from cnsmo.state.writer import Writer
from tests.joining import join_request

KEY_FILE = "secrets.json"
ROUNDS = 5
_gate: Any = None


def wait_at(gate: Any) -> None:
    """Initializer of a pool: all that its tasks do begins at the same moment."""
    global _gate
    _gate = gate


def upgrade(url: str) -> str:
    """Migrate; returns what went wrong."""
    engine = engine_for(url)
    _gate.wait(60)
    try:
        schema.upgrade(engine)
    except BaseException:  # noqa: BLE001  # told to the process that asked
        return traceback.format_exc()
    finally:
        engine.dispose()
    return ""


def write_often(
    url: str, key_file: str, seed: int, times: int, names: int
) -> list[tuple[int, dict[str, int]]]:
    """Write and delete rows by chance; returns each revision with what it says of each row.

    A deleted row says -1.
    """
    dice = random.Random(seed)
    store = Store(engine_for(url), Vault(Path(key_file)))
    told = []
    _gate.wait(60)
    for number in range(times):
        chosen = {f"row{dice.randrange(names)}": dice.random() for _ in range(dice.randint(1, 3))}

        def work(writer: Writer, number: int = number, chosen: dict = chosen) -> dict[str, int]:
            said = {}
            for name, chance in chosen.items():
                if chance < 0.2 and writer.delete("thing", name):
                    said[name] = -1
                elif chance >= 0.2:
                    said[name] = seed * 1_000_000 + number
                    writer.put("thing", name, {"value": said[name]}, OPERATOR)
            return said

        done = store.write("shop", f"writer {seed}", work)
        if done.value:
            told.append((done.revision, done.value))
    store.engine.dispose()
    return told


def claim_often(url: str, key_file: str, owner: str) -> list[tuple[str, int]]:
    """Claim whatever is due, until each piece of work was done ROUNDS times; returns what was."""
    store = Store(engine_for(url), Vault(Path(key_file)))
    claims, done = Claims(store, owner, 3600), []
    _gate.wait(60)
    while found := claims.take(("health", "purge", "ended"), 3):
        for claim in found:
            assert claims.holds(claim)
            done.append((claim.name, claim.number))
            claims.done(claim, after=0 if claim.number < ROUNDS else 3600)
    store.engine.dispose()
    return done


class Silent:
    """Tells nobody."""

    def send(self, event: Any) -> None:
        """No event."""

    def notify(self, deployment: str, head: int, lazy: bool = False) -> None:
        """No hint."""

    def part(self, ident: str, head: int) -> None:
        """No last hint."""


def make_core(url: str, ca_directory: str) -> Core:
    """A core without a bus."""
    conf.register()
    conf.CONF.set_override("ca_directory", ca_directory, "join")
    key_file = str(Path(ca_directory).with_name(KEY_FILE))
    conf.CONF.set_override("key_file", key_file, "secrets")
    silent: Any = Silent()
    return Core(conf.CONF, engine_for(url), silent, silent, NoBroker(conf.CONF))


def join_many(
    url: str, ca_directory: str, token: str, hosts: list[str]
) -> dict[str, list[str] | str]:
    """Join hosts and announce them to the VPN backbone; their addresses, or why there are none."""
    core = make_core(url, ca_directory)
    membership = Membership(core)
    _gate.wait(60)
    found: dict[str, list[str] | str] = {}
    for host in hosts:
        answer = membership.join(join_request(token, host))
        who = core.identities.authenticate(answer.id, answer.secret)
        offer = Announcement(service="vpn", instance="backbone", body={"driver": "noop"})
        try:
            membership.announce(who, offer)
        except NotAdmitted as exc:
            found[host] = str(exc)
            continue
        row = core.store.view("shop").members("vpn", "backbone")[host]
        found[host] = row.body["addresses"]
    core.store.engine.dispose()
    return found


def join_and_return(url: str, ca_directory: str, token: str, hosts: list[str]) -> list[str]:
    """Join hosts; what each of them was answered."""
    core = make_core(url, ca_directory)
    _gate.wait(60)
    found = [Membership(core).join(join_request(token, host)).model_dump_json() for host in hosts]
    core.store.engine.dispose()
    return found
