"""quire bench pressure, small: every discipline finishes every request with the same tokens."""
import json
import subprocess

import pytest
from conftest import BUILD, MODEL

N_REQUESTS = 30


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """Half of each sequence is output: what was admitted grows into the others' room."""
    path = tmp_path_factory.mktemp("trace") / "lengths.csv"
    rows = [f"{20 + 37 * i % 150},{30 + 53 * i % 120}" for i in range(N_REQUESTS)]
    path.write_text("num_prefill_tokens,num_decode_tokens\n" + "\n".join(rows) + "\n")
    return path


def pressure(trace, *options):
    command = [BUILD / "quire", "bench", "pressure", "--model", MODEL, "--trace", trace, "--rate",
               "2000", "--trace-context", "512", "--runs", "1", "--threads", "1",
               "--max-running", "16", *options]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)


def test_all_finish_with_the_same_tokens(trace, tmp_path):
    out = tmp_path / "report.json"
    result = pressure(trace, "--overcommit", "3", "--json", out)
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())
    load = report["notes"]["load"]
    assert (load["requests"], load["failed"], load["different_outputs"]) == (N_REQUESTS, 0, 0)

    figures = {r["discipline"]: {k: v["median"] for k, v in r["figures"].items()}
               for r in report["results"]}
    assert sorted(figures) == ["cost", "recompute", "reserve", "swap"]
    assert len({r["kv_pages"] for r in report["results"]}) == 1
    assert report["results"][0]["kv_pages"] < load["demand_pages"] / 2
    runs = {r["discipline"]: r for r in report["notes"]["runs"]}
    assert runs["recompute"]["recomputed"] > 0  # the memory was too small
    assert runs["swap"]["swapped"] > 0
    assert runs["reserve"]["swapped"] + runs["reserve"]["recomputed"] == 0
    assert runs["recompute"]["rows"] > runs["swap"]["rows"]  # work done twice


def test_limit_below_the_trace_is_refused(trace):
    result = pressure(trace, "--limit", "10")
    assert result.returncode == 1
    assert "a limit of 10 tokens cuts the trace" in result.stderr


def test_server_that_does_not_start_is_reported(trace):
    result = pressure(trace, "--model", "/nonexistent")
    assert result.returncode == 1
    assert "did not get ready" in result.stderr and "/nonexistent" in result.stderr
