#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Proves that a command of the README works on a bare system: makes one from this machine's own apt sources, copies the
# tree into it (no .git, no environments), runs the command there, twice, checks what it left behind, and removes it all.
#
#   tools/prove-bare.sh [demo|test|install] [SUITE] [--once] [--user] [-- ARGUMENT...]
#
#   demo       tools/demo.sh (this is the default)
#   test       tools/test.sh
#   install    tools/demo.sh --install-only
#   SUITE      bookworm, trixie, ... of the distribution of this machine (its own)
#   --once     do not run it a second time, to see that it finds what the first run made
#   --user     as an ordinary user with sudo, instead of root
#   --keep     leave the system where it is, and say where
#   ARGUMENT   handed on to the command
#
#   CNSMO_BARE_CACHE   a directory that keeps the fresh system as an archive, for the next run
#   TMPDIR             where the system is put (/var/tmp)
#
# Needs root, debootstrap, and 3 GB. Proxies, certificates and pip's index of this machine are handed on by environment.

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

usage() {
    sed -n '/^#   tools/,/^# Needs/s/^# \{0,1\}//p' "$0"
    exit "$1"
}

parse() {
    what=demo suite='' as_user=no keep=no runs='first second' arguments=()
    while [[ $# -gt 0 ]]; do
        case $1 in
            demo | test | install) what=$1 ;;
            --user) as_user=yes ;;
            --once) runs=first ;;
            --keep) keep=yes ;;
            -h | --help) usage 0 ;;
            --)
                shift
                arguments=("$@")
                break
                ;;
            -*) usage 2 >&2 ;;
            *) suite=$1 ;;
        esac
        shift
    done
    own=$(about_this_system VERSION_CODENAME)
    suite=${suite:-$own}
    case $what in
        demo) program=(tools/demo.sh) ;;
        test) program=(tools/test.sh) ;;
        install) program=(tools/demo.sh --install-only) ;;
    esac
    program+=("${arguments[@]}")
}

# "URI RELEASE" for every entry of this machine that belongs to its distribution's release, told for the other suite.
archives() {
    # shellcheck disable=SC2016 # apt's variables
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v own="$own" -v suite="$suite" \
            '$3 == "main" && index($2, own) == 1 { sub(own, suite, $2); if (!seen[$1 $2]++) print $1, $2 }'
}

