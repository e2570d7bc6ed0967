# SPDX-License-Identifier: Apache-2.0
"""The core within bounds that its systemd unit sets, where this machine can set them as well."""

import subprocess
import sys

import pytest

from tests.integration.fleet import Fleet

PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
"""prctl(2), Linux 6.3: as MemoryDenyWriteExecute= of systemd.exec(5)."""
BIND = (
    "import ctypes, runpy, sys\n"
    f"assert ctypes.CDLL(None).prctl({PR_SET_MDWE}, {PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0) == 0\n"
)
RUN = (
    "sys.argv = sys.argv[1:]\nrunpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
)
BREAK = "import mmap\nmmap.mmap(-1, 1, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)\n"


@pytest.fixture
def bound() -> list[str]:
    """Words of Python that run a module without memory to write code into."""
    command = [sys.executable, "-c", BIND + BREAK]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if "PermissionError" not in said.stderr:
        pytest.skip("this kernel (before 6.3) cannot refuse memory that is written and run")
    return ["-c", BIND + RUN]


@pytest.mark.may_skip("the kernel of some machines is older")
def test_a_core_needs_no_memory_that_is_written_and_run(fleet: Fleet, bound: list[str]) -> None:
    (first,) = fleet.programs
    first.stop()
    first.command[1:3] = [*bound, "cnsmo.cmd.core"]
    first.start().says("core answers")
    fleet.apply()
    fleet.agent("web1")
    fleet.until_ready("web1")
    assert fleet.operator.host_list("shop")[0].certified_until is not None
