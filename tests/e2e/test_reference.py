"""The service against the published and computed outputs of stories260k, and against itself
under memory pressure: what an independent client receives is compared with `==`."""
import json

import pytest
from conftest import MODEL, Result, request

REFERENCE = MODEL.parent / "reference.json"
PUBLISHED = MODEL.parent / "expected_200steps_t0.txt"


@pytest.fixture(scope="module")
def reference():
    return json.loads(REFERENCE.read_text())


def greedy(server, max_tokens, **prompt):
    message = request(max_tokens=max_tokens, **prompt)
    message.sampling.temperature = 0
    message.sampling.logprobs = 0
    message.stopping.ignore_eos = True
    return server.inference.Generate(message)


def logprobs(result):
    return [entry.logprob for m in result.messages for entry in m.logprobs]


def test_published_text(server):
    assert Result(greedy(server, 200, ids=[1])).text == PUBLISHED.read_text().rstrip("\n")


def test_every_case(server, reference):
    for case in reference["cases"]:
        result = Result(greedy(server, len(case["greedy_ids"]), text=case["prompt"]))
        assert result.finish.usage.prompt_tokens == len(case["prompt_ids"])
        assert result.ids == case["greedy_ids"]


def test_the_same_from_a_gguf_file(start_server, reference):
    """The file alone: weights, settings and vocabulary are in it."""
    server = start_server("--kv-pages", "64", model=MODEL.parent / "stories260K.gguf")
    assert Result(greedy(server, 200, ids=[1])).text == PUBLISHED.read_text().rstrip("\n")
    for case in reference["cases"]:
        result = Result(greedy(server, len(case["greedy_ids"]), text=case["prompt"]))
        assert result.finish.usage.prompt_tokens == len(case["prompt_ids"])
        assert result.ids == case["greedy_ids"]
    server.stop()


def test_preempted_requests_get_the_same(server, start_server, reference):
    """A pool of one context's pages for 24 streams: they preempt each other, nobody notices."""
    story = [1] + reference["full_context_greedy"]["ids"]

    def generate(at):
        def start(i):
            message = request(ids=story[:1 + 9 * i], max_tokens=60 + i)
            message.sampling.seed = i
            message.sampling.logprobs = 1
            message.stopping.ignore_eos = True
            return at.inference.Generate(message)
        return start

    alone = [Result(generate(server)(i)) for i in range(24)]
    small = start_server("--kv-pages", "32", "--max-prefill-chunk", "7")
    streams = [generate(small)(i) for i in range(24)]
    crowded = [Result(stream) for stream in streams]
    for a, b in zip(alone, crowded):
        assert a.ids == b.ids
        assert a.text == b.text
        assert logprobs(a) == logprobs(b)
    assert sum(r.finish.usage.preemptions for r in crowded) > 0
    small.wait_until_empty()
    small.stop()
