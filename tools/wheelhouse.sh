#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes a wheelhouse: CNSMO of this tree and all that it needs, as wheels, with a requirements file that pins each by
# its digest. Serve the directory over HTTP, or put it into an image, and name it to the VMs' user-data.
#
#   tools/wheelhouse.sh DIRECTORY [PYTHON-VERSION]...
#
#   PYTHON-VERSION   3.11 (Debian 12), 3.12 (Ubuntu 24.04), 3.13 (Debian 13): several may be given; default: this one's
#   CNSMO_PYTHON     the python3 to make it with; it has pip

set -euo pipefail

main() {
    local top python directory version versions
    top=$(cd "$(dirname "$0")/.." && pwd)
    [[ $# -gt 0 ]] || {
        sed -n '/^#   tools/,/^$/s/^# \{0,1\}//p' "$0" >&2
        exit 2
    }
    python=${CNSMO_PYTHON:-python3}
    mkdir -p "$1"
    directory=$(cd "$1" && pwd)
    versions=("${@:2}")
    [[ ${#versions[@]} -gt 0 ]] || versions=("$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')")
    "$python" -m pip wheel --quiet --no-deps --wheel-dir "$directory" "$top"
    for version in "${versions[@]}"; do
        "$python" -m pip download --quiet --only-binary :all: --python-version "$version" \
            --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 --platform any --implementation cp \
            --constraint "$top/constraints.txt" --dest "$directory" --find-links "$directory" \
            "$directory"/cnsmo-*.whl
    done
    pins "$directory" >"$directory/requirements.txt"
    sha256sum "$directory/requirements.txt" | cut -d ' ' -f 1
}

# NAME==VERSION, and the digests of all its wheels.
pins() {
    local file name
    for file in "$1"/*.whl; do
        name=$(basename "$file" | cut -d - -f 1,2 | sed 's/-/==/')
        printf '%s %s\n' "$name" "$(sha256sum "$file" | cut -d ' ' -f 1)"
    done | awk '{ pins[$1] = pins[$1] " --hash=sha256:" $2 } END { for (name in pins) print name pins[name] }' | sort
}

main "$@"
