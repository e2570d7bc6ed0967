# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import pytest

@pytest.fixture
def broken():
    raise OSError("no disk")

def test_passes():
    pass

def test_fails():
    assert 1 + 1 == 3, "sums"

def test_cannot_begin(broken):
    pass

def test_is_left_out():
    pytest.skip("no such tool")
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """What a session of these tests noted."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[2]))
    monkeypatch.setenv("CNSMO_FAILURES", str(pytester.path / "noted"))
    monkeypatch.setenv("TOX_ENV_NAME", "unit")

    def run(source, skips="0"):
        monkeypatch.setenv("CNSMO_FAIL_ON_SKIP", skips)
        pytester.makepyfile(source)
        pytester.runpytest_subprocess("-p", "tests.failures", "-p", "tests.skips")
        files = sorted((pytester.path / "noted").glob("*"))
        return [line for file in files for line in file.read_text().splitlines()]

    return run


def test_what_failed_is_noted_in_a_line_each(run):
    fails, cannot = run(TESTS)
    assert fails.startswith("unit: test_what_failed_is_noted_in_a_line_each.py::test_fails: ")
    assert fails.endswith("AssertionError: sums")
    assert cannot.endswith("::test_cannot_begin: OSError: no disk")


def test_a_skip_that_is_a_failure_is_noted(run):
    assert any("skipped: " in line and "::test_is_left_out" in line for line in run(TESTS, "1"))


def test_a_session_that_has_no_tests_is_noted(run):
    assert run("") == ["unit: exit code 5"]


def test_of_what_passes_nothing_is_noted(run):
    assert run("def test_passes():\n    pass\n") == []
