#!/usr/bin/env python3
"""Print what the machine code of each CUDA kernel consists of, as a table in Markdown.

Counts stand for instructions in the code, not for those that run: loops count once. cuobjdump and
nvdisasm must be at hand (pip: nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm), the kernels built.
"""
import argparse
import collections
import pathlib
import re
import subprocess

CLASSES = {  # in the order of the columns; the first that fits counts
    "tensor": r"HMMA|IMMA|HGMMA|WARPGROUP",
    "global memory": r"LDG|STG|LD$|ST$|LDGSTS|UBLKCP|RED|ATOM$|ATOMG|LDGDEPBAR",
    "shared memory": r"LDS|STS|LDSM|STSM|ATOMS|SYNCS",
    "F32": r"FFMA|FADD|FMUL|FMNMX|FSETP|FSEL|FCHK|MUFU|DADD|DMUL|DFMA|DSETP|HADD2|HMUL2|HFMA2|HMNMX2",
    "conversions": r"F2F|F2FP|I2F|F2I|I2FP|FRND|PRMT",
    "lanes, barriers": r"SHFL|VOTE|REDUX|MOVM|BAR|MEMBAR|DEPBAR|ERRBAR|ACQBULK|WARPSYNC|FENCE|CCTL|S2UR|R2UR",
}
OTHERS = "addresses, predicates, moves, branches"
INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+ )?([A-Z0-9_]+)")
FUNCTION = re.compile(r"Function : (\S+)")


def class_of(opcode):
    for name, pattern in CLASSES.items():
        if re.fullmatch(pattern, opcode):
            return name
    return OTHERS


def read_images(folder, architecture, cuobjdump):
    """{kernel: {class: instructions}} of all images in the folder."""
    kernels = {}
    for image in sorted(folder.glob("*.fatbin")):
        listing = subprocess.run([cuobjdump, "-sass", "-arch", architecture, image], check=True,
                                 capture_output=True, text=True).stdout
        counts = None
        for line in listing.splitlines():
            if match := FUNCTION.search(line):
                counts = kernels.setdefault(match[1], collections.Counter())
            elif (match := INSTRUCTION.match(line)) and match[1] != "NOP":
                counts[class_of(match[1])] += 1
    return kernels


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=pathlib.Path, default="build/release/cuda")
    parser.add_argument("--architecture", default="sm_90a")
    parser.add_argument("--cuobjdump", default="cuobjdump")
    parser.add_argument("--match", default="", help="only kernels whose names contain this pattern")
    options = parser.parse_args()
    columns = [*CLASSES, OTHERS]
    print("| kernel | all | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 2) + "|")
    kernels = read_images(options.images, options.architecture, options.cuobjdump)
    for name, counts in sorted(kernels.items()):
        if re.search(options.match, name) and counts.total() > 0:
            figures = [counts.total(), *(counts[column] for column in columns)]
            print(f"| `{name}` | " + " | ".join(str(n) if n else "" for n in figures) + " |")


if __name__ == "__main__":
    main()
