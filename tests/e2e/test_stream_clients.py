"""bench/stream_clients.py: what it tells of a real server, and of a stand-in for llama-server."""
import json
import signal
import subprocess
import sys
import time

import pytest
from conftest import BUILD, MODEL, SOURCE

N_CLIENTS, N_REQUESTS, N_OUTPUT = 3, 2, 8

# Is loading for 0.3 s, then sends a token each 20 ms. It notes the prompts that it gets.
STAND_IN = '''
import http.server, json, sys, time

ready = time.monotonic() + 0.3

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if time.monotonic() > ready else 503)
        self.end_headers()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open(sys.argv[2], "a") as prompts:
            print(json.dumps(body["prompt"]), file=prompts)
        self.send_response(200)
        self.end_headers()
        for _ in range(int(sys.argv[3])):
            time.sleep(0.02)
            self.event({"tokens": [1], "stop": False})
        self.event({"stop": True})

    def event(self, event):
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\\n\\n")
        self.wfile.flush()

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
'''


def command(kind, *server, output=N_OUTPUT, options=()):
    return [sys.executable, str(SOURCE / "bench/stream_clients.py"), kind, "--clients",
            str(N_CLIENTS), "--requests", str(N_REQUESTS), "--output", str(output),
            "--vocab-size", "500", *options, "--", *map(str, server)]


def run(*arguments, **options):
    return subprocess.run(command(*arguments, **options), capture_output=True, text=True,
                          timeout=120)


def check(figures, output=N_OUTPUT):
    assert figures["clients"] == N_CLIENTS
    assert figures["requests"] == N_CLIENTS * N_REQUESTS
    n_tokens = figures["tokens_per_s"] * figures["seconds"]
    assert round(n_tokens, 6) == N_CLIENTS * N_REQUESTS * output
    assert 0 < figures["start_s"] < figures["first_token_s"]
    assert 0 < figures["ttft_p50_s"] <= figures["ttft_p99_s"] < figures["seconds"]
    assert 0 < figures["itl_p50_s"] <= figures["itl_p99_s"] < figures["seconds"]
    assert figures["resident_bytes"] > 1 << 20


@pytest.fixture
def stand_in(tmp_path):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return sys.executable, script, "{port}", tmp_path / "prompts"


def test_quire():
    output = 300  # a busy client gets few tokens of a model this small in one message
    result = run("quire", BUILD / "quire", "serve", "--model", MODEL, "--listen",
                 "127.0.0.1:{port}", "--threads", "1", output=output)
    assert result.returncode == 0, result.stderr
    check(json.loads(result.stdout), output)


def test_answers_in_one_message_have_no_gaps(stand_in):
    result = run("llama", *stand_in, 1, output=1)
    assert result.returncode != 0
    assert "every answer came in one message" in result.stderr and not result.stdout


def test_llama_server(stand_in, tmp_path):
    result = run("llama", *stand_in, N_OUTPUT)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    check(figures)
    assert figures["start_s"] >= 0.3  # not before it says that the model is loaded
    assert figures["ttft_p50_s"] >= 0.02 and figures["itl_p50_s"] >= 0.015
    prompts = (tmp_path / "prompts").read_text().splitlines()
    assert len(set(prompts)) == len(prompts) == N_CLIENTS * N_REQUESTS
    assert all(len(json.loads(prompt)) == 128 for prompt in prompts)


def test_too_few_tokens_are_an_error(stand_in):
    result = run("llama", *stand_in, N_OUTPUT // 2)
    assert result.returncode != 0
    assert f"a request failed: {N_OUTPUT // 2} tokens" in result.stderr and not result.stdout


def test_server_that_does_not_start(tmp_path):
    log = tmp_path / "log"
    result = run("quire", BUILD / "quire", "serve", "--model", "/nonexistent",
                 options=("--log", str(log)))
    assert result.returncode != 0
    assert "did not get ready" in result.stderr and "/nonexistent" in result.stderr
    assert "/nonexistent" in log.read_text()


def test_a_signal_ends_the_server_too(stand_in, tmp_path):
    clients = subprocess.Popen(command("llama", *stand_in, 10000), stderr=subprocess.DEVNULL)
    prompts = tmp_path / "prompts"
    end = time.monotonic() + 60
    while not prompts.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert prompts.exists()
    clients.send_signal(signal.SIGTERM)
    assert clients.wait(30) == 128 + signal.SIGTERM
    running = subprocess.run(["pgrep", "-f", str(prompts)], capture_output=True, check=False)
    assert running.returncode == 1, "the server is still there"
