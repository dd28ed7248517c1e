"""What the end-to-end tests share: generated stubs, servers to talk to, and short-cuts.

The client is grpcio, which shares no code with the server's side of the protocol.
"""
import fcntl
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import grpc
import pytest

BUILD = pathlib.Path(os.environ["QUIRE_BUILD_DIR"])
SOURCE = pathlib.Path(os.environ["QUIRE_SOURCE_DIR"])
MODEL = pathlib.Path(os.environ["QUIRE_TESTDATA"]) / "models/stories260k/hf"
STUBS = BUILD / "e2e-stubs"


def generate_stubs():
    """Python code of quire.v1, made anew when a .proto file has changed."""
    import grpc_tools
    from grpc_tools import protoc

    includes = [SOURCE / "proto", pathlib.Path(grpc_tools.__file__).parent / "_proto"]
    protos = sorted((SOURCE / "proto/quire/v1").glob("*.proto"))
    STUBS.mkdir(parents=True, exist_ok=True)
    with open(STUBS / "lock", "w") as lock:  # ctest runs several files at one time
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = [STUBS / "quire/v1" / f"{p.stem}_pb2_grpc.py" for p in protos]
        if any(not m.exists() or m.stat().st_mtime < p.stat().st_mtime
               for m, p in zip(made, protos)):
            rc = protoc.main(["protoc", *(f"-I{folder}" for folder in includes),
                              f"--python_out={STUBS}", f"--grpc_python_out={STUBS}",
                              *map(str, protos)])
            assert rc == 0
    sys.path.insert(0, str(STUBS))


generate_stubs()

from quire.v1 import control_pb2 as control  # noqa: E402
from quire.v1 import control_pb2_grpc, inference_pb2_grpc  # noqa: E402
from quire.v1 import inference_pb2 as inference  # noqa: E402


class Server:
    """A `quire serve` process and clients of it."""

    def __init__(self, *options, listen="127.0.0.1:0", model=MODEL):
        command = [BUILD / "quire", "serve", "--model", model, "--listen", listen, *options]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        match = re.fullmatch(r"ready (\S+) model=(\S+) kv_pages=(\d+)\n", line)
        assert match, f"no ready line but {line!r}: {self.process.stderr.read()}"
        self.address = match[1]
        self.kv_pages = int(match[3])
        self.channels = []
        self.channel = self.new_channel()
        self.inference = inference_pb2_grpc.InferenceServiceStub(self.channel)
        self.control = control_pb2_grpc.ControlServiceStub(self.channel)

    def new_channel(self, *options):
        # Without probing for bandwidth, a stream that is not read holds 64 KiB and no more.
        options = (("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1), *options)
        channel = grpc.insecure_channel(self.address, options=options)
        self.channels.append(channel)
        return channel

    def stats(self):
        return self.control.GetStats(control.GetStatsRequest())

    def wait_until(self, condition, seconds=10):
        """Polls the server's figures until `condition` holds of them."""
        end = time.monotonic() + seconds
        while True:
            stats = self.stats()
            if condition(stats):
                return stats
            assert time.monotonic() < end, f"not within {seconds} s: {stats}"
            time.sleep(0.01)

    def wait_until_empty(self, seconds=10):
        return self.wait_until(lambda s: s.kv.used_pages == 0 and s.requests.running == 0
                               and s.requests.waiting == 0, seconds)

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self, seconds=20):
        """Exit code and log of the process that ends by itself."""
        _, log = self.process.communicate(timeout=seconds)
        return self.process.returncode, log

    def stop(self):
        for channel in self.channels:
            channel.close()
        if self.process.poll() is None:
            self.signal()
            code, log = self.wait()
            assert code == 0, log


@pytest.fixture(scope="module")
def server():
    """One server for the tests that leave it as it was."""
    server = Server("--kv-pages", "256")
    yield server
    server.wait_until_empty()
    server.stop()


@pytest.fixture
def start_server():
    servers = []

    def start(*options, **kwargs):
        servers.append(Server(*options, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()
        for channel in server.channels:
            channel.close()


def request(text=None, ids=None, max_tokens=None, stalls=False, **fields):
    """A GenerateRequest. `stalls`: more bytes than flow control lets through unread."""
    message = inference.GenerateRequest(**fields)
    if text is not None:
        message.text = text
    if ids is not None:
        message.token_ids.ids.extend(ids)
    if stalls:
        message.sampling.logprobs = 20
        message.stopping.ignore_eos = True
    if max_tokens is not None:
        message.stopping.max_tokens = max_tokens
    return message


class Result:
    """Everything that a stream said."""

    def __init__(self, stream):
        self.messages = list(stream)
        self.ids = [id for m in self.messages for id in m.token_ids]
        self.text = "".join(m.text for m in self.messages)
        self.finish = self.messages[-1].finish
        assert all(not m.HasField("finish") for m in self.messages[:-1])
        assert self.messages[-1].HasField("finish")
        assert [m.sequence for m in self.messages] == list(range(len(self.messages)))


class Output:
    """One output of a request of several."""

    def __init__(self, messages):
        self.ids = [id for m in messages for id in m.token_ids]
        self.text = "".join(m.text for m in messages)
        self.logprobs = [entry.logprob for m in messages for entry in m.logprobs]
        self.finish = messages[-1].finish
        assert [m.HasField("finish") for m in messages] == [False] * (len(messages) - 1) + [True]


class Outputs(list):
    """Everything that the stream of a request with n outputs said, by output."""

    def __init__(self, stream, n):
        messages = list(stream)
        assert [m.sequence for m in messages] == list(range(len(messages)))
        assert {m.output_index for m in messages} == set(range(n))
        super().__init__(Output([m for m in messages if m.output_index == i]) for i in range(n))


def read_details(error):
    """Adds to an RpcError what its google.rpc.Status says: `reason` and `details_by_type`."""
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    error.details_by_type = {}
    status = rpc_status.from_call(error)
    for packed in status.details if status else ():
        name = packed.TypeName().split(".")[-1]
        detail = getattr(error_details_pb2, name)()
        assert packed.Unpack(detail)
        error.details_by_type[name] = detail
    if status:
        assert error.details_by_type["ErrorInfo"].domain == "quire"
        error.reason = error.details_by_type["ErrorInfo"].reason
    return error


def failure(call):
    """The RpcError that `call()`, or reading what it returns, must end with."""
    with pytest.raises(grpc.RpcError) as caught:
        list(call())
    return read_details(caught.value)
