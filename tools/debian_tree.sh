# debian_tree.sh - a minimal Debian tree to try things in; sourced by scripts that need one.
# shellcheck shell=bash

readonly debian_suite=bookworm

# The archives of Debian itself that this machine's apt uses, as "URI SUITE COMPONENT" lines.
debian_archives() {
    # shellcheck disable=SC2016 # apt fills in $(...)
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' | sort -u
}

# debian_tree ROOT [PACKAGE,...]: the packages that Debian calls required, and these.
debian_tree() {
    local root=$1 mirror
    local -a include=()
    [[ -z ${2:-} ]] || include=("--include=$2")
    ((EUID == 0)) || { echo "needs root (debootstrap, chroot)" >&2 && return 1; }
    command -v debootstrap >/dev/null ||
        { echo "needs debootstrap: apt-get install debootstrap" >&2 && return 1; }
    mirror=$(debian_archives | awk -v suite="$debian_suite" '$2 == suite { print $1; exit }')
    debootstrap --variant=minbase "${include[@]}" "$debian_suite" "$root" \
        "${mirror:-http://deb.debian.org/debian}" >"$root.log" 2>&1 ||
        { tail -n 20 "$root.log" >&2 && return 1; }
}
