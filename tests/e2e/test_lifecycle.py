"""Clients that leave, clients that dawdle, and servers that stop."""
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import pytest
from conftest import BUILD, MODEL, STUBS, Result, failure, request
from grpc_health.v1 import health_pb2, health_pb2_grpc


def stalled_stream(server, **kwargs):
    """A stream whose engine side is parked: it waits for a reader that does not come."""
    before = server.stats().requests.paused
    stream = server.inference.Generate(request("Once", max_tokens=450, stalls=True), **kwargs)
    server.wait_until(lambda s: s.requests.paused == before + 1)
    return stream


def test_cancel(server):
    stream = stalled_stream(server)
    cancelled = server.stats().requests.cancelled
    stream.cancel()
    stats = server.wait_until_empty()
    assert stats.requests.cancelled == cancelled + 1


def ended_early(stats):
    """Requests that a deadline or a client ended: at a deadline, either may come first."""
    return stats.requests.deadline_exceeded + stats.requests.cancelled


def status_of(stream):
    """The code alone: at a deadline, client and server may each put in half of the details."""
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    return caught.value.code()


def test_deadline(server):
    before = ended_early(server.stats())
    begin = time.monotonic()
    stream = server.inference.Generate(request("Once", max_tokens=450, stalls=True), timeout=0.4)
    stats = server.wait_until(lambda s: ended_early(s) == before + 1)
    assert 0.3 < time.monotonic() - begin < 3
    assert stats.kv.used_pages == 0
    assert status_of(stream) == grpc.StatusCode.DEADLINE_EXCEEDED


def test_deadlines_of_more_than_can_run(start_server):
    """Late ones end wherever they are: running, waiting, or preempted for another."""
    server = start_server("--max-running", "1")
    first = stalled_stream(server)
    late = [server.inference.Generate(request("Once", max_tokens=450, stalls=True), timeout=0.3)
            for _ in range(3)]
    stats = server.wait_until(lambda s: ended_early(s) == 3)
    assert stats.requests.running + stats.requests.waiting == 1
    for stream in late:
        assert status_of(stream) == grpc.StatusCode.DEADLINE_EXCEEDED
    first.cancel()
    server.wait_until_empty()
    server.stop()


def test_slow_reader_gets_everything(server):
    """It is parked, without pages, and nobody else waits for it; then it goes on."""
    message = request("Once", max_tokens=450, stalls=True)
    message.sampling.seed = 3
    at_once = Result(server.inference.Generate(message))
    slow = server.inference.Generate(message)
    stats = server.wait_until(lambda s: s.requests.paused == 1 and s.requests.running == 0)
    assert stats.requests.waiting == 1
    assert stats.kv.used_pages == 0
    assert stats.kv.cached_pages > 0
    others = Result(server.inference.Generate(request("Once", max_tokens=20)))
    assert others.finish.usage.output_tokens > 0
    late = Result(slow)
    assert late.ids == at_once.ids
    assert late.text == at_once.text
    assert late.finish.usage.parkings >= 1
    assert late.finish.usage.preemptions >= late.finish.usage.parkings


KILLED_CLIENT = """
import sys
sys.path[:0] = [sys.argv[2], sys.argv[3]]
import grpc
from quire.v1 import inference_pb2, inference_pb2_grpc
stub = inference_pb2_grpc.InferenceServiceStub(
    grpc.insecure_channel(sys.argv[1], options=[("grpc.http2.bdp_probe", 0)]))
message = inference_pb2.GenerateRequest(text="Once")
message.sampling.logprobs = 20
message.stopping.ignore_eos = True
streams = [stub.Generate(message) for _ in range(8)]
print(next(streams[0]).token_ids, flush=True)
input()
"""


