#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests: installs what they need (bindep.txt, tox), then runs tox. Debian 12 and 13, Ubuntu 24.04.
# Up to three tests that fail beside others are run once more, alone, and called flaky when they pass then.
#
#   tools/test.sh                            lint, all tests (two environments at a time), coverage
#   tools/test.sh --all                      and machines that boot, an OpenStack, and the benchmarks at their smallest
#   tools/test.sh -e unit -- tests/unit -x   any arguments of tox
#
#   CNSMO_FAIL_ON_SKIP=1   a test that is skipped is a failure, unless it is marked may_skip (CI sets it)
#   CNSMO_VENV             where tox itself goes        (.venv in this tree)
#   CNSMO_TOX_DIR          where its environments go    (.tox in this tree)

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

main() {
    local arguments=("$@") profiles=(test lab) how=(run) result
    if [[ ${1:-} == --all ]]; then
        "$0"
        arguments=(-e "bench-smoke,machines,vms,openstack")
    elif (( $# == 0 )); then
        how=(run-parallel --parallel 2 --parallel-no-spinner)
    fi
    [[ " ${arguments[*]} " != *bench* ]] || profiles+=(bench)
    [[ " ${arguments[*]} " != *vms* ]] || profiles+=(vms)
    [[ " ${arguments[*]} " != *openstack* ]] || profiles+=(openstack)
    ensure_venv
    ensure_python_packages tox --requirement tools/requirements.txt
    ensure_system_packages "${profiles[@]}"
    tell_uv_about_pip
    cd "$top"
    # Bytecode makes every process that a test starts quicker.
    unset PYTHONDONTWRITEBYTECODE
    export CNSMO_FAILURES
    CNSMO_FAILURES=$(mktemp -d)
    result=$(mktemp)
    local code=0
    "$venv/bin/tox" "${how[@]}" --result-json "$result" "${arguments[@]}" || code=$?
    tell_what_failed
    if (( code != 0 && $# == 0 )); then
        recheck "$result" && code=0
    fi
    rm -r "$CNSMO_FAILURES" "$result"
    exit $code
}

# Environments that run side by side print a lot: what failed is said again, at the end.
tell_what_failed() {
    if compgen -G "$CNSMO_FAILURES/*" >/dev/null; then
        printf '\n'
        warn "failed:"
        find "$CNSMO_FAILURES" -type f ! -name '*.tests' -exec cat {} + >&2
    fi
}

# A few tests that failed beside another environment get a second chance, alone: see tests/recheck.py.
recheck() { # RESULT
    local folder=$CNSMO_FAILURES
    CNSMO_FAILURES=$(mktemp -d)
    local code=0
    "$venv/bin/python" "$top/tests/recheck.py" "$1" "$folder" "$venv/bin/tox" || code=$?
    tell_what_failed
    rm -r "$folder"
    return $code
}

main "$@"
