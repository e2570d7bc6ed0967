#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests: installs what they need (bindep.txt, tox), then runs tox. Debian 12 and 13, Ubuntu 24.04.
#
#   tools/test.sh                            lint, all tests (two environments at a time), coverage
#   tools/test.sh --all                      and whole machines that boot, and the benchmarks at their smallest
#   tools/test.sh -e unit -- tests/unit -x   any arguments of tox
#
#   CNSMO_FAIL_ON_SKIP=1   a test that is skipped is a failure, unless it is marked may_skip (CI sets it)
#   CNSMO_VENV             where tox itself goes        (.venv in this tree)
#   CNSMO_TOX_DIR          where its environments go    (.tox in this tree)

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

main() {
    local arguments=("$@") profiles=(test lab) how=(run)
    if [[ ${1:-} == --all ]]; then
        "$0"
        arguments=(-e "bench-smoke,machines")
    elif (( $# == 0 )); then
        how=(run-parallel --parallel 2 --parallel-no-spinner)
    fi
    [[ " ${arguments[*]} " != *bench* ]] || profiles+=(bench)
    ensure_venv
    ensure_python_packages tox --requirement tools/requirements.txt
    ensure_system_packages "${profiles[@]}"
    tell_uv_about_pip
    cd "$top"
    # Bytecode makes every process that a test starts quicker.
    unset PYTHONDONTWRITEBYTECODE
    exec "$venv/bin/tox" "${how[@]}" "${arguments[@]}"
}

main "$@"
