#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Resolves constraints.txt anew: the one set of Python packages that tools/ and tox install.
#
#   tools/update-constraints.sh           keep the pins that still resolve, add what is missing
#   tools/update-constraints.sh --newest  forget the pins and take the newest of everything

set -euo pipefail

main() {
    local top new keep=()
    top=$(cd "$(dirname "$0")/.." && pwd)
    cd "$top"
    command -v uv >/dev/null || {
        echo "update-constraints: uv is not here; it is in the environment that tools/test.sh makes:" >&2
        echo "    PATH=$top/.venv/bin:\$PATH tools/update-constraints.sh" >&2
        exit 1
    }
    if [[ ${1:-} != --newest && -e constraints.txt ]]; then
        keep=(--constraints constraints.txt)
    fi
    new=$(mktemp)
    # shellcheck disable=SC2064 # the name as it is now
    trap "rm -f '$new'" EXIT
    {
        echo "# SPDX-License-Identifier: Apache-2.0"
        echo "# Made by tools/update-constraints.sh: one set that resolves on every Python that setup.cfg names."
        uv pip compile --quiet setup.cfg tools/requirements.txt --all-extras --universal \
            --python-version 3.11 --no-header --no-annotate "${keep[@]}"
    } >"$new"
    cat "$new" >constraints.txt
    echo "constraints.txt: $(grep -c == constraints.txt) packages"
}

main "$@"
