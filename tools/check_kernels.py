#!/usr/bin/env python3
"""Hold what ptxas said of each kernel against a table: registers, spills, static shared memory.

A kernel that takes more registers than the table says runs fewer blocks at a time, and one that
spills reads memory where it computed before; neither shows in a test. So either fails, as does a
kernel that the table lacks. `--update` writes the table anew; `--print` shows what was compiled.
The figures are those of one release of nvcc: with another one, or without, nothing is compared.
"""
import argparse
import json
import pathlib
import re
import sys

TABLE = pathlib.Path("base/cuda/kernel_resources.json")
LOGS = pathlib.Path("build/release/cuda")
IMAGES = LOGS / "qr_cuda_images.c"
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
STATIC = re.compile(r"(\d+) bytes smem")
RELEASE = re.compile(r"^QUIRE_NVCC_RELEASE:\w+=(.+)$", re.M)


def read_log(path, kernels):
    """Adds {kernel: {architecture: figures}} from what `nvcc -Xptxas -v` printed."""
    figures = None
    for line in path.read_text().splitlines():
        if match := ENTRY.search(line):
            figures = kernels.setdefault(match[1], {}).setdefault(match[2], {})
        elif figures is None:
            continue
        elif match := SPILLS.search(line):
            figures["stack"] = int(match[1])
            figures["spills"] = int(match[2]) + int(match[3])
        elif match := USED.search(line):
            figures["registers"] = int(match[1])
            static = STATIC.search(line)
            figures["shared"] = int(static[1]) if static else 0


def read_build():
    """The kernels of the program, by the table that CMake wrote; empty where nvcc compiled none."""
    kernels = {}
    if IMAGES.exists():
        for symbol in re.findall(r"char fatbin_(\w+)\[\]", IMAGES.read_text()):
            read_log(LOGS / f"{symbol}.fatbin.ptxas", kernels)
    return kernels


def nvcc_release():
    cache = LOGS.parent / "CMakeCache.txt"
    match = RELEASE.search(cache.read_text()) if cache.exists() else None
    return match[1] if match else None


def write_table(release, kernels):
    rows = ",\n".join(
        f"    {json.dumps(name)}: {json.dumps(kernels[name], sort_keys=True)}" for name in sorted(kernels)
    )
    TABLE.write_text(f'{{\n  "nvcc": {json.dumps(release)},\n  "kernels": {{\n{rows}\n  }}\n}}\n')


def findings(table, kernels):
    for name in sorted(set(table) | set(kernels)):
        if name not in kernels:
            yield f"{name}: in the table, but not in the build"
            continue
        for architecture in sorted(set(table.get(name, {})) | set(kernels[name])):
            before, now = table.get(name, {}).get(architecture), kernels[name].get(architecture)
            if now is None:
                yield f"{name} for {architecture}: in the table, but not in the build"
                continue
            if before is None:
                yield f"{name} for {architecture}: not in the table"
                continue
            for figure in ("registers", "spills", "stack", "shared"):
                if now[figure] > before[figure]:
                    yield f"{name} for {architecture}: {figure} {now[figure]}, were {before[figure]}"


def print_kernels(kernels):
    print(f"{'kernel':52} {'':8} registers  spills  stack  shared")
    for name in sorted(kernels):
        for architecture, now in sorted(kernels[name].items()):
            print(
                f"{name:52} {architecture:8} {now['registers']:9} {now['spills']:7}"
                f" {now['stack']:6} {now['shared']:7}"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write the table anew")
    parser.add_argument("--print", action="store_true", help="show all kernels")
    options = parser.parse_args()
    kernels, release = read_build(), nvcc_release()
    if not kernels or release is None:
        print("skipped: no nvcc, or build/release was not built with it")
        return 0
    if options.print:
        print_kernels(kernels)
    if options.update:
        write_table(release, kernels)
        print(f"{TABLE}: {len(kernels)} kernels, nvcc {release}")
        return 0
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {"nvcc": release, "kernels": {}}
    if table["nvcc"] != release:
        print(f"skipped: the table is of nvcc {table['nvcc']}, this is {release}")
        return 0
    found = list(findings(table["kernels"], kernels))
    for finding in found:
        print(finding)
    if found:
        print(f"{len(found)} findings; when they are meant: ./dev kernels --update")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
