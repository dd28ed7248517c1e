#!/usr/bin/env python3
"""Fail on C sources that lack their opening comment or outgrow what a reader holds in mind."""
import pathlib
import re
import sys

FOLDERS = ("base", "blockmgr", "attention", "scheduler", "runtime", "tests", "bench")
SUFFIXES = {".c", ".h", ".cu", ".cuh"}
MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 70  # the aim is 50; a long table-like switch may pass
GUARD = re.compile(r"^#ifndef (\w+)\n#define (\w+)\n", re.M)


def long_functions(lines):
    """clang-format puts the braces of a function, and of nothing else, alone in column 0."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            if number - start - 1 > MAX_FUNCTION_LINES:
                yield start, number - start - 1
            start = None


def findings(path):
    text = path.read_text()
    lines = text.split("\n")
    if not text.startswith("/*") and path.parts[0] != "tests":
        yield "1: no opening comment that says what the file is for"
    if path.suffix in {".h", ".cuh"} and not path.name.endswith(".inc.h"):
        wanted = "QUIRE_" + re.sub(r"\W", "_", path.as_posix()).upper()
        guard = GUARD.search(text)
        if guard is None or set(guard.groups()) != {wanted}:
            yield f"1: the include guard is not {wanted}"
    if len(lines) > MAX_FILE_LINES:
        yield f"1: {len(lines)} lines; split the file by subject (limit {MAX_FILE_LINES})"
    for start, length in long_functions(lines):
        yield f"{start}: a function of {length} lines (limit {MAX_FUNCTION_LINES})"


def main():
    bad = 0
    for folder in FOLDERS:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.suffix in SUFFIXES:
                for finding in findings(path):
                    print(f"{path}:{finding}")
                    bad += 1
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
