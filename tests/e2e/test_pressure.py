"""A server with ten times more requests than memory: all finish, with the ids that they have alone."""
import json

import pytest
from conftest import MODEL, Outputs, Server, inference, request

REFERENCE = MODEL.parent / "reference.json"
MANY = 60


@pytest.fixture(scope="module")
def story():
    return [1] + json.loads(REFERENCE.read_text())["full_context_greedy"]["ids"]


def make(story, i):
    """Number i: prompts that begin alike, many lengths, forks and beams, tenants and priorities."""
    message = request(ids=story[:1 + 23 * i % 140], max_tokens=20 + 29 * i % 120,
                      priority=i % 5 - 2, tenant=("", "a", "b")[i % 3])
    message.sampling.seed = i
    message.sampling.logprobs = 20 if i % 4 == 1 else 1  # a message that fills the way to it
    if i % 6 == 2:
        message.n = 3
    elif i % 6 == 4:
        message.beam_search.beam_width = 3
        message.n = 2
    message.stopping.ignore_eos = i % 6 != 4
    return message


def read(call, message):
    return [(o.ids, o.text, o.logprobs) for o in Outputs(call, max(message.n, 1))]


@pytest.fixture(scope="module")
def alone(story):
    server = Server("--kv-pages", "512", "--prefix-cache", "off")
    results = [read(server.inference.Generate(make(story, i)), make(story, i)) for i in range(MANY)]
    server.wait_until_empty()
    server.stop()
    return results


TIERS = {
    "memory": ["--swap-memory", "8MiB"],
    "disk": ["--swap-dir", "DIR", "--swap-disk", "8MiB"],
    "both, soon full": ["--swap-memory", "256KiB", "--swap-dir", "DIR", "--swap-disk", "256KiB"],
    "none": [],
}


@pytest.mark.parametrize("tiers", TIERS)
@pytest.mark.parametrize("discipline", ["cost", "swap", "recompute", "reserve"])
def test_everybody_finishes(start_server, story, alone, tmp_path, tiers, discipline):
    options = [str(tmp_path) if o == "DIR" else o for o in TIERS[tiers]]
    server = start_server("--kv-pages", "19", "--max-context", "304", "--max-prefill-chunk", "48",
                          "--discipline", discipline, "--tenant", "b=3", *options)
    messages = [make(story, i) for i in range(MANY)]
    channels = [server.new_channel() for _ in range(4)]
    calls = []
    for i, message in enumerate(messages):
        method = channels[i % 4].unary_stream(
            "/quire.v1.InferenceService/Generate",
            request_serializer=inference.GenerateRequest.SerializeToString,
            response_deserializer=inference.GenerateResponse.FromString)
        calls.append(method(message))
    # The last are read first: those before them wait for their readers.
    results = [read(call, message) for call, message in reversed(list(zip(calls, messages)))]
    assert results[::-1] == alone
    stats = server.wait_until_empty()
    assert stats.requests.failed == stats.requests.cancelled == 0
    if discipline != "reserve":
        assert stats.requests.preemptions > 0
    assert {t.name for t in stats.kv.tiers} == {
        name for name, option in (("host", "--swap-memory"), ("disk", "--swap-disk"))
        if option in options}
    if discipline == "swap" and tiers != "none":
        assert sum(t.pages_out for t in stats.kv.tiers) > 0
        assert sum(t.pages_in for t in stats.kv.tiers) > 0
    server.stop()
