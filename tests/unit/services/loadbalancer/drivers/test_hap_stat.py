# SPDX-License-Identifier: Apache-2.0
"""What HAProxy 2.6 says of itself, as it was written down from one."""

import pytest

from cnsmo.services.loadbalancer.drivers.hap_stat import (
    read_fingerprint,
    read_rows,
    read_servers,
    read_sessions,
    read_workers,
)
from cnsmo.services.loadbalancer.drivers.hap_state import COLUMNS

STATE = f"""1
# {COLUMNS}
3 www 438635429 web1_10.9.0.2_8080 10.9.0.2 2 0 3 3 91 15 3 4 6 0 0 1 - 8080 - 0 0 - - 0
3 www 88 web2_fd00::2_8080 fd00::2 0 1 3 3 7 15 3 4 6 0 0 1 - 8080 - 0 0 - - 0
4 api 99 web3_10.9.0.3_80 10.9.0.3 0 8 0 3 0 1 0 2 2 0 0 1 - 80 - 0 0 - - 0
"""
PROC = """#<PID>          <type>          <reloads>       <uptime>        <version>
1668            master          4 [failed: 2]   0d00h03m08s     2.6.12-1+deb12u4
# workers
8849            worker          0               0d00h00m01s     2.6.12-1+deb12u4
# old workers
8538            worker          1               0d00h00m05s     2.6.12-1+deb12u4
7184            worker          2               0d00h00m09s     2.6.12-1+deb12u4
# programs

"""
STAT = """# pxname,svname,scur,status,check_desc,type,iid,
www,web1_10.9.0.2_8080,4,UP 1/3,Layer7 check passed,2,3,
www,BACKEND,5,UP,"comma, and quotes",1,3,
"""
SESSIONS = """0x55bb2a81fda0: proto=tcpv4 src=10.9.0.3:5 fe=front-0 be=www srv=web1_10.9.0.2_80 ts=0
0x7f5d400460a0: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s
"""


def test_servers() -> None:
    one, two, three = read_servers(STATE)
    assert (one.pool, one.name, one.ident) == ("www", "web1_10.9.0.2_8080", 438635429)
    assert (one.address, one.port, one.weight, one.since) == ("10.9.0.2", 8080, 3, 91)
    assert (one.stopped, one.drained, one.down, one.checking) == (False, False, False, True)
    assert (two.stopped, two.down, two.address) == (True, True, "fd00::2")
    assert (three.drained, three.checking, three.weight) == (True, False, 0)


def test_processes() -> None:
    found = read_workers(PROC)
    assert found is not None
    assert (found.master, found.current, found.old, found.failed) == (1668, 8849, (8538, 7184), 2)
    assert found.all == {1668, 8849, 8538, 7184}


@pytest.mark.parametrize("shown", ["", "Unknown command.", "# workers\n12 worker 0 x y\n"])
def test_no_processes(shown: str) -> None:
    assert read_workers(shown) is None


def test_statistics() -> None:
    one, two = read_rows(STAT)
    assert (one.pool, one.name, one.kind, one.number("scur")) == (
        "www", "web1_10.9.0.2_8080", 2, 4,
    )  # fmt: skip
    assert (two.text("check_desc"), two.number("nothing"), two.text("nothing")) == (
        "comma, and quotes", 0, "",
    )  # fmt: skip
    assert read_rows("") == []


def test_sessions() -> None:
    assert read_sessions(SESSIONS) == [
        ("0x55bb2a81fda0", ("www", "web1_10.9.0.2_80")),
        ("0x7f5d400460a0", ("<NONE>", "<none>")),
    ]


def test_which_structure_runs() -> None:
    mark = "0123456789abcdef" * 2
    assert read_fingerprint(f"Name: HAProxy\ndescription: cnsmo shop/a/b {mark}\nx: y") == mark
    assert read_fingerprint("Name: HAProxy\ndescription: mine\n") is None
    assert read_fingerprint("") is None
