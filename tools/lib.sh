# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What tools/*.sh share: system packages by apt, an environment of Python packages. To be sourced.
#
# Rules kept here: no daemon of the machine is started or enabled by an installation; apt's own configuration is never
# changed; whatever is put in place for the time of an installation is taken away again, also when it fails.

set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
umask 022

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
me=$(basename "$0")
venv=${CNSMO_VENV:-$top/.venv}
policy=/usr/sbin/policy-rc.d
policy_mark="Put here by CNSMO's tools while they install packages"
# The first wireguard-go with segmentation offload: five times the throughput of what came before it.
wireguard_go_wanted=0.0.20231211

say() { printf '==> %s\n' "$*"; }
warn() { printf '%s: %s\n' "$me" "$*" >&2; }
die() {
    printf '\n%s: %s\n' "$me" "$1" >&2
    shift
    [[ $# -eq 0 ]] || printf '    %s\n' "$@" >&2
    exit 1
}

# quietly WHAT COMMAND...: runs it; shows what it said only when it failed.
quietly() {
    local what=$1 log
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1 </dev/null; then
        rm -f "$log"
        return 0
    fi
    {
        echo
        tail -n 40 "$log" | sed 's/^/    | /'
        echo
        echo "$me: $what failed. That was: $*"
        echo "$me: the whole output is in $log"
    } >&2
    return 1
}

about_this_system() { # NAME: its value in os-release
    sed -n "s/^$1=//p" /etc/os-release | tr -d "\"'"
}

# ---------------------------------------------------------------------------------------------------------- root --

can_be_root() {
    [[ $EUID -eq 0 ]] && return 0
    command -v sudo >/dev/null || return 1
    sudo -n true 2>/dev/null && return 0
    # A password can be asked for only where somebody can type it.
    [[ -t 0 ]] && sudo -v
}

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

# --------------------------------------------------------------------------------------------------------- python --

good_python() { # PYTHON: is 3.11 or later, and can make environments
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${CNSMO_PYTHON:+"$CNSMO_PYTHON"} python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
        if candidate=$(command -v "$candidate") && good_python "$candidate"; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

ensure_venv() {
    local python
    if [[ -f $venv ]]; then
        # A file of that name is how some tools point at an environment of theirs (PEP 832).
        venv=$venv-cnsmo
    fi
    if [[ -x $venv/bin/python && -x $venv/bin/pip ]] && good_python "$venv/bin/python"; then
        return 0
    fi
    if ! python=$(find_python); then
        apt_install ca-certificates python3 python3-venv
        python=$(find_python) || die "this machine's newest python3 is older than 3.11, which CNSMO needs." \
            "Install a newer one and name it: CNSMO_PYTHON=/path/to/python3 tools/$me"
    fi
    say "Python environment: $venv ($("$python" --version))"
    rm -rf "$venv"
    quietly "making the environment $venv" "$python" -m venv "$venv" || exit 1
}

# ensure_python_packages NAME PIP-ARGUMENT...: once for every state of the files that decide what gets installed.
ensure_python_packages() {
    local name=$1 stamp now
    shift
    stamp=$venv/.cnsmo-$name
    now=$(
        cd "$top"
        {
            printf '%s\n' "$top" "$@"
            "$venv/bin/python" --version
            cat setup.cfg pyproject.toml constraints.txt tools/requirements.txt
        } | sha256sum
    )
    [[ -e $stamp && $(<"$stamp") == "$now" ]] && return 0
    say "Python packages: $name"
    [[ -w $top ]] || die "$top is not yours to write, and CNSMO is installed from it in place." \
        "Copy the tree to a directory of your own, and run tools/$me there."
    # Constraints from the environment hold for what builds packages too, those of the command line do not.
    (
        cd "$top"
        PIP_CONSTRAINT=$top/constraints.txt quietly "installing Python packages" \
            "$venv/bin/pip" install --disable-pip-version-check --progress-bar off "$@"
    ) || die "the Python packages could not be installed." \
        "Does pip reach a package index from here? Try: $venv/bin/pip download --no-deps pip" \
        "A proxy or an index of your own: HTTPS_PROXY, PIP_INDEX_URL, PIP_CERT, or pip's configuration file."
    echo "$now" >"$stamp"
}

# uv reads no configuration of pip's: an index that is named only there has to be told.
tell_uv_about_pip() {
    local index
    if [[ -z ${UV_DEFAULT_INDEX:-} ]]; then
        index=${PIP_INDEX_URL:-$("$venv/bin/pip" config get global.index-url 2>/dev/null || true)}
        [[ -z $index ]] || export UV_DEFAULT_INDEX=$index
    fi
    if [[ -z ${SSL_CERT_FILE:-} && -n ${PIP_CERT:-} ]]; then
        export SSL_CERT_FILE=$PIP_CERT
    fi
}

# Starts are faster by half with it, and where PYTHONDONTWRITEBYTECODE is set nobody else writes it.
compile_bytecode() {
    "$venv/bin/python" -m compileall -q "$top/cnsmo" >/dev/null 2>&1 ||
        warn "bytecode could not be written under $top/cnsmo: starts will be slower"
}

# -------------------------------------------------------------------------------------------------------- packages --

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \
        -o DPkg::Use-Pty=0 "$@"
}

# Daemons of packages that an installation brings must neither start now nor at the next boot: tests start their own.
hold_services_back() {
    enabled_before=$(enabled_units)
    trap release_services EXIT
    if [[ -e $policy ]] && ! grep -qs "$policy_mark" "$policy"; then
        as_root mv "$policy" "$policy.before-cnsmo"
    fi
    printf '#!/bin/sh\n# %s.\nexit 101\n' "$policy_mark" | as_root tee "$policy" >/dev/null
    as_root chmod 0755 "$policy"
}

release_services() {
    local unit
    trap - EXIT
    if grep -qs "$policy_mark" "$policy"; then
        as_root rm -f "$policy"
    fi
    if [[ -e $policy.before-cnsmo ]]; then
        as_root mv "$policy.before-cnsmo" "$policy"
    fi
    for unit in $(comm -13 <(echo "$enabled_before") <(enabled_units)); do
        # What "systemctl disable" would do; it is not on every machine. Packages leave it so when they are upgraded.
        as_root find /etc/systemd/system -path "*.target.wants/$unit" -type l -delete
    done
}

enabled_units() {
    find /etc/systemd/system/multi-user.target.wants /etc/systemd/system/sockets.target.wants \
        -mindepth 1 -printf '%f\n' 2>/dev/null | sort -u || true
}

apt_lists_are_fresh() { # within an hour
    [[ -n $(find /var/lib/apt/lists -maxdepth 1 -name '*Release' -mmin -60 -print -quit 2>/dev/null) ]]
}

apt_install() { # PACKAGE...
    command -v apt-get >/dev/null || die "this machine has no apt-get. Install these yourself, then run tools/$me again:" "$*"
    can_be_root || die "these system packages are missing, and installing them needs root:" \
        "$*" "Have them installed, then run tools/$me again:" \
        "apt-get update && apt-get install --no-install-recommends $*"
    say "system packages: $*"
    apt_lists_are_fresh || quietly "apt-get update" apt_get update ||
        die "the package lists could not be fetched. See what apt-get update says, mend that, then run tools/$me again."
    hold_services_back
    quietly "installing packages" apt_get install -y --no-install-recommends "$@" ||
        die "these system packages could not be installed:" "$*" \
            "See what this says, mend that, then run tools/$me again:" \
            "apt-get install --no-install-recommends $*"
    release_services
}

# ensure_system_packages PROFILE...: what bindep.txt says is missing here. Asked anew when the file or dpkg's has changed.
ensure_system_packages() {
    local missing=() rest=() package stamp now
    stamp="$venv/.cnsmo-packages${*:+-$*}"
    now=$(cat "$top/bindep.txt" /var/lib/dpkg/status 2>/dev/null | sha256sum)
    [[ -e $stamp && $(<"$stamp") == "$now" ]] && return 0
    # bindep's answer is 1 when something is missing: what it prints counts.
    mapfile -t missing < <("$venv/bin/bindep" -b -f "$top/bindep.txt" "$@" || true)
    if [[ ${#missing[@]} -gt 0 ]] && ! can_be_root; then
        # Says so, all of them at once, and stops.
        apt_install "${missing[@]}"
    fi
    for package in "${missing[@]}"; do
        [[ $package == wireguard-go ]] || rest+=("$package")
    done
    [[ ${#rest[@]} -eq 0 ]] || apt_install "${rest[@]}"
    if [[ " $* " == *" lab "* ]]; then
        ensure_wireguard_go
    fi
    mapfile -t missing < <("$venv/bin/bindep" -b -f "$top/bindep.txt" "$@" || true)
    [[ ${#missing[@]} -eq 0 ]] || die "still missing after their installation: ${missing[*]}"
    cat "$top/bindep.txt" /var/lib/dpkg/status 2>/dev/null | sha256sum >"$stamp"
}

# --------------------------------------------------------------------------------------------------- wireguard-go --

kernel_has_wireguard() {
    [[ -d /sys/module/wireguard ]] || modprobe -n -q wireguard 2>/dev/null
}

installed_version() { # PACKAGE
    # shellcheck disable=SC2016 # dpkg's variables
    dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$1" 2>/dev/null | sed -n 's/^installed //p' || true
}

newest_version_by_apt() { # PACKAGE APT-OPTION...
    local package=$1 version newest=
    shift
    while IFS='|' read -r _ version _; do
        version=${version// /}
        if [[ -z $newest ]] || dpkg --compare-versions "$version" gt "$newest"; then
            newest=$version
        fi
    done < <(apt-cache "$@" madison "$package" 2>/dev/null)
    echo "$newest"
}

good_wireguard_go() { # VERSION
    [[ -n $1 ]] && dpkg --compare-versions "$1" ge "$wireguard_go_wanted"
}

# The newest wireguard-go that apt reaches: of the machine's own sources when that is new enough, else of its
# backports, else the slower one of its release.
ensure_wireguard_go() {
    local installed offered
    command -v dpkg >/dev/null || return 0
    installed=$(installed_version wireguard-go)
    good_wireguard_go "$installed" && return 0
    # Asked once: backports that did not answer then are not asked at every start.
    [[ -n $installed && -e $venv/.cnsmo-wireguard-go ]] && return 0
    can_be_root || {
        [[ -n $installed ]] && return 0
        apt_install wireguard-go
    }
    apt_lists_are_fresh || quietly "apt-get update" apt_get update || true
    offered=$(newest_version_by_apt wireguard-go)
    if good_wireguard_go "$offered"; then
        apt_install "wireguard-go=$offered"
    elif ! install_wireguard_go_of_backports; then
        warn "no wireguard-go newer than the release's: tunnels work, at a fifth of the throughput"
        [[ -n $installed ]] || apt_install wireguard-go
    fi
    touch "$venv/.cnsmo-wireguard-go"
}

# The machine's own archive, its backports added, for this one download: apt's configuration stays as it is.
install_wireguard_go_of_backports() {
    local scratch status=0
    scratch=$(mktemp -d)
    chmod 0755 "$scratch"
    if download_wireguard_go_of_backports "$scratch"; then
        hold_services_back
        quietly "installing wireguard-go of backports" \
            apt_get install -y --no-install-recommends "$scratch"/wireguard-go_*.deb || status=1
        release_services
    else
        status=1
    fi
    as_root rm -rf "$scratch"
    return "$status"
}

download_wireguard_go_of_backports() { # DIRECTORY
    local directory=$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg signed_by='' codename archive offered options
    [[ $(about_this_system ID) == debian ]] || return 1
    codename=$(about_this_system VERSION_CODENAME)
    # shellcheck disable=SC2016 # apt's variables
    archive=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk -v codename="$codename" '($1 == codename || $1 == "stable") && $2 == "main" && !n++ { print $3 }')
    [[ -n $codename && -n $archive ]] || return 1
    if [[ -e $keyring ]]; then signed_by="[signed-by=$keyring] "; fi
    mkdir -p "$directory/lists/partial" "$directory/cache/archives/partial"
    echo "deb $signed_by$archive $codename-backports main" >"$directory/sources.list"
    options=(
        -o "Dir::Etc::SourceList=$directory/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o "Dir::State::Lists=$directory/lists" -o "Dir::Cache=$directory/cache"
        -o Acquire::Languages=none
    )
    apt_get "${options[@]}" update >"$directory/log" 2>&1 || return 1
    offered=$(newest_version_by_apt wireguard-go "${options[@]}")
    good_wireguard_go "$offered" || return 1
    say "system packages: wireguard-go $offered (of $codename-backports, this one package only)"
    (cd "$directory" && apt_get "${options[@]}" download "wireguard-go=$offered" >>log 2>&1)
}
