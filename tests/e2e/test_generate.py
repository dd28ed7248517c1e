"""Generate, Tokenize, Detokenize and ControlService as a client sees them."""
from concurrent.futures import ThreadPoolExecutor

import grpc
from conftest import Result, control, inference, request

PROMPT = "Once upon a time"


def tokenize(server, text, **options):
    return list(server.inference.Tokenize(
        inference.TokenizeRequest(text=text, **options)).token_ids)


def detokenize(server, ids, **options):
    return server.inference.Detokenize(
        inference.DetokenizeRequest(token_ids=ids, **options)).text


def generate(server, *args, seed=7, **kwargs):
    message = request(*args, **kwargs)
    if seed is not None:
        message.sampling.seed = seed
    return Result(server.inference.Generate(message))


def test_text_in(server):
    result = generate(server, PROMPT, max_tokens=40)
    assert len(result.ids) == 40
    assert result.finish.reason == inference.FINISH_REASON_LENGTH
    assert result.finish.WhichOneof("stopped_by") is None
    prompt_ids = tokenize(server, PROMPT)
    assert detokenize(server, prompt_ids + result.ids) == PROMPT + result.text
    usage = result.finish.usage
    assert usage.prompt_tokens == len(prompt_ids)
    assert usage.output_tokens == 40
    assert usage.kv_pages == -(-(len(prompt_ids) + 39) // 16)
    timings = result.finish.timings
    queue, first, total = (t.ToTimedelta().total_seconds() for t in (
        timings.queue_time, timings.time_to_first_token, timings.total_time))
    assert 0 <= queue <= first <= total < 60


def test_ids_in_equal_text_in(server):
    by_text = generate(server, PROMPT, max_tokens=20)
    by_ids = generate(server, ids=tokenize(server, PROMPT), max_tokens=20)
    assert by_ids.ids == by_text.ids
    assert by_ids.text == by_text.text


def test_seed(server):
    first = generate(server, PROMPT, max_tokens=40, seed=1)
    assert generate(server, PROMPT, max_tokens=40, seed=1).ids == first.ids
    assert generate(server, PROMPT, max_tokens=40, seed=2).ids != first.ids
    assert first.finish.seed == 1


def test_seed_that_is_drawn_is_reported(server):
    drawn = generate(server, PROMPT, max_tokens=40, seed=None)
    again = generate(server, PROMPT, max_tokens=40, seed=drawn.finish.seed)
    assert again.ids == drawn.ids
    assert generate(server, PROMPT, max_tokens=40, seed=None).finish.seed != drawn.finish.seed


def test_zero_is_not_unset(server):
    """A temperature of 0 is greedy; one that is left out is 1."""
    greedy = request(PROMPT, max_tokens=40)
    greedy.sampling.temperature = 0
    results = []
    for seed in (1, 2):
        greedy.sampling.seed = seed
        results.append(Result(server.inference.Generate(greedy)).ids)
    assert results[0] == results[1]


def test_stop_token(server):
    ids = generate(server, PROMPT, max_tokens=40).ids
    message = request(PROMPT, max_tokens=40)
    message.sampling.seed = 7
    message.stopping.stop_token_ids.append(ids[9])
    result = Result(server.inference.Generate(message))
    end = ids.index(ids[9])
    assert result.ids == ids[:end + 1]
    assert result.finish.reason == inference.FINISH_REASON_STOP
    assert result.finish.stop_token_id == ids[9]


def test_stop_string(server):
    text = generate(server, PROMPT, max_tokens=40).text
    stop = text[12]
    message = request(PROMPT, max_tokens=40)
    message.sampling.seed = 7
    message.stopping.stop.extend(["\u2603", stop])
    result = Result(server.inference.Generate(message))
    assert result.text == text[:text.index(stop)]
    assert result.finish.reason == inference.FINISH_REASON_STOP
    assert result.finish.stop_index == 1
    message.stopping.include_stop_in_output = True
    result = Result(server.inference.Generate(message))
    assert result.text == text[:text.index(stop)] + stop


def test_logprobs(server):
    message = request(PROMPT, max_tokens=10)
    message.sampling.logprobs = 3
    result = Result(server.inference.Generate(message))
    logprobs = [entry for m in result.messages for entry in m.logprobs]
    assert [entry.token_id for entry in logprobs] == result.ids
    for entry in logprobs:
        assert entry.logprob <= 0
        assert len(entry.top) == 3
        assert sorted((t.logprob for t in entry.top), reverse=True) == [
            t.logprob for t in entry.top]
    message.sampling.logprobs = 0
    result = Result(server.inference.Generate(message))
    assert [len(e.top) for m in result.messages for e in m.logprobs] == [0] * 10
    message.sampling.ClearField("logprobs")
    result = Result(server.inference.Generate(message))
    assert all(not m.logprobs for m in result.messages)


def test_prompt_logprobs_without_output(server):
    prompt_ids = tokenize(server, PROMPT)
    message = request(ids=prompt_ids, max_tokens=0)
    message.output.prompt_logprobs = True
    result = Result(server.inference.Generate(message))
    scored = [e.token_id for m in result.messages for e in m.prompt_logprobs]
    assert scored == prompt_ids[1:]
    assert result.ids == []
    assert result.finish.usage.output_tokens == 0
    assert not result.finish.timings.HasField("time_to_first_token")


def test_prompt_logprobs_of_a_long_prompt_with_output(server):
    prompt_ids = tokenize(server, PROMPT) * 60
    prompt_ids = prompt_ids[:300]
    message = request(ids=prompt_ids, max_tokens=5)
    message.sampling.logprobs = 20
    message.output.prompt_logprobs = True
    result = Result(server.inference.Generate(message))
    scored = [e.token_id for m in result.messages for e in m.prompt_logprobs]
    assert scored == prompt_ids[1:]
    assert len(result.ids) == 5


def test_preset_and_override(server):
    message = request(PROMPT, max_tokens=20)
    message.sampling.preset = inference.SAMPLING_PRESET_CREATIVE
    message.sampling.temperature = 0
    greedy = request(PROMPT, max_tokens=20)
    greedy.sampling.temperature = 0
    assert Result(server.inference.Generate(message)).ids == Result(
        server.inference.Generate(greedy)).ids


def test_tokenize(server):
    bos = server.control.GetModelInfo(control.GetModelInfoRequest()).bos_token_id
    ids = tokenize(server, "Hello, world")
    assert ids[0] == bos
    assert tokenize(server, "Hello, world", add_bos=False) == ids[1:]
    assert detokenize(server, ids) == "Hello, world"
    assert tokenize(server, "", add_bos=False) == []
    assert detokenize(server, []) == ""


def test_text_may_hold_any_character(server):
    text = "zero \0 snow\u2603man \U0001f600 end"
    assert detokenize(server, tokenize(server, text)) == text


def test_model_info(server):
    info = server.control.GetModelInfo(control.GetModelInfoRequest())
    assert info.kv_pages == server.kv_pages == 256
    assert info.page_size == 16
    assert info.kv_bytes_per_token == 2 * info.layers * info.kv_heads * info.head_dim * 4
    assert info.max_context >= 64
    assert info.backend.startswith("cpu")
    assert info.server_version


def test_stats_count(server):
    before = server.wait_until_empty()
    result = generate(server, PROMPT, max_tokens=25)
    after = server.wait_until_empty()
    assert after.requests.accepted == before.requests.accepted + 1
    assert after.requests.finished_length == before.requests.finished_length + 1
    assert after.tokens.output == before.tokens.output + 25
    assert after.tokens.prompt == before.tokens.prompt + result.finish.usage.prompt_tokens
    assert after.kv.peak_pages >= result.finish.usage.kv_pages
    assert after.uptime.ToTimedelta() > before.uptime.ToTimedelta()


def test_unknown_fields_are_ignored(server):
    unknown = b"\xfa\x3f\x04ABCD" + b"\xf0\x3f\x05"  # fields 1023 (bytes) and 1022 (varint)
    raw = server.channel.unary_stream(
        "/quire.v1.InferenceService/Generate", request_serializer=lambda m: m,
        response_deserializer=inference.GenerateResponse.FromString)
    message = request(PROMPT, max_tokens=10)
    message.sampling.seed = 7
    assert Result(raw(unknown + message.SerializeToString() + unknown)).ids == generate(
        server, PROMPT, max_tokens=10).ids


def test_hundreds_of_streams(server):
    """300 at one time over four connections: each gets what it gets alone."""
    channels = [server.new_channel() for _ in range(4)]
    calls = [c.unary_stream("/quire.v1.InferenceService/Generate",
                            request_serializer=inference.GenerateRequest.SerializeToString,
                            response_deserializer=inference.GenerateResponse.FromString)
             for c in channels]

    def run(i):
        message = request(PROMPT, max_tokens=30)
        message.sampling.seed = i % 10
        message.stopping.ignore_eos = True
        return Result(calls[i % 4](message)).ids

    alone = [run(i) for i in range(10)]
    with ThreadPoolExecutor(300) as pool:
        together = list(pool.map(run, range(300)))
    assert together == [alone[i % 10] for i in range(300)]
    for channel in channels:
        channel.close()


def test_compressed_request(server):
    message = request(PROMPT, max_tokens=5)
    message.sampling.seed = 7
    stream = server.inference.Generate(message, compression=grpc.Compression.Gzip)
    assert Result(stream).ids == generate(server, PROMPT, max_tokens=5).ids
