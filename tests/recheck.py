# SPDX-License-Identifier: Apache-2.0
"""What failed beside others is run once more, alone: by tools/test.sh, after all environments.

Two environments at a time share two processors, and a test that waits for something real may wait
in vain. So few tests that failed get a second chance, with nothing beside them. Both results are
told, and who passes only then is called flaky: that is a defect to be mended, of the test or of
what it tests, but not a reason to throw away what everything else has shown. Nothing is run again
where many tests failed, or something other than a test: a style, a type, the hunt for secrets.

Run as a file, with nothing but the standard library: RESULT.json of tox, the folder of
tests/failures.py, then the command that runs tox.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOST = 3
"""So many tests may have failed in all."""
SUFFIX = ".tests"
"""Of the files that name the tests that failed, where nothing else did."""


def failed(result: Mapping[str, Any]) -> set[str]:
    """The environments that failed, by what tox wrote down."""
    found = set()
    for name, environment in result["testenvs"].items():
        outcome = environment.get("result")
        if outcome is not None and not outcome["success"]:
            found.add(name)
    return found


def tests_of(folder: Path) -> dict[str, list[str]]:
    """By environment, the tests that failed in it."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        found.setdefault(file.name.partition(".")[0], []).extend(file.read_text().splitlines())
    return found


def again(result: Mapping[str, Any], folder: Path) -> dict[str, list[str]]:
    """By environment, what to run once more; empty: what failed has failed."""
    tests, environments = tests_of(folder), failed(result)
    several = sum(map(len, tests.values())) > MOST
    if several or not environments or environments != set(tests):
        return {}
    return tests


def main(words: list[str]) -> int:
    """The exit code: 0 when all passed in the end."""
    result, folder, tox = json.loads(Path(words[0]).read_text()), Path(words[1]), words[2:]
    chances = again(result, folder)
    code = 0 if chances else 1
    for environment, tests in chances.items():
        print(f"\n==> Once more, alone, in {environment}: {' '.join(tests)}", flush=True)
        if subprocess.run([*tox, "run", "-e", environment, "--", *tests]).returncode:
            code = 1
        else:
            for test in tests:
                print(f"FLAKY: failed beside others, passed alone: {environment}: {test}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
