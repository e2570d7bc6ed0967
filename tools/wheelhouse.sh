#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes a wheelhouse: CNSMO of this tree and all that it needs, as wheels, with a requirements file that pins each by
# its digest. Serve the directory over HTTP, or put it into an image, and name it to the VMs' user-data. For each Python
# that is on this machine it holds an archive, too, of what pip makes of the wheels: a VM with that Python unpacks it.
#
#   tools/wheelhouse.sh DIRECTORY [PYTHON-VERSION]...
#
#   PYTHON-VERSION   3.11 (Debian 12), 3.12 (Ubuntu 24.04), 3.13 (Debian 13): several may be given; default: this one's
#   CNSMO_PYTHON     the python3 to make it with; where it has no pip, an environment of it that has one is made

set -euo pipefail

prefix=/opt/cnsmo  # where cnsmo/boot/first.py installs it

main() {
    local top python directory version versions
    top=$(cd "$(dirname "$0")/.." && pwd)
    [[ $# -gt 0 ]] || {
        sed -n '/^#   tools/,/^$/s/^# \{0,1\}//p' "$0" >&2
        exit 2
    }
    python=${CNSMO_PYTHON:-python3}
    if ! "$python" -m pip --version >/dev/null 2>&1; then
        tool=$(mktemp -d)
        trap 'rm -rf "$tool"' EXIT
        "$python" -m venv "$tool"
        python=$tool/bin/python
    fi
    mkdir -p "$1"
    directory=$(cd "$1" && pwd)
    versions=("${@:2}")
    [[ ${#versions[@]} -gt 0 ]] || versions=("$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')")
    "$python" -m pip wheel --quiet --no-deps --wheel-dir "$directory" "$top"
    for version in "${versions[@]}"; do
        # shellcheck disable=SC2046 # words
        "$python" -m pip download --quiet --only-binary :all: --python-version "$version" \
            --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 --platform any --implementation cp \
            --constraint "$top/constraints.txt" --dest "$directory" --find-links "$directory" \
            "$directory"/cnsmo-*.whl $(asked_by "$version" "$top/constraints.txt")
    done
    rm -f "$directory"/cnsmo-cp*.tar.gz
    pins "$directory" >"$directory/requirements.txt"
    for version in "${versions[@]}"; do
        archive "$directory" "$version"
    done >"$directory/archives"
    cat "$directory/archives" >>"$directory/requirements.txt"
    rm "$directory/archives"
    sha256sum "$directory/requirements.txt" | cut -d ' ' -f 1
}

# What some package asks for on this Python and on later ones only: pip judges that by the Python that it runs on itself.
asked_by() { # VERSION CONSTRAINTS
    local pin least
    sed -n "s/^\([^ ]*\) ; python_full_version >= '\([0-9.]*\)'$/\1 \2/p" "$2" | while read -r pin least; do
        [[ $(printf '%s\n' "$least" "$1" | sort -V | head -n 1) != "$least" ]] || printf '%s\n' "$pin"
    done
}

# NAME==VERSION, and the digests of all its wheels.
pins() {
    local file name
    for file in "$1"/*.whl; do
        name=$(basename "$file" | cut -d - -f 1,2 | sed 's/-/==/')
        printf '%s %s\n' "$name" "$(sha256sum "$file" | cut -d ' ' -f 1)"
    done | awk '{ pins[$1] = pins[$1] " --hash=sha256:" $2 } END { for (name in pins) print name pins[name] }' | sort
}

# An environment for one Python, installed and compiled as if it stood in /opt/cnsmo; prints the line that pins it.
archive() { # DIRECTORY VERSION
    local interpreter=python$2 scratch tag
    "$interpreter" -c 'import venv' 2>/dev/null || return 0
    tag=cp${2/./}-$(uname -m)
    scratch=$(mktemp -d)
    "$interpreter" -m venv --without-pip "$scratch/venv"
    "$python" -m pip --python "$scratch/venv/bin/python" install --quiet --no-compile --no-index \
        --require-hashes --find-links "$1" --requirement "$1/requirements.txt" >&2
    # A few packages have templates that look like modules, and cannot be compiled.
    "$interpreter" -m compileall -qq -s "$scratch/venv" -p "$prefix" "$scratch/venv/lib" >&2 || true
    # As the module venv would have made it on the VM, with our programs alone.
    find "$scratch/venv/bin" ! -name 'cnsmo-*' ! -type d -delete
    sed -i "1s|^#!.*|#!$prefix/bin/python|" "$scratch"/venv/bin/cnsmo-*
    ln -s "/usr/bin/python$2" "$scratch/venv/bin/python"
    printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$scratch/venv/pyvenv.cfg"
    tar -C "$scratch/venv" --owner=0 --group=0 --mode=a+rX,go-w -c . |
        gzip -n >"$1/cnsmo-$tag.tar.gz"
    rm -r "$scratch"
    printf '# %s cnsmo-%s.tar.gz %s\n' "$tag" "$tag" "$(sha256sum "$1/cnsmo-$tag.tar.gz" | cut -d ' ' -f 1)"
}

main "$@"
