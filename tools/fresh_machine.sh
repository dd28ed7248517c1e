#!/usr/bin/env bash
# fresh_machine.sh - proves that a bare Debian 12 needs nothing but this repository.
#
# Makes a minimal Debian 12 tree (debootstrap, plus git and CA certificates), clones the current
# commit into it and runs `./dev demo` and `./dev test` there. Whatever this machine needs to
# reach a Debian archive and a Python index (mirror, proxy, certificates, name server) is taken
# over, so that it also works where only a mirror can be reached.
#
# All mounts live in a mount namespace of their own and end with it; the tree is only removed
# afterwards, from outside.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/fresh_machine.sh [--dir DIR] [--keep] [COMMAND...]

  --dir DIR    folder for the tree, must not exist (default: a new one in $TMPDIR or /tmp)
  --keep       leave the tree in place
  COMMAND...   what to run in the clone, one quoted word each (default: './dev demo' './dev test')

Needs root and debootstrap. Test data is found as by ./dev: QUIRE_TESTDATA, or
../shared/testdata beside the repository.
TEXT
}

die() {
    printf 'fresh_machine: %s\n' "$*" >&2
    exit 1
}

repository=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
readonly repository clone=/src/quire
# shellcheck source=tools/debian_tree.sh
source "$repository/tools/debian_tree.sh"

# The way to the network: sources, apt's transport settings, pip, name server, certificates.
copy_network_settings() {
    local root=$1 file
    if debian_archives | grep -q " $debian_suite "; then
        debian_archives | grep " $debian_suite" | sed 's/^/deb /' >"$root/etc/apt/sources.list"
    fi
    for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
        if [[ -f $file ]] && grep -q 'Acquire' "$file" && ! grep -q 'Invoke' "$file"; then
            cp "$file" "$root/etc/apt/apt.conf.d/"
        fi
    done
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    for file in /etc/pip.conf /usr/local/share/ca-certificates /etc/ssl/certs/ca-certificates.crt; do
        if [[ -e $file ]]; then
            mkdir -p "$root$(dirname "$file")"
            cp -rL "$file" "$root$(dirname "$file")/"
        fi
    done
}

# Proxies, pip's index and certificate files that exist in the tree too; nothing else.
network_environment() {
    local root=$1 name
    while read -r name; do
        case ${name,,} in
        http_proxy | https_proxy | ftp_proxy | all_proxy | no_proxy) ;;
        pip_index_url | pip_extra_index_url | pip_trusted_host | pip_default_timeout) ;;
        ssl_cert_file | pip_cert | requests_ca_bundle | curl_ca_bundle)
            [[ -e $root${!name} ]] || continue
            ;;
        *) continue ;;
        esac
        printf '%s=%s\0' "$name" "${!name}"
    done < <(compgen -e)
}

# Runs in its own mount and process namespace.
run_inside() {
    local root=$1 testdata=$2 command rc=0
    shift 2
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"
    local -a environment=(HOME=/root TERM=dumb LANG=C.UTF-8
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
    if [[ -n $testdata ]]; then
        mkdir -p "$root/testdata"
        mount --bind -o ro "$testdata" "$root/testdata"
        environment+=(QUIRE_TESTDATA=/testdata)
    fi
    local -a from_host
    mapfile -d '' -t from_host < <(network_environment "$root")
    for command; do
        local start=$SECONDS
        printf '\n== fresh machine: %s\n' "$command"
        env -i "${environment[@]}" "${from_host[@]}" chroot "$root" \
            /bin/bash -c "cd $clone && $command" </dev/null || rc=1
        printf '== fresh machine: %s: %d s, exit code %d\n' "$command" $((SECONDS - start)) "$rc"
        ((rc == 0)) || break
    done
    return "$rc"
}

main() {
    local root='' keep='' testdata=${QUIRE_TESTDATA:-$repository/../shared/testdata}
    local -a commands=()
    while (($# > 0)); do
        case $1 in
        --dir) root=${2:?--dir needs a folder} && shift ;;
        --keep) keep=1 ;;
        -h | --help) usage && exit ;;
        -*) usage >&2 && die "no option '$1'" ;;
        *) commands+=("$1") ;;
        esac
        shift
    done
    ((${#commands[@]})) || commands=('./dev demo' './dev test')
    [[ -d $testdata ]] && testdata=$(realpath "$testdata") || testdata=
    [[ -z $root || ! -e $root ]] || die "$root exists already"
    [[ -n $root ]] && mkdir -p "$root" || root=$(mktemp -d "${TMPDIR:-/tmp}/quire-fresh.XXXXXX")
    chmod 755 "$root"
    tree=$(realpath "$root")
    root=$tree

    # --one-file-system: whatever might still be mounted below is never entered.
    [[ -n $keep ]] || trap 'rm -rf --one-file-system "$tree" "$tree.log"' EXIT
    printf '== fresh machine: Debian %s in %s\n' "$debian_suite" "$root"
    debian_tree "$root" git,ca-certificates || die "no Debian tree"
    copy_network_settings "$root"
    git clone --quiet --no-hardlinks "file://$repository" "$root$clone"
    git -C "$root$clone" checkout --quiet --detach "$(git -C "$repository" rev-parse HEAD)"
    printf '== fresh machine: made in %d s, commit %s\n' "$SECONDS" \
        "$(git -C "$root$clone" rev-parse --short HEAD)"

    export -f run_inside network_environment
    export clone
    # shellcheck disable=SC2016 # the inner shell expands
    unshare --mount --pid --fork --kill-child --propagation private \
        bash -euo pipefail -c 'run_inside "$@"' run_inside "$root" "$testdata" "${commands[@]}"
}

main "$@"
