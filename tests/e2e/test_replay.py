"""What a server recorded is replayed by `quire replay`, whether the server ended in order or not."""
import json
import signal
import subprocess

from conftest import BUILD, request

PRESSURE = ("--kv-pages", "40", "--max-context", "320", "--max-running", "16",
            "--swap-memory", "64KiB")


def replay(*arguments):
    return subprocess.run([BUILD / "quire", "replay", *map(str, arguments)], capture_output=True,
                          text=True, timeout=60, check=False)


def serve_stories(server, n_requests):
    """Streams that run side by side in less memory than they want."""
    streams = [server.inference.Generate(request("Once upon a time", max_tokens=200,
                                                 request_id=f"story-{i}"))
               for i in range(n_requests)]
    for stream in streams:
        assert list(stream)


def test_an_orderly_end(start_server, tmp_path):
    path = tmp_path / "run.rec"
    server = start_server(*PRESSURE, "--record", path)
    serve_stories(server, 12)
    server.stop()

    done = replay(path)
    assert done.returncode == 0, done.stderr
    assert "every decision is the same" in done.stdout
    assert "complete: the process ended in order" in done.stdout

    summary = json.loads(replay("--json", "--list", path).stdout)
    assert summary["same"] and summary["counts"]["requests"] == 12
    preemptions = summary["counts"]["preemptions"]
    assert preemptions["swap"] + preemptions["recompute"] > 0
    assert {item["request_id"] for item in summary["list"]} == {f"story-{i}" for i in range(12)}
    assert all(item["state"] == "ended" for item in summary["list"])

    victim = max(summary["list"], key=lambda item: item["swapped"] + item["recomputed"])
    told = replay("--explain", victim["request_id"], path)
    assert told.returncode == 0
    for words in (victim["request_id"], "arrives: ", "admitted, ", "first token", "preempted by ",
                  "needs room", "ends with "):
        assert words in told.stdout
    story = json.loads(replay("--json", "--explain", f"#{victim['request']}", path).stdout)["story"]
    assert story["request_id"] == victim["request_id"]
    assert [e["event"] for e in story["events"]].count("preempted") == (
        victim["swapped"] + victim["recomputed"] + victim["parked"])


def test_a_killed_server(start_server, tmp_path):
    path = tmp_path / "run.rec"
    server = start_server(*PRESSURE, "--record", path)
    serve_stories(server, 4)
    open_stream = server.inference.Generate(request("Once", max_tokens=280))
    next(open_stream)
    server.signal(signal.SIGKILL)
    server.wait()

    done = replay(path)
    assert done.returncode == 0, done.stderr
    assert "every decision is the same" in done.stdout
    assert "the process was killed, or still writes" in done.stdout
    told = replay("--explain", "#5", path)
    assert "the recording ends and the request has not" in told.stdout

    again = start_server(*PRESSURE, "--record", path)  # what the crash left is kept
    again.stop()
    assert replay(path).returncode == 0
    assert "5; " in next(line for line in replay(f"{path}.old").stdout.splitlines()
                         if line.startswith("requests"))


def test_what_cannot_be_replayed_is_named(tmp_path):
    path = tmp_path / "x.rec"
    done = replay(path)
    assert done.returncode == 1 and str(path) in done.stderr
    path.write_bytes(b"not a recording")
    done = replay(path)
    assert done.returncode == 1 and "not a recording" in done.stderr


def test_a_place_that_cannot_be_written(tmp_path):
    done = subprocess.run([BUILD / "quire", "serve", "--record", tmp_path / "no/such/run.rec",
                           "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 1
    assert "no/such/run.rec: cannot be opened for a recording" in done.stderr