make_system() {
    local cached=${CNSMO_BARE_CACHE:+$CNSMO_BARE_CACHE/$suite.tar} archive
    archive=$(archives | awk -v suite="$suite" '$2 == suite { print $1; exit }')
    [[ -n $archive ]] || die "this machine's apt sources name no archive of $own." "See: apt-get indextargets"
    if [[ -n $cached && -e $cached ]]; then
        say "a bare $suite, from $cached"
        tar -C "$root" -xf "$cached"
    else
        say "a bare $suite, by debootstrap"
        quietly "debootstrap" debootstrap --variant=minbase "$suite" "$root" "$archive" ||
            die "no bare $suite could be made." "Is $suite a release of this machine's distribution, and does debootstrap know it?"
        rm -f "$root"/var/cache/apt/archives/*.deb
        if [[ -n $cached ]]; then
            mkdir -p "$CNSMO_BARE_CACHE"
            tar -C "$root" -cf "$cached.new" . && mv "$cached.new" "$cached"
        fi
    fi
    archives | awk '{ print "deb", $1, $2, "main" }' >"$root/etc/apt/sources.list"
    # How this machine reaches its archives.
    apt-config dump | grep -iE '^Acquire::[a-z]+::(Proxy|CaInfo|Verify|No-Cache|Timeout)' \
        >"$root/etc/apt/apt.conf.d/99-as-on-this-machine" || true
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    hostname >"$root/etc/hostname"
}

# The tree as a reader gets it: what git would take, or everything but what tools make.
copy_tree() {
    mkdir -p "$root$home/cnsmo"
    if git -C "$top" rev-parse --git-dir >/dev/null 2>&1; then
        git -C "$top" ls-files -z --cached --others --exclude-standard --deduplicate |
            tar -C "$top" --null --ignore-failed-read -cf - -T -
    else
        tar -C "$top" --exclude=./.venv* --exclude=./.tox --exclude=__pycache__ -cf - .
    fi | tar -C "$root$home/cnsmo" --no-same-owner -xf -
}

# NAME=VALUE lines: nothing of this machine but its way to the package indexes.
environment() {
    local name certificates index
    echo "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    echo "HOME=$home"
    echo "LANG=C.UTF-8"
    echo "TERM=${TERM:-dumb}"
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL PIP_DEFAULT_TIMEOUT \
        UV_DEFAULT_INDEX CI CNSMO_FAIL_ON_SKIP; do
        [[ -z ${!name:-} ]] || echo "$name=${!name}"
    done
    index=$(python3 -m pip config get global.index-url 2>/dev/null || true)
    [[ -z $index || -n ${PIP_INDEX_URL:-} ]] || echo "PIP_INDEX_URL=$index"
    certificates=${PIP_CERT:-${SSL_CERT_FILE:-}}
    if [[ -n $certificates ]]; then
        install -m 0644 "$certificates" "$root/etc/as-on-this-machine.crt"
        echo "PIP_CERT=/etc/as-on-this-machine.crt"
        echo "SSL_CERT_FILE=/etc/as-on-this-machine.crt"
    fi
}

# Runs inside, as its first process, with the old root still under /.old.
inside() {
    cat <<'INSIDE'
set -euo pipefail
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /sys "$ROOT/sys"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs -o mode=1777 tmp "$ROOT/dev/shm"
mount -t tmpfs -o mode=0755 run "$ROOT/run"
mkdir -p "$ROOT/run/lock" "$ROOT/.old"
# Distributions ship it so; here it may be otherwise, and /dev is this machine's.
mknod -m 0666 "$ROOT/run/tun" c 10 200
[[ ! -e /dev/net/tun ]] || mount --bind "$ROOT/run/tun" "$ROOT/dev/net/tun"
cd "$ROOT"
# A real root, not chroot: in a chroot the kernel makes no user namespaces.
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
exec env -i $(cat /etc/environment-of-the-proof) bash /proof
INSIDE
}

proof() {
    printf 'user=%q\nruns=%q\nprogram=(' "$user" "$runs"
    printf '%q ' "${program[@]}"
    printf ')\n'
    cat <<'PROOF'
set -uo pipefail
enabled() { find /etc/systemd/system/*.wants -name '*.service' -o -name '*.socket' 2>/dev/null | sort; }
sources() { find /etc/apt/{sources,preferences,trusted}* -type f -exec sha256sum {} + | sort; }
enabled_before=$(enabled)
sources_before=$(sources)
as_the_reader() {
    if [[ $user == root ]]; then "$@"; else setpriv --reuid="$user" --regid="$user" --init-groups "$@"; fi
}
if [[ $user != root ]]; then
    apt-get -qq update >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends sudo >/dev/null 2>&1
    useradd --no-create-home --home-dir "$HOME" --shell /bin/bash "$user"
    echo "$user ALL=(ALL) NOPASSWD: ALL" >"/etc/sudoers.d/$user"
    # What sudo keeps of the environment: the way to the packages.
    echo 'Defaults env_keep += "http_proxy https_proxy no_proxy SSL_CERT_FILE"' >>"/etc/sudoers.d/$user"
    chown -R "$user:$user" "$HOME"
fi
cd "$HOME/cnsmo"
bad=0
for run in $runs; do
    echo "--- the $run run: ${program[*]}"
    begin=$(date +%s)
    as_the_reader "${program[@]}" </dev/null
    status=$?
    echo "--- the $run run: exit $status after $(($(date +%s) - begin)) s"
    [[ $status -eq 0 ]] || { bad=1; break; }
done
echo "--- what it left behind"
check() { # WHAT LEFT-OVERS
    if [[ -z $2 ]]; then echo "ok: $1"; else echo "NOT OK: $1:"; sed 's/^/    /' <<<"$2"; bad=1; fi
}
processes=
for process in /proc/[0-9]*; do
    words=()
    [[ $process == /proc/1 ]] || mapfile -d '' -t words 2>/dev/null <"$process/cmdline"
    [[ ${#words[@]} -eq 0 ]] || processes+="${process#/proc/} ${words[*]}"$'\n'
done
check "no process" "$processes"
check "apt has the same sources, preferences and keys" "$(diff <(echo "$sources_before") <(sources))"
check "no policy-rc.d" "$(find /usr/sbin -name 'policy-rc.d*')"
check "no new daemon starts at boot" "$(comm -13 <(echo "$enabled_before") <(enabled))"
check "no network namespace" "$(find /run/netns /var/run/netns -mindepth 1 2>/dev/null)"
exit "$bad"
PROOF
}

remove_system() {
    trap - EXIT
    if [[ $keep == yes ]]; then
        say "left standing, as asked for: $root"
    else
        rm -rf --one-file-system "$root"
    fi
}

main() {
    local status=0
    parse "$@"
    [[ $EUID -eq 0 ]] || die "making a bare system needs root." "Try: sudo tools/$me $*"
    command -v debootstrap >/dev/null || apt_install debootstrap
    apt_lists_are_fresh || quietly "apt-get update" apt_get update || true
    root=$(mktemp -d "${TMPDIR:-/var/tmp}/cnsmo-bare.XXXXXX")
    chmod 0755 "$root"
    trap remove_system EXIT
    user=root home=/root
    if [[ $as_user == yes ]]; then
        user=reader home=/home/reader
    fi
    make_system
    copy_tree
    environment >"$root/etc/environment-of-the-proof"
    proof >"$root/proof"
    say "in it, as $user: ${program[*]}"
    # Everything that runs in there dies with its first process.
    ROOT=$root unshare --mount --pid --uts --ipc --fork --kill-child bash -c "$(inside)" || status=$?
    remove_system
    if [[ $status -eq 0 ]]; then
        say "proven: ${program[*]} works on a bare $suite as $user"
    else
        die "not proven: ${program[*]} on a bare $suite as $user (exit $status)"
    fi
}

main "$@"