def test_killed_client(start_server):
    server = start_server()
    client = subprocess.Popen(
        [sys.executable, "-c", KILLED_CLIENT, server.address, str(STUBS),
         os.path.dirname(__file__)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    client.stdout.readline()
    server.wait_until(lambda s: s.requests.running + s.requests.waiting == 8)
    client.kill()
    begin = time.monotonic()
    stats = server.wait_until_empty(seconds=5)
    assert time.monotonic() - begin < 2
    assert stats.requests.cancelled == 8
    client.communicate()
    list(server.inference.Generate(request("Once", max_tokens=3)))
    server.stop()


def serve_and_fail(listen):
    done = subprocess.run([BUILD / "quire", "serve", "--model", MODEL, "--listen", listen],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


def test_port_in_use():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert f"{address} is in use" in serve_and_fail(address)


@pytest.mark.parametrize("listen, words", [
    ("nonsense", "no address"), ("127.0.0.1:99999", "port"), ("127.0.0.1:", "port"),
    ("::1:7070", "no address"), ("192.0.2.1:7070", "no such address"),
    ("unix:", "path"), ("unix:/" + "x" * 120, "path"),
    ("unix:/no/such/folder/socket", "No such file or directory"),
    ("unix:/etc/hostname", "something else"),
])
def test_bad_address(listen, words):
    assert words in serve_and_fail(listen)


def test_unix_socket(start_server, tmp_path):
    path = tmp_path / "quire.sock"
    server = start_server(listen=f"unix:{path}")
    assert server.address == f"unix:{path}"
    Result(server.inference.Generate(request("Once", max_tokens=3)))
    assert "in use" in serve_and_fail(f"unix:{path}")
    Result(server.inference.Generate(request("Once", max_tokens=3)))  # the first one lives on
    server.stop()
    assert not path.exists()


def test_stale_unix_socket(start_server, tmp_path):
    path = tmp_path / "quire.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    server = start_server(listen=f"unix:{path}")
    Result(server.inference.Generate(request("Once", max_tokens=3)))
    server.stop()


def test_ipv6(start_server):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    server = start_server(listen="[::1]:0")
    assert server.address.startswith("[::1]:")
    Result(server.inference.Generate(request("Once", max_tokens=3)))
    server.stop()


def test_drain(start_server):
    """Live streams finish; health and new calls say that the server goes."""
    server = start_server("--network-threads", "2")
    health = health_pb2_grpc.HealthStub(server.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    streams = [stalled_stream(server) for _ in range(3)]
    server.signal()
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    answer = health.Check(health_pb2.HealthCheckRequest(service="quire.v1.InferenceService"))
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert server.stats().draining
    error = failure(lambda: server.inference.Generate(request("Once")))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert error.reason == "DRAINING"
    assert error.details_by_type["RetryInfo"].retry_delay.ToTimedelta().total_seconds() > 0
    results = [None] * 3

    def read(i):
        results[i] = Result(streams[i])

    threads = [threading.Thread(target=read, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    code, log = server.wait()
    for thread in threads:
        thread.join()
    assert code == 0, log
    assert [len(r.ids) for r in results] == [450] * 3
    assert "drained" in log
    assert failure(lambda: watch).code() == grpc.StatusCode.UNAVAILABLE


def test_drain_timeout(start_server):
    server = start_server("--drain-timeout", "1")
    stream = stalled_stream(server)
    begin = time.monotonic()
    server.signal(signal.SIGINT)
    code, log = server.wait()
    assert code == 0, log
    assert 1 <= time.monotonic() - begin < 6
    assert "cause=timeout" in log
    assert status_of(stream) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def test_second_signal(start_server):
    server = start_server("--drain-timeout", "600")
    stream = stalled_stream(server)
    server.signal()
    server.wait_until(lambda s: s.draining)
    server.signal()
    code, log = server.wait(seconds=6)
    assert code == 0, log
    assert "cause=signal" in log
    stream.cancel()


def test_idle_server_stops_at_once(start_server):
    server = start_server()
    begin = time.monotonic()
    server.signal()
    assert server.wait()[0] == 0
    assert time.monotonic() - begin < 3


def test_cli_client(server):
    """quire generate --addr prints what the server says."""
    command = [BUILD / "quire", "generate", "--addr", server.address, "--prompt", "Once upon",
               "--max-tokens", "12", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    message = request("Once upon", max_tokens=12)
    message.sampling.seed = 5
    assert Result(server.inference.Generate(message)).text in done.stdout
    done = subprocess.run([*command, "--top-p", "1", "--min-tokens", "20"], capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 1
    assert "INVALID_ARGUMENT: min_tokens" in done.stderr
