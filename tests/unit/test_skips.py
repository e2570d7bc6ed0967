# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import pytest

def test_passes():
    pass

@pytest.mark.may_skip("rare hardware")
def test_allowed():
    pytest.skip("no such hardware")

def test_forgotten():
    pytest.skip("no such tool")
"""


@pytest.fixture
def run(pytester, monkeypatch):
    def run(source, variable):
        monkeypatch.setenv("CNSMO_FAIL_ON_SKIP", variable)
        # Not what this run itself carries along: coverage, time-outs, plugins of the tree.
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        pytester.makepyfile(source)
        monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[2]))
        return pytester.runpytest_subprocess("-p", "tests.skips", "--strict-markers")

    return run


def test_a_skip_that_nobody_allowed_fails_the_session(run):
    result = run(TESTS, "1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*skipped, which is a failure here*", "*test_forgotten: *no such tool*"]
    )
    result.stdout.no_fnmatch_line("*test_allowed: *")


def test_an_allowed_skip_fails_nothing(run):
    result = run(TESTS.split("def test_forgotten")[0], "1")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.OK


def test_a_skipped_module_fails_the_session(run):
    result = run("import pytest\npytest.importorskip('no_such_module')\n", "1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*could not import 'no_such_module'*"])


def test_skips_are_only_skips_where_nobody_asks(run):
    assert run(TESTS, "0").ret == pytest.ExitCode.OK


def test_a_failing_test_is_still_what_fails(run):
    result = run(TESTS + "\n\ndef test_fails():\n    assert False\n", "1")
    result.assert_outcomes(passed=1, skipped=2, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
