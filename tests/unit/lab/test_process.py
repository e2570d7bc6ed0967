# SPDX-License-Identifier: Apache-2.0
import dataclasses
import os
import subprocess

import pytest

from cnsmo.lab.errors import LabError
from cnsmo.lab.process import Process, child_of, kill_all_within


@pytest.fixture
def sleeper():
    child = subprocess.Popen(["sleep", "60"])
    yield child
    child.kill()
    child.wait()


def test_process_is_known_again(sleeper):
    process = Process.of(sleeper.pid)
    assert process == Process.of(sleeper.pid)
    assert process.alive


def test_killed_process_is_gone_and_reaped_on_return(sleeper):
    process = Process.of(sleeper.pid)
    process.kill()
    assert not process.alive
    assert not os.path.exists(f"/proc/{sleeper.pid}")
    process.kill()  # again: nothing


@pytest.mark.parametrize("other", [{"started": 1}, {"boot": "another"}])
def test_successor_with_the_same_number_is_not_touched(sleeper, other):
    stranger = dataclasses.replace(Process.of(sleeper.pid), **other)
    assert not stranger.alive
    stranger.kill()
    assert stranger.wait()
    assert sleeper.poll() is None


def test_corpse_does_not_count_as_alive():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError):
        Process.of(child.pid)
    child.wait()


def test_wait_gives_up_after_its_time(sleeper):
    assert not Process.of(sleeper.pid).wait(0.01)


def test_child_is_found():
    shell = subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE)
    shell.stdout.readline()
    child = child_of(shell.pid)
    child.kill()
    shell.communicate()
    with pytest.raises(ProcessLookupError):
        child_of(child.pid)


def test_nobody_kills_the_namespace_that_he_sits_in():
    with pytest.raises(LabError, match="leave it first"):
        kill_all_within({os.stat("/proc/self/ns/net").st_ino})
