#!/usr/bin/env python3
"""The JSON of cpu_peers.sh as the tables of docs/cpu.md, in Markdown.

    bench/cpu_peers_tables.py RESULTS.json
"""
import json
import pathlib
import sys

from cpu_peers_figures import OF_CASE, in_order, label_of


def step_cells(model):
    """By case: tokens/s, how many times llama.cpp's, and both fractions of the limit."""
    return {row["name"]: f"{row['tokens_per_s']:,.0f}, {row['ratio']:.2f} x, "
            f"{row['fraction_of_limit']:.2f} ({row['llama_fraction_of_limit']:.2f})"
            for row in model["cases"] if "ratio" in row}


def server_cells(model):
    """By figure: Quire's, and llama.cpp's in brackets."""
    return {label_of(server, figure):
            f"{figure.text(server['quire'])} ({figure.text(server['llama'])})"
            for server in model["servers"] if server["llama"]
            for figure in OF_CASE[server["case"]]}


def print_table(models, cells_of):
    columns = [cells_of(model) for model in models]
    heads = [f"{model['shape']} {model['type'].upper()}" for model in models]
    print(f"\n| | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for name in in_order(columns):
        print(f"| {name} | {' | '.join(column.get(name, '') for column in columns)} |")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    models = json.loads(pathlib.Path(sys.argv[1]).read_text())["models"]
    print_table(models, step_cells)
    print_table(models, server_cells)


main()
