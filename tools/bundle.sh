#!/usr/bin/env bash
# bundle.sh BUILD DIR - a folder that runs on any x86-64 Linux with glibc 2.36 or later, and on its
# GPU where there is an NVIDIA driver: the program, the tests and benchmarks that need a device,
# their data, and the shared libraries that a bare machine lacks. `./dev bundle`; docs/gpu.md.
#
# Every program finds its libraries by a path relative to itself, so the folder can be moved.
set -euo pipefail

readonly max_bytes=$((60 << 20)) newest_glibc=2.36
build=$(realpath "$1")
dir=$(realpath -m "$2")
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
readonly build dir root testdata=${QUIRE_TESTDATA:-$root/../shared/testdata}

die() {
    printf 'bundle: %s\n' "$*" >&2
    exit 1
}

# Libraries of a program, as paths, but for those that belong to the machine: glibc's, and the
# driver's, which nothing links.
libraries() {
    ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
        grep -vE '/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|resolv|util|anl|nsl|mvec|nss_[a-z]+))\.so' ||
        true
}

# add_program FILE PATH RPATH: stripped of debug information
add_program() {
    install -D -m 755 "$1" "$2"
    strip --strip-debug "$2"
    patchelf --set-rpath "$3" "$2"
}

# The licence of a library's package goes with it.
add_licence() {
    local package
    package=$(dpkg-query --search "$1" 2>/dev/null || dpkg-query --search "/usr$1" 2>/dev/null) ||
        return 0
    package=${package%%:*}
    [[ ! -r /usr/share/doc/$package/copyright ]] ||
        install -D -m 644 "/usr/share/doc/$package/copyright" "$dir/licences/$package"
}

add_programs() {
    local library program
    local -a programs=("$build/quire" "$build/tests/gpu_tests")
    for program in "${programs[@]}"; do
        add_program "$program" "$dir/bin/$(basename "$program")" "\$ORIGIN/../lib"
    done
    while read -r library; do
        add_program "$library" "$dir/lib/$(basename "$library")" "\$ORIGIN"
        add_licence "$library"
    done < <(libraries "${programs[@]}")
}

# What programs and tests read, at the places where they look for it.
add_data() {
    local relative
    mkdir -p "$dir/share/quire/models" "$dir/share/quire/bench" \
        "$dir/share/quire/tests/runtime/models"
    cp -r "$root/models/demo" "$dir/share/quire/models/"
    cp -r "$root/bench/models" "$dir/share/quire/bench/"
    cp -r "$root/tests/runtime/models/data" "$dir/share/quire/tests/runtime/models/"
    for relative in hf hf-bf16-sharded reference.json expected_200steps_t0.txt tok512.model; do
        if [[ -e $testdata/models/stories260k/$relative ]]; then
            mkdir -p "$dir/testdata/models/stories260k"
            cp -r "$testdata/models/stories260k/$relative" "$dir/testdata/models/stories260k/"
        else
            printf 'bundle: without %s, whose tests will say "skipped"\n' \
                "$testdata/models/stories260k/$relative" >&2
        fi
    done
    chmod -R u+w "$dir"
}

add_scripts() {
    install -D -m 755 "$root/tools/bundle_dev.sh" "$dir/dev"
    install -D -m 755 "$root/tools/gpu.sh" "$dir/tools/gpu.sh"
    mkdir -p "$dir/bench/gpu"
    install -m 644 "$root"/bench/gpu/*.py "$dir/bench/gpu/"
    install -D -m 644 "$root/docs/gpu.md" "$dir/docs/gpu.md"
    install -D -m 644 "$root/LICENSE" "$dir/licences/quire"
}

# The newest version of glibc that a file asks for.
check_glibc() {
    local needed
    needed=$(objdump -T "$dir"/bin/* "$dir"/lib/* | grep -o 'GLIBC_2\.[0-9.]*' | sort -uV | tail -n 1)
    needed=${needed#GLIBC_}
    [[ $(printf '%s\n' "$needed" "$newest_glibc" | sort -V | tail -n 1) == "$newest_glibc" ]] ||
        printf 'bundle: needs glibc %s, because it was built here; on Debian 12 it needs 2.36\n' \
            "$needed" >&2
}

main() {
    local archive=$dir.tar.gz bytes
    [[ $(uname -m) == x86_64 ]] || die "this is $(uname -m); the bundle is for x86-64"
    [[ ! -e $dir || -x $dir/bin/quire ]] || die "$dir exists and is no bundle"
    rm -rf "$dir" "$archive"
    mkdir -p "$dir"
    "$root/tools/cuda_tests.sh" >"$dir/cuda_tests"
    add_programs
    add_data
    add_scripts
    check_glibc
    bytes=$(du -sb "$dir" | cut -f 1)
    ((bytes < max_bytes)) || die "$dir has $bytes bytes, more than $max_bytes"
    # The same tree gives the same archive.
    tar --create --sort=name --owner=0 --group=0 --numeric-owner -C "$(dirname "$dir")" \
        "$(basename "$dir")" | gzip -9 -n >"$archive"
    printf 'bundle: %s, %d.%d MB; %s, %d.%d MB\n' "$dir" $((bytes / 1000000)) \
        $((bytes / 100000 % 10)) "$archive" $(($(stat -c %s "$archive") / 1000000)) \
        $(($(stat -c %s "$archive") / 100000 % 10))
}

main
