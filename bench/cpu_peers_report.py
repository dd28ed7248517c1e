#!/usr/bin/env python3
"""The table and the JSON of cpu_peers.sh, from the folder of what Quire and llama.cpp said.

    bench/cpu_peers_report.py RAW OUTPUT.json --shapes LIST --types LIST
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics

SERVER_FIGURES = (("tokens_per_s", "tokens/s", 1), ("ttft_p99_s", "p99 TTFT, s", 3),
                  ("itl_p99_s", "p99 ITL, s", 4), ("start_s", "start, s", 3))


def read_all(raw, pattern):
    return [json.loads(path.read_text()) for path in sorted(raw.glob(pattern))]


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
    for tests in read_all(raw, f"{stem}-?*-prefill.json"):
        for test in tests:
            cases.setdefault(f"prefill {test['n_prompt']}", []).extend(test["samples_ts"])
    for path in sorted(raw.glob(f"{stem}-?*-batched.jsonl")):
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


def medians(figures):
    return {key: statistics.median(one[key] for one in figures) for key in figures[0]}


def compare_servers(raw, stem):
    rows = []
    counts = {int(path.name.split("-clients-")[0].rsplit("-", 1)[1])
              for path in raw.glob(f"{stem}-?*-clients-*.json")}
    for count in sorted(counts):
        own, peer = (medians(read_all(raw, f"{stem}-?*-{count}-clients-{kind}.json"))
                     for kind in ("quire", "llama"))
        rows.append({"clients": count, "quire": own, "llama": peer})
    return rows


def print_model(model):
    print(f"\n{model['shape']} {model['type']}, {model['weight_bytes'] / 1e6:.0f} MB, "
          f"{model['device']}: tokens/s, medians")
    print(f"{'':34} {'Quire':>9} {'llama.cpp':>9} {'ratio':>6} {'of the limit':>13}  by")
    for row in model["cases"]:
        peer = [f"{row['llama_tokens_per_s']:9.1f} {row['ratio']:6.2f}"] if "ratio" in row else [
            f"{'-':>9} {'-':>6}"]
        other = f" ({row['llama_fraction_of_limit']:.2f})" if "ratio" in row else ""
        print(f"{row['name']:34} {row['tokens_per_s']:9.1f} {peer[0]} "
              f"{row['fraction_of_limit']:6.2f}{other:7}  {row['limited_by']}")
    for row in model["servers"]:
        own, peer = row["quire"], row["llama"]
        for key, title, digits in SERVER_FIGURES:
            print(f"{row['clients']} clients: {title:22} {own[key]:9.{digits}f} "
                  f"{peer[key]:9.{digits}f} {own[key] / peer[key]:6.2f}")
        own, peer = own["resident_bytes"] / 1e6, peer["resident_bytes"] / 1e6
        print(f"{row['clients']} clients: {'resident, MB':22} {own:9.1f} {peer:9.1f} {own / peer:6.2f}")


def compare(raw, shape, kind):
    stem = f"{shape}-{kind}"
    results = read_all(raw, f"{stem}-?*-bench.json")
    last = results[-1]
    model = {"shape": shape, "type": kind, "device": last["device"], "threads": last["threads"],
             "parameters": last["parameters"], "weight_bytes": last["memory"]["weight_bytes"],
             "open_s": statistics.median(result["open_s"] for result in results),
             "over_weights_and_kv_bytes": statistics.median(
                 result["memory"]["over_weights_and_kv_bytes"] for result in results),
             "limits": [result[key] for result in results
                        for key in ("limits_before", "limits_after")],
             "cases": compare_cases(raw, stem, results), "servers": compare_servers(raw, stem)}
    print_model(model)
    return model, last


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--shapes", required=True)
    parser.add_argument("--types", required=True)
    options = parser.parse_args()
    models = []
    for shape in options.shapes.split():
        for kind in options.types.split():
            model, last = compare(options.raw, shape, kind)
            models.append(model)
    bench = next(iter(read_all(options.raw, "*-prefill.json")), [{}])[0]
    options.output.write_text(json.dumps(
        {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
         "commit": os.environ.get("QUIRE_COMMIT", "unknown"), "kernel": platform.release(),
         "processor": last["processor"], "cores": last["cores"],
         "llama_build": {key: bench.get(key) for key in ("build_commit", "build_number")},
         "models": models}, indent=1) + "\n")


main()
