#!/usr/bin/env python3
"""The table and the JSON of cpu_peers.sh, from the folder of what Quire and llama.cpp said.

    bench/cpu_peers_report.py RAW OUTPUT.json [--server-context TOKENS]
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import sys

from cpu_peers_figures import OF_CASE, label_of

ROOT = pathlib.Path(__file__).resolve().parent.parent
KV_NUMBER_BYTES = 2  # F16, of both


def read_json(path):
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        sys.exit(f"cpu_peers_report.py: {path}: {error}")


def read_all(raw, stem, name):
    """The files of all rounds."""
    return [read_json(path) for path in sorted(raw.glob(f"{stem}-[0-9]*-{name}.json"))]


def stems(raw):
    """SHAPE-TYPE of each model, in the order in which they were measured."""
    paths = sorted(raw.glob("*-bench.json"), key=lambda path: path.stat().st_mtime)
    return list(dict.fromkeys(re.sub(r"-\d+-bench\.json$", "", path.name) for path in paths))


# ---- steps of a model ----

def quire_cases(results):
    """By name: tokens/s of all runs, and what fraction of the limit each round's median was."""
    cases = {}
    for case in (case for result in results for case in result["cases"] if "seconds" in case):
        entry = cases.setdefault(case["name"], {"runs": [], "fractions": [], "by": ""})
        entry["runs"] += [case["tokens"] / seconds for seconds in case["seconds"]]
        entry["fractions"].append(case.get("fraction_of_limit", 0))
        entry["by"] = case.get("limited_by", "")
    return cases


def llama_cases(raw, stem):
    """By the same names: tokens/s of all runs."""
    cases = {}
    for tests in read_all(raw, stem, "prefill"):
        for test in tests:
            cases.setdefault(f"prefill {test['n_prompt']}", []).extend(test["samples_ts"])
    for path in sorted(raw.glob(f"{stem}-[0-9]*-batched.jsonl")):
        for line in map(json.loads, path.read_text().splitlines()):
            name = f"decode, batch {line['pl']}, context {line['pp']}"
            cases.setdefault(name, []).append(line["speed_tg"])
    return cases


def compare_cases(raw, stem, results):
    rows = []
    peers = llama_cases(raw, stem)
    for name, own in quire_cases(results).items():
        row = {"name": name, "tokens_per_s": statistics.median(own["runs"]), "runs": own["runs"],
               "fraction_of_limit": statistics.median(own["fractions"]), "limited_by": own["by"]}
        if name in peers:
            peer = statistics.median(peers[name])
            ratio = row["tokens_per_s"] / peer
            row.update(llama_tokens_per_s=peer, llama_runs=peers[name], ratio=ratio,
                       llama_fraction_of_limit=row["fraction_of_limit"] / ratio)
        rows.append(row)
    return rows


# ---- servers ----

def kv_bytes(shape, n_tokens):
    config = read_json(ROOT / f"bench/models/{shape}.json")
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return (2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head_dim
            * KV_NUMBER_BYTES * n_tokens)


def server_medians(figures, held_bytes):
    if not figures:
        return None
    for one in figures:
        one["over_weights_and_kv_bytes"] = one["resident_bytes"] - held_bytes
    return {**{key: statistics.median(one[key] for one in figures) for key in figures[0]},
            "runs": figures}


def compare_servers(raw, stem, model, server_context):
    """Of the one client after a start, and of each number of clients."""
    counts = sorted({int(match[1]) for path in raw.glob(f"{stem}-[0-9]*-clients-quire.json")
                     if (match := re.search(r"-(\d+)-clients-quire\.json$", path.name))})
    rows = []
    for name, count in [("start-{}-[0-9]*", 1), *((f"{count}-clients-{{}}", count) for count in counts)]:
        held = model["weight_bytes"] + kv_bytes(model["shape"], count * server_context)
        row = {"case": "start" if name.startswith("start") else "clients", "clients": count,
               **{kind: server_medians(read_all(raw, stem, name.format(kind)), held)
                  for kind in ("quire", "llama")}}
        if row["quire"]:
            rows.append(row)
    return rows


# ---- output ----

def print_line(title, own, peer, digits, rest=""):
    other = f"{peer:9.{digits}f} {own / peer:6.2f}" if peer else f"{'-':>9} {'-':>6}"
    print(f"{title:34} {own:9.{digits}f} {other}{rest}")


def print_model(model):
    print(f"\n{model['shape']} {model['type']}, {model['weight_bytes'] / 1e6:.0f} MB, "
          f"{model['device']}, {model['threads']} threads: medians")
    print(f"{'':34} {'Quire':>9} {'llama.cpp':>9} {'ratio':>6} {'of the limit':>13}  by")
    for row in model["cases"]:
        other = f" ({row['llama_fraction_of_limit']:.2f})" if "ratio" in row else ""
        print_line(f"{row['name']}", row["tokens_per_s"], row.get("llama_tokens_per_s"), 1,
                   f" {row['fraction_of_limit']:6.2f}{other:7}  {row['limited_by']}")
    for row in model["servers"]:
        for figure in OF_CASE[row["case"]]:
            peer = row["llama"] and row["llama"][figure.key] * figure.scale
            print_line(label_of(row, figure), row["quire"][figure.key] * figure.scale, peer,
                       figure.digits)


def compare(raw, stem, server_context):
    shape, kind = stem.rsplit("-", 1)
    results = read_all(raw, stem, "bench")
    last = results[-1]
    model = {"shape": shape, "type": kind, "rounds": len(results),
             **{key: last[key] for key in ("date", "commit", "device", "threads", "parameters")},
             "weight_bytes": last["memory"]["weight_bytes"],
             "limits": [result[key] for result in results
                        for key in ("limits_before", "limits_after")],
             "cases": compare_cases(raw, stem, results)}
    model["servers"] = compare_servers(raw, stem, model, server_context)
    print_model(model)
    return model, last


def llama_build(raw):
    bench = next(iter(read_json(path) for path in raw.glob("*-prefill.json")), [{}])[0]
    return {key: bench.get(key) for key in ("build_commit", "build_number")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--server-context", type=int, default=256,
                        help="tokens of KV that servers hold for each client; default 256")
    options = parser.parse_args()
    compared = [compare(options.raw, stem, options.server_context) for stem in stems(options.raw)]
    if not compared:
        sys.exit(f"cpu_peers_report.py: no results in {options.raw}")
    last = compared[-1][1]
    options.output.write_text(json.dumps(
        {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
         "commit": os.environ.get("QUIRE_COMMIT", "unknown"), "kernel": platform.release(),
         "processor": last["processor"], "cores": last["cores"],
         "llama_build": llama_build(options.raw), "models": [model for model, _ in compared]},
        indent=1) + "\n")


main()
