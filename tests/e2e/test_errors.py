"""Requests that must fail: the status, the google.rpc details, and that nothing is left behind."""
import math
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from conftest import Result, failure, inference, read_details, request

GENERATE = "/quire.v1.InferenceService/Generate"


def with_sampling(**fields):
    return request("Once", sampling=inference.SamplingOptions(**fields))


def with_stopping(**fields):
    return request("Once", stopping=inference.StoppingOptions(**fields))


BAD_FIELDS = {
    "no prompt": (request(), "prompt"),
    "empty text": (request("", add_bos=False), "prompt"),
    "no ids": (inference.GenerateRequest(token_ids=inference.TokenIds()), "prompt"),
    "id out of range": (request(ids=[1, 1 << 20]), "prompt"),
    "huge id": (request(ids=[0xFFFFFFFF]), "token_ids"),
    "prompt too long": (request(ids=[1] * 20000), "prompt"),
    "text too long": (request("word " * 700000), "text"),
    "long request id": (request("Once", request_id="x" * 64), "request_id"),
    "temperature NaN": (with_sampling(temperature=math.nan), "sampling.temperature"),
    "temperature infinite": (with_sampling(temperature=math.inf), "sampling.temperature"),
    "temperature below": (with_sampling(temperature=-0.5), "sampling.temperature"),
    "top_k": (with_sampling(top_k=1 << 31), "sampling.top_k"),
    "top_p zero": (with_sampling(top_p=0), "sampling.top_p"),
    "top_p NaN": (with_sampling(top_p=math.nan), "sampling.top_p"),
    "top_p above": (with_sampling(top_p=1.5), "sampling.top_p"),
    "min_p below": (with_sampling(min_p=-1), "sampling.min_p"),
    "repetition": (with_sampling(repetition_penalty=0), "sampling.repetition_penalty"),
    "presence": (with_sampling(presence_penalty=3), "sampling.presence_penalty"),
    "frequency NaN": (with_sampling(frequency_penalty=math.nan), "sampling.frequency_penalty"),
    "bias": (with_sampling(logit_bias={3: 101.0}), "sampling.logit_bias"),
    "bias NaN": (with_sampling(logit_bias={3: math.nan}), "sampling.logit_bias"),
    "bias id": (with_sampling(logit_bias={1 << 20: 1.0}), "sampling.logit_bias"),
    "too many biases": (with_sampling(logit_bias={i: 0.0 for i in range(1025)}),
                        "sampling.logit_bias"),
    "logprobs": (with_sampling(logprobs=21), "sampling.logprobs"),
    "preset": (with_sampling(preset=99), "sampling.preset"),
    "nothing to do": (with_stopping(max_tokens=0), "stopping.max_tokens"),
    "min above max": (with_stopping(max_tokens=2, min_tokens=3), "stopping.min_tokens"),
    "empty stop": (with_stopping(stop=[""]), "stopping.stop"),
    "long stop": (with_stopping(stop=["x" * 257]), "stopping.stop"),
    "many stops": (with_stopping(stop=["x"] * 17), "stopping.stop"),
    "stop with NUL": (with_stopping(stop=["a\0b"]), "stopping.stop"),
    "stop id": (with_stopping(stop_token_ids=[1 << 20]), "stopping.stop_token_ids"),
    "many stop ids": (with_stopping(stop_token_ids=[1] * 65), "stopping.stop_token_ids"),
}


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_bad_field(server, name):
    message, field = BAD_FIELDS[name]
    error = failure(lambda: server.inference.Generate(message))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error.details()
    assert error.reason == "INVALID_FIELD"
    violations = error.details_by_type["BadRequest"].field_violations
    assert [v.field for v in violations] == [field]
    assert violations[0].description == error.details()
    server.wait_until_empty()


def raw_call(server, method=GENERATE):
    return server.channel.unary_stream(method, request_serializer=lambda m: m,
                                       response_deserializer=lambda m: m)


def test_invalid_utf8(server):
    text = b"good \xff\xfe bad"
    raw = b"\x12" + bytes([len(text)]) + text  # field 2, text
    error = failure(lambda: raw_call(server)(raw))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details_by_type["BadRequest"].field_violations[0].field == "text"
    raw = b"\x0a" + bytes([len(text)]) + text  # of TokenizeRequest too
    error = failure(lambda: raw_call(server, "/quire.v1.InferenceService/Tokenize")(raw))
    assert error.details_by_type["BadRequest"].field_violations[0].field == "text"


@pytest.mark.parametrize("garbage", [
    b"\xff" * 40, b"\x12\x7fshort", b"\x0a", b"\x00\x01\x02", bytes(range(256)),
    b"\x32\x80\xea\x30" + b"\x4a\x00" * 400000,  # few bytes, much memory
])
def test_garbage(server, garbage):
    error = failure(lambda: raw_call(server)(garbage))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason in ("MALFORMED_MESSAGE", "INVALID_FIELD")


def test_no_message(server):
    call = server.channel.stream_stream(GENERATE, request_serializer=lambda m: m,
                                        response_deserializer=lambda m: m)
    error = failure(lambda: call(iter(())))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "MISSING_MESSAGE"


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_message_too_large(server, compression):
    """Also when it is small until it is unpacked."""
    message = request("a" * (5 << 20))
    error = failure(lambda: server.inference.Generate(message, compression=compression))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", ["/quire.v1.InferenceService/Nothing", "/no.Such/Method"])
def test_unknown_method(server, method):
    error = failure(lambda: raw_call(server, method)(b""))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED
    assert error.reason == "UNKNOWN_METHOD"
    assert method in error.details()


def test_detokenize_bad_id(server):
    def detokenize():
        server.inference.Detokenize(inference.DetokenizeRequest(token_ids=[1 << 20]))

    error = failure(detokenize)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details_by_type["BadRequest"].field_violations[0].field == "token_ids"


def test_queue_full(start_server):
    """Of many at one time some are told when to come again; the others are served."""
    server = start_server("--max-running", "1", "--max-queue", "2")

    def run(_):
        try:
            return Result(server.inference.Generate(request("Once", max_tokens=200)))
        except grpc.RpcError as error:
            return error

    with ThreadPoolExecutor(50) as pool:
        outcomes = list(pool.map(run, range(50)))
    refused = [o for o in outcomes if isinstance(o, grpc.RpcError)]
    assert 1 <= len(refused) <= 47
    for error in map(read_details, refused):
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.reason == "QUEUE_FULL"
        delay = error.details_by_type["RetryInfo"].retry_delay.ToTimedelta().total_seconds()
        assert 0 < delay <= 60
        assert error.details_by_type["QuotaFailure"].violations[0].subject == "queue"
    assert server.wait_until_empty().requests.rejected == len(refused)
    list(server.inference.Generate(request("Once", max_tokens=3)))  # and now it is let in
    server.stop()
