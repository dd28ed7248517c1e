#!/usr/bin/env python3
"""Clients that stream from a server at one time: quire serve, or llama.cpp's llama-server.

    bench/stream_clients.py quire|llama [OPTION...] -- COMMAND OF THE SERVER...

Starts the server ({port} in its command is replaced by a free port), waits until it is ready, lets
each client send its requests one after the other, all with prompts of their own, and stops it.
Prints one object of JSON. Both kinds have the same client but for the protocol; what the clients
took of the processor is told, as it is missing to the server.
"""
import argparse
import json
import random
import signal
import statistics
import sys
import threading
import time

import peer_server

FIRST_WORD = 259  # of the tokenizer that make_gguf.py writes, after the bytes


class Client(threading.Thread):
    def __init__(self, server, options, number):
        super().__init__(daemon=True)
        self.server, self.options, self.number = server, options, number
        self.first_ns = 0
        self.ttft_s, self.gaps_s, self.n_tokens, self.error = [], [], 0, None

    def run(self):
        chance = random.Random(self.number)
        try:
            for _ in range(self.options.requests):
                self.request([chance.randrange(FIRST_WORD, self.options.vocab_size)
                              for _ in range(self.options.prompt)])
        except Exception as error:  # whatever it is, the figures are worth nothing
            self.error = error

    def request(self, ids):
        last = start = time.monotonic_ns()
        n_tokens = 0
        for count in self.server.peer.stream(ids, self.options.output):
            now = time.monotonic_ns()
            self.first_ns = self.first_ns or now
            (self.gaps_s if n_tokens else self.ttft_s).append((now - last) * 1e-9)
            last = now
            n_tokens += count
        if n_tokens < self.options.output * 0.9:  # a text may wait for the rest of a character
            raise peer_server.ServerError(f"{n_tokens} tokens after {(last - start) * 1e-9:.1f} s")
        self.n_tokens += n_tokens


def percentile(values, per_cent):
    return sorted(values)[max(0, -(-len(values) * per_cent // 100) - 1)]


def measure(server, options):
    clients = [Client(server, options, number) for number in range(options.clients)]
    start, start_cpu = time.monotonic(), time.process_time()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seconds = time.monotonic() - start
    for client in clients:
        if client.error:
            raise peer_server.ServerError(f"a request failed: {client.error}; {server.last_words()}")
    ttft = [value for client in clients for value in client.ttft_s]
    gaps = [value for client in clients for value in client.gaps_s]
    if not gaps:
        raise peer_server.ServerError("every answer came in one message: ask for more tokens")
    first_ns = min(client.first_ns for client in clients)
    return {"clients": options.clients, "requests": len(ttft), "seconds": seconds,
            "tokens_per_s": sum(client.n_tokens for client in clients) / seconds,
            "first_token_s": (first_ns - server.start_ns) * 1e-9,
            "ttft_p50_s": statistics.median(ttft), "ttft_p99_s": percentile(ttft, 99),
            "itl_p50_s": statistics.median(gaps), "itl_p99_s": percentile(gaps, 99),
            "client_cpu_s": time.process_time() - start_cpu}


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=["quire", "llama"])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=3, help="of each client")
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--output", type=int, default=64, help="tokens, at least 2")
    parser.add_argument("--vocab-size", type=int, default=32000)
    parser.add_argument("--log", default="/dev/null", help="what the server says")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def main():
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the server ends too
    server = None
    try:
        server = peer_server.Server(options.kind, options.command, options.log)
        figures = {"start_s": server.start(), **measure(server, options),
                   "resident_bytes": server.resident_bytes()}
    except (peer_server.ServerError, OSError) as error:
        sys.exit(f"stream_clients.py: {error}")
    finally:
        if server is not None:
            server.stop()
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
