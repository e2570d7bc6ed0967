#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Puts cnsmo/boot/first.py into cloudinit/*.yaml: user-data is one file, and a VM has nothing else of CNSMO yet.
#
#   tools/update-cloudinit.sh    run it after each change of cnsmo/boot/first.py; the unit tests see to it

set -euo pipefail

main() {
    local top file new
    top=$(cd "$(dirname "$0")/.." && pwd)
    for file in "$top"/cloudinit/{agent,core}.yaml; do
        new=$(
            sed '/{% raw %}/,$d' "$file"
            printf '    {%% raw %%}'
            sed '1!s/^\(.\)/    \1/; $s/$/{% endraw %}/' "$top/cnsmo/boot/first.py"
        )
        printf '%s\n' "$new" >"$file"
    done
}

main
