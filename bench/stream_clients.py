#!/usr/bin/env python3
"""Clients that stream from a running server at one time: quire serve, or llama.cpp's llama-server.

    bench/stream_clients.py quire ADDRESS [OPTION...] -- COMMAND OF THE SERVER...
    bench/stream_clients.py llama HOST:PORT [OPTION...] -- COMMAND OF THE SERVER...

Starts the server, waits until it answers, lets each client send its requests one after the other,
all with prompts of their own, and stops it. The clients are the same Python for both, so what they
cost is the same. For quire it needs grpcio and grpcio-tools (tests/e2e/requirements.txt).
"""
import argparse
import http.client
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIRST_WORD = 259  # of the tokenizer that make_gguf.py writes, after the bytes
START_LIMIT_S = 300


class Quire:
    def __init__(self, address):
        import grpc
        import grpc_tools
        from grpc_tools import protoc

        stubs = tempfile.mkdtemp(prefix="quire-stubs-")
        protos = [str(path) for path in sorted((ROOT / "proto/quire/v1").glob("*.proto"))]
        include = pathlib.Path(grpc_tools.__file__).parent / "_proto"
        if protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"-I{include}", f"--python_out={stubs}",
                        f"--grpc_python_out={stubs}", *protos]) != 0:
            sys.exit("stream_clients.py: the stubs of quire.v1 cannot be made")
        sys.path.insert(0, stubs)
        from quire.v1 import inference_pb2, inference_pb2_grpc

        self.messages = inference_pb2
        # Tries again soon when nobody listens yet.
        self.channel = grpc.insecure_channel(address, [("grpc.initial_reconnect_backoff_ms", 100),
                                                       ("grpc.min_reconnect_backoff_ms", 100),
                                                       ("grpc.max_reconnect_backoff_ms", 100)])
        self.service = inference_pb2_grpc.InferenceServiceStub(self.channel)
        self.grpc = grpc

    def answers(self):
        try:
            self.service.Tokenize(self.messages.TokenizeRequest(text="a"))
            return True
        except self.grpc.RpcError:
            return False

    def stream(self, ids, n_output):
        """Yields the number of tokens of each message."""
        request = self.messages.GenerateRequest()
        request.token_ids.ids.extend(ids)
        request.sampling.temperature = 0
        request.stopping.max_tokens = n_output
        request.stopping.ignore_eos = True
        for message in self.service.Generate(request):
            if message.token_ids:
                yield len(message.token_ids)


class Llama:
    def __init__(self, address):
        self.address = address

    def answers(self):
        try:
            connection = http.client.HTTPConnection(self.address, timeout=1)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def stream(self, ids, n_output):
        body = {"prompt": ids, "n_predict": n_output, "temperature": 0, "ignore_eos": True,
                "stream": True, "cache_prompt": False, "return_tokens": True}
        connection = http.client.HTTPConnection(self.address)
        connection.request("POST", "/completion", json.dumps(body),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status} {response.read(500)!r}")
        for line in response:
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                if not event.get("stop"):
                    yield len(event.get("tokens") or [0])


def start(server, command, log):
    """The process, and the seconds until it answered."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=log, stderr=log)
    while not server.answers():
        if process.poll() is not None or time.monotonic() > begin + START_LIMIT_S:
            process.kill()
            sys.exit(f"stream_clients.py: the server does not answer; see {log.name}")
        time.sleep(0.005)
    return process, time.monotonic() - begin


def resident_bytes(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines()
                if line.startswith("VmRSS"))


class Client(threading.Thread):
    def __init__(self, server, options, number):
        super().__init__(daemon=True)
        self.server, self.options, self.number = server, options, number
        self.first_s, self.gaps_s, self.n_tokens, self.error = [], [], 0, None

    def run(self):
        chance = random.Random(self.number)
        try:
            for _ in range(self.options.requests):
                self.request([chance.randrange(FIRST_WORD, self.options.vocab_size)
                              for _ in range(self.options.prompt)])
        except Exception as error:  # whatever it is, the figures are worth nothing
            self.error = error

    def request(self, ids):
        last = start = time.monotonic()
        n_tokens = 0
        for count in self.server.stream(ids, self.options.output):
            now = time.monotonic()
            (self.gaps_s if n_tokens else self.first_s).append(now - last)
            last = now
            n_tokens += count
        if n_tokens < self.options.output * 0.9:  # a text may wait for the rest of a character
            raise RuntimeError(f"{n_tokens} tokens after {last - start:.1f} s")
        self.n_tokens += n_tokens


def percentile(values, per_cent):
    return sorted(values)[max(0, -(-len(values) * per_cent // 100) - 1)]


def measure(server, options):
    clients = [Client(server, options, number) for number in range(options.clients)]
    start = time.monotonic()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seconds = time.monotonic() - start
    for client in clients:
        if client.error:
            sys.exit(f"stream_clients.py: a request failed: {client.error}")
    first = [value for client in clients for value in client.first_s]
    gaps = [value for client in clients for value in client.gaps_s]
    return {"clients": options.clients, "seconds": seconds,
            "tokens_per_s": sum(client.n_tokens for client in clients) / seconds,
            "ttft_p50_s": statistics.median(first), "ttft_p99_s": percentile(first, 99),
            "itl_p50_s": statistics.median(gaps), "itl_p99_s": percentile(gaps, 99)}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=["quire", "llama"])
    parser.add_argument("address")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=3, help="of each client")
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--output", type=int, default=64, help="tokens")
    parser.add_argument("--vocab-size", type=int, default=32000)
    parser.add_argument("--log", type=argparse.FileType("w"), default="/dev/null",
                        help="what the server says")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    server = {"quire": Quire, "llama": Llama}[options.kind](options.address)
    process, start_s = start(server, options.command, options.log)
    try:
        figures = {"start_s": start_s, **measure(server, options),
                   "resident_bytes": resident_bytes(process.pid)}
    finally:
        process.terminate()
        process.wait()
    print(json.dumps(figures, indent=1))


main()
