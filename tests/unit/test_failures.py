# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest

from tests.recheck import SUFFIX, again

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
        files = sorted(set((pytester.path / "noted").glob("*")) - named(pytester.path))
        return [line for file in files for line in file.read_text().splitlines()]

    return run


def named(path):
    """The files that name tests to be run once more."""
    return set((path / "noted").glob(f"*{SUFFIX}"))


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


# tests/recheck.py

FEW = """
def test_fails():
    assert False

def test_passes():
    pass
"""


def result(**environments):
    """What tox writes down of environments: whether each succeeded."""
    return {"testenvs": {name: {"result": {"success": ok}} for name, ok in environments.items()}}


def test_tests_that_failed_are_named_to_be_run_once_more(run, pytester):
    run(FEW)
    (test,) = again(result(unit=False, lint=True), pytester.path / "noted")["unit"]
    assert test.endswith(".py::test_fails")


def test_nothing_is_run_once_more_when_not_only_tests_failed(run, pytester):
    run(FEW + "\n\ndef test_left_out():\n    import pytest\n    pytest.skip('no tool')\n", "1")
    assert named(pytester.path) == set()
    assert again(result(unit=False), pytester.path / "noted") == {}


def test_nothing_is_run_once_more_when_an_environment_without_tests_failed(run, pytester):
    run(FEW)
    assert again(result(unit=False, lint=False), pytester.path / "noted") == {}


def test_nothing_is_run_once_more_when_many_tests_failed(run, pytester):
    run("".join(f"def test_{number}():\n    assert False\n\n\n" for number in range(4)))
    assert again(result(unit=False), pytester.path / "noted") == {}
