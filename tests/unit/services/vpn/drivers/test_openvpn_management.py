# SPDX-License-Identifier: Apache-2.0
"""What OpenVPN 2.6.14 says on its management socket, as recorded, and what is made of it."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnsmo.model.errors import ProgramError
from cnsmo.services.vpn.drivers.openvpn_config import SOCKET
from cnsmo.services.vpn.drivers.openvpn_management import (
    Management,
    State,
    parse_sessions,
    parse_state,
    parse_traffic,
)

STATUS = """\
TITLE\tOpenVPN 2.6.14 x86_64-pc-linux-gnu [SSL (OpenSSL)]
TIME\t2026-11-22 20:22:48\t1795378968
HEADER\tCLIENT_LIST\tCommon Name\tReal Address\tVirtual Address\tVirtual IPv6 Address\t\
Bytes Received\tBytes Sent\tConnected Since\tConnected Since (time_t)\tUsername\tClient ID\t\
Peer ID\tData Channel Cipher
CLIENT_LIST\tc\t10.1.0.4:43660\t10.66.0.4\tfd66::4\t1518\t2028\t2026-11-22 20:22:44\t1795378964\t\
UNDEF\t5\t0\tAES-256-GCM
CLIENT_LIST\tUNDEF\t10.1.0.9:1\t\t\t0\t0\t2026-11-22 20:22:44\t1795378964\tUNDEF\t6\t1\t
CLIENT_LIST\tkill all\t10.1.0.9:2\t\t\t0\t0\t2026-11-22 20:22:44\t1795378964\tUNDEF\t7\t2\t
HEADER\tROUTING_TABLE\tVirtual Address\tCommon Name\tReal Address\tLast Ref\tLast Ref (time_t)
ROUTING_TABLE\t10.66.0.4\tc\t10.1.0.4:43660\t2026-11-22 20:22:47\t1795378967
ROUTING_TABLE\tfd66::4\tc\t10.1.0.4:43660\t2026-11-22 20:22:44\t1795378964
ROUTING_TABLE\t192.168.7.0/24\tc\t10.1.0.4:43660\t2026-11-22 20:22:44\t1795378964
ROUTING_TABLE\t192.168.7.9C\tc\t10.1.0.4:43660\t2026-11-22 20:22:44\t1795378964
GLOBAL_STATS\tMax bcast/mcast queue length\t0
""".splitlines()


def test_sessions_are_read_with_what_is_sent_to_them() -> None:
    (session,) = parse_sessions(STATUS)
    assert (session.host, session.id, session.endpoint) == ("c", 5, "10.1.0.4:43660")
    assert (session.age, session.received, session.sent) == (4.0, 1518, 2028)
    assert session.networks == {"10.66.0.4/32", "fd66::4/128", "192.168.7.0/24"}


def test_no_clients_are_no_sessions() -> None:
    assert parse_sessions(STATUS[:3]) == []


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("1795378415,CONNECTED,SUCCESS,,,,,", State("CONNECTED", 1795378415.0)),
        ("1795378469,CONNECTED,SUCCESS,10.66.0.2,10.1.0.1,1194,,",
         State("CONNECTED", 1795378469.0, "10.1.0.1:1194")),
        ("17,CONNECTED,SUCCESS,,fd09::1,443,,", State("CONNECTED", 17.0, "[fd09::1]:443")),
        ("17,WAIT,,,,,,", State("WAIT", 17.0)),
    ],
)  # fmt: skip
def test_state_is_read(line: str, state: State) -> None:
    assert parse_state([line]) == state


def test_state_may_be_missing() -> None:
    assert parse_state([]) == State("", 0.0)


def test_traffic_is_read() -> None:
    lines = ["OpenVPN STATISTICS", "Updated,2026-11-22 20:14:50", "TUN/TAP read bytes,352",
             "TCP/UDP read bytes,2080", "TCP/UDP write bytes,2096"]  # fmt: skip
    assert parse_traffic(lines) == (2080, 2096)


# --- the conversation -------------------------------------------------------------------------


@contextlib.contextmanager
def daemon(state_dir: Path, *answers: bytes) -> Iterator[list[bytes]]:
    """Something that answers on the socket like the daemon; its directory's path may be long."""
    heard: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    near = Path("/tmp") / f"cnsmo-test-{threading.get_ident()}.sock"
    near.unlink(missing_ok=True)
    listener.bind(str(near))
    near.rename(state_dir / SOCKET)
    listener.listen()

    def serve() -> None:
        with listener.accept()[0] as visitor:
            visitor.sendall(b">INFO:OpenVPN Management Interface Version 5\r\n")
            for answer in answers:
                heard.append(visitor.recv(100))
                visitor.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    yield heard
    thread.join()
    listener.close()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    long = tmp_path.joinpath(*["a-directory-with-a-long-name"] * 6)
    long.mkdir(parents=True)
    return long


def test_news_between_the_lines_is_passed_over(state_dir: Path) -> None:
    answer = b">STATE:1,WAIT\r\n17,CONNECTED,SUCCESS,,,,,\r\n>LOG:x\r\nEND\r\n"
    with daemon(state_dir, answer) as heard, Management(state_dir) as management:
        assert management.state().name == "CONNECTED"
    assert heard == [b"state\n"]


def test_expelling_tells_the_client_and_then_ends_it(state_dir: Path) -> None:
    status = "\r\n".join([*STATUS, "END", ""]).encode()
    ok = b"SUCCESS: done\r\n"
    gone = b"ERROR: common name 'c' not found\r\n"
    with daemon(state_dir, status, ok, gone) as heard, Management(state_dir) as management:
        management.expel(management.sessions())
    assert heard[1:] == [b"client-kill 5\n", b"kill c\n"]


def test_silence_is_an_error(state_dir: Path) -> None:
    with daemon(state_dir, b""), Management(state_dir, patience=0.1) as management:
        with pytest.raises(ProgramError, match=r"does not answer|ended while"):
            management.state()


def test_nobody_there_is_an_error(state_dir: Path) -> None:
    with pytest.raises(ProgramError, match="does not answer"), Management(state_dir):
        pass
    with pytest.raises(ProgramError, match="does not answer"), Management(state_dir / "none"):
        pass
