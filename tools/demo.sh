#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# CNSMO before your eyes: installs what is missing, then runs "cnsmo-manage lab demo" with the arguments given here.
# For Debian 12 and 13 and Ubuntu 24.04 with nothing but their base system. What is there is not installed again.
#
#   tools/demo.sh [ARGUMENT OF "cnsmo-manage lab demo"]...
#   tools/demo.sh --install-only    everything but the demo itself
#
#   CNSMO_VENV     where the Python environment goes     (.venv in this tree)
#   CNSMO_PYTHON   the python3 to make it with           (the first one from 3.11 on)

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

main() {
    local profiles=() version
    ensure_venv
    ensure_python_packages cnsmo bindep --editable .
    kernel_has_wireguard || profiles=(lab)
    ensure_system_packages "${profiles[@]}"
    compile_bytecode
    if [[ ${1:-} == --install-only ]]; then
        version=$("$venv/bin/cnsmo-manage" --version)
        say "installed: $version"
        exit 0
    fi
    exec "$venv/bin/cnsmo-manage" lab demo "$@"
}

main "$@"
