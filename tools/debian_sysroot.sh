#!/usr/bin/env bash
# debian_sysroot.sh ARCHITECTURE DIR PACKAGE... - these packages of another architecture, and all
# that they depend on, unpacked in DIR, for a cross compiler and qemu-user.
#
# apt keeps its lists and its idea of what is installed in DIR.apt: this machine's packages and
# architectures stay as they are, and no root is needed. Does nothing where DIR has them already.
set -euo pipefail

dir=$(realpath -m "$2")
readonly architecture=$1 dir apt_dir=$dir.apt
shift 2
readonly wanted="$architecture $*"

die() {
    printf 'debian_sysroot: %s\n' "$*" >&2
    exit 1
}

# The machine's own sources, for another architecture on which nothing is installed yet.
apt_there() {
    apt-get -qq -o Acquire::Retries=3 -o Debug::NoLocking=1 -o APT::Install-Recommends=0 \
        -o APT::Architecture="$architecture" -o APT::Architectures::="$architecture" \
        -o Dir::State="$apt_dir/state" -o Dir::State::status="$apt_dir/status" \
        -o Dir::Cache="$apt_dir/cache" "$@" >"$apt_dir/log" 2>&1 && return
    cat "$apt_dir/log" >&2
    die "no packages for $architecture from this machine's apt sources (see above); they must name" \
        "an archive that has them, as deb.debian.org does"
}

[[ -f $dir/packages && $(<"$dir/packages") == "$wanted" ]] && exit
command -v apt-get >/dev/null || die "needs apt-get, and sources of Debian packages"
printf 'debian_sysroot: unpacking packages for %s in %s\n' "$architecture" "$dir" >&2
rm -rf "$dir" "$apt_dir"
mkdir -p "$dir/usr/lib" "$apt_dir"/{state/lists/partial,cache/archives/partial}
ln -s usr/lib "$dir/lib"
touch "$apt_dir/status"
apt_there update
apt_there --yes --download-only install "$@"
for package in "$apt_dir"/cache/archives/*.deb; do
    # Not dpkg-deb --extract, which would replace the link by a folder.
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink --no-same-owner -C "$dir"
done
# Links to files by their place on such a machine.
find "$dir" -type l -lname '/*' -print0 | while read -r -d '' link; do
    ln -sfrn "$dir$(readlink "$link")" "$link"
done
rm -rf "$apt_dir"
printf '%s\n' "$wanted" >"$dir/packages"
