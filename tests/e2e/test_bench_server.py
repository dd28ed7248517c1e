"""quire bench server, small: every client gets its tokens, and errors are the server's own."""
import json
import pathlib
import subprocess
import time

from conftest import BUILD, MODEL

FIGURES = {"ready_s", "first_token_s", "tokens_per_s", "ttft_p50_s", "ttft_p99_s", "gap_p50_s",
           "longest_gap_s", "cpu_s", "ready_mb", "resident_mb"}


def bench_server(*options):
    command = [BUILD / "quire", "bench", "server", "--model", MODEL, "--threads", "1", *options]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)


def test_figures_of_each_number_of_clients(tmp_path):
    out = tmp_path / "server.json"
    result = bench_server("--clients", "1,5", "--prompt", "40", "--output", "100", "--rounds", "2",
                          "--runs", "2", "--json", out)
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())
    assert [case["clients"] for case in report["cases"]] == [1, 5]
    for case in report["cases"]:
        assert set(case["figures"]) == FIGURES
        figures = {name: figure["median"] for name, figure in case["figures"].items()}
        assert all(len(figure["runs"]) == 2 for figure in case["figures"].values())
        assert 0 < figures["ready_s"] < figures["first_token_s"] < 60
        assert 0 < figures["ttft_p50_s"] <= figures["ttft_p99_s"]
        # A client that is slower than the server may get an answer in one message.
        assert 0 <= figures["gap_p50_s"] <= figures["longest_gap_s"]
        assert figures["ready_mb"] > 0 and figures["resident_mb"] > 0
        assert figures["tokens_per_s"] > 0 and figures["cpu_s"] > 0
        assert f"{figures['resident_mb']:.1f}" in result.stdout


def test_server_that_does_not_start_is_reported():
    result = bench_server("--model", "/nonexistent")
    assert result.returncode == 1
    assert "did not get ready" in result.stderr and "/nonexistent" in result.stderr


def test_requests_longer_than_the_model_are_refused_in_words():
    result = bench_server("--prompt", "100000")
    assert result.returncode == 1
    assert "max_context" in result.stderr or "context" in result.stderr


def test_clients_have_bounds():
    for clients in ("0", "2,x", "5000", ""):
        result = bench_server("--clients", clients)
        assert result.returncode != 0
        assert "clients" in result.stderr


def children_of(pid):
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def is_server(pid):
    try:
        return b"serve" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False  # it is gone


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_server_does_not_outlive_a_benchmark_that_is_killed():
    with subprocess.Popen([BUILD / "quire", "bench", "server", "--model", MODEL, "--threads", "1",
                           "--rounds", "64"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as bench:
        wait_for(lambda: children_of(bench.pid))
        server = children_of(bench.pid)[0]
        wait_for(lambda: is_server(server))
        bench.kill()
        bench.wait()
        wait_for(lambda: not is_server(server))
