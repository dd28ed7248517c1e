"""A server as a child process, quire serve or llama.cpp's llama-server: start, requests, memory, stop.

Both kinds have the same functions, so that stream_clients.py need not know which one it measures.
For Quire, grpcio and grpcio-tools are needed (bench/requirements.txt).
"""
import http.client
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
START_LIMIT_S = 300
REQUEST_LIMIT_S = 600
STOP_LIMIT_S = 60


class ServerError(Exception):
    pass


class Quire:
    def __init__(self, port):
        import grpc
        import grpc_tools
        from grpc_tools import protoc

        with tempfile.TemporaryDirectory(prefix="quire-stubs-") as stubs:
            protos = [str(path) for path in sorted((ROOT / "proto/quire/v1").glob("*.proto"))]
            include = pathlib.Path(grpc_tools.__file__).parent / "_proto"
            if protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"-I{include}",
                            f"--python_out={stubs}", f"--grpc_python_out={stubs}", *protos]) != 0:
                raise ServerError("the stubs of quire.v1 cannot be made")
            sys.path.insert(0, stubs)
            from quire.v1 import inference_pb2, inference_pb2_grpc
            sys.path.remove(stubs)

        self.messages = inference_pb2
        channel = grpc.insecure_channel(f"{HOST}:{port}")
        self.service = inference_pb2_grpc.InferenceServiceStub(channel)

    def wait_ready(self, process):
        """It prints a line when it accepts calls."""
        return process.stdout.readline().startswith(b"ready ")

    def stream(self, ids, n_output):
        """Yields the number of tokens of each message."""
        request = self.messages.GenerateRequest()
        request.token_ids.ids.extend(ids)
        request.sampling.temperature = 0
        request.stopping.max_tokens = n_output
        request.stopping.ignore_eos = True
        for message in self.service.Generate(request, timeout=REQUEST_LIMIT_S):
            if message.token_ids:
                yield len(message.token_ids)


class Llama:
    POLL_S = 0.002

    def __init__(self, port):
        self.port = port

    def healthy(self):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait_ready(self, process):
        """It listens before it has loaded the model, and says 503 until then."""
        while process.poll() is None:
            if self.healthy():
                return True
            time.sleep(self.POLL_S)
        return False

    def stream(self, ids, n_output):
        body = {"prompt": ids, "n_predict": n_output, "temperature": 0, "ignore_eos": True,
                "stream": True, "cache_prompt": False, "return_tokens": True}
        connection = http.client.HTTPConnection(HOST, self.port, timeout=REQUEST_LIMIT_S)
        connection.request("POST", "/completion", json.dumps(body),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise ServerError(f"{response.status} {response.read(500)!r}")
        for line in response:
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                if not event.get("stop"):
                    yield len(event.get("tokens") or [0])
        connection.close()


class Server:
    """Of a COMMAND in which {port} stands for the port that it gets, any free one."""

    def __init__(self, kind, command, log_path):
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        self.command = [word.replace("{port}", str(port)) for word in command]
        self.log_path = pathlib.Path(log_path)
        self.peer = {"quire": Quire, "llama": Llama}[kind](port)
        self.process = None
        self.start_ns = 0

    def start(self):
        """Returns the seconds from the process's start until it can take requests."""
        with open(self.log_path, "wb") as log:
            self.start_ns = time.monotonic_ns()
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stderr=log,
                                            stdout=subprocess.PIPE if isinstance(self.peer, Quire)
                                            else log)
        watchdog = threading.Timer(START_LIMIT_S, self.process.kill)
        watchdog.start()
        is_ready = self.peer.wait_ready(self.process)
        seconds = (time.monotonic_ns() - self.start_ns) * 1e-9
        watchdog.cancel()
        if not is_ready:
            raise ServerError(f"{self.command[0]} did not get ready; {self.last_words()}")
        return seconds

    def last_words(self):
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        return f"its last words in {self.log_path}: " + " | ".join(lines[-3:])

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines()
                    if line.startswith("VmRSS"))

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
