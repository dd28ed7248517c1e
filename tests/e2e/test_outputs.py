"""Several outputs a request, beam search, priorities, tenants, salts and the prefix cache, as a
client sees them."""
import json
import subprocess

import grpc
import pytest
from conftest import BUILD, MODEL, Outputs, Result, failure, inference, request

PROMPT = "Once upon a time"


def sampled(max_tokens=40, seed=7, **fields):
    message = request(PROMPT, max_tokens=max_tokens, **fields)
    message.sampling.seed = seed
    message.sampling.logprobs = 0
    return message


def alone(server, seed, max_tokens=40):
    return Result(server.inference.Generate(sampled(max_tokens, seed)))


def mean_logprob(output):
    return output.finish.cumulative_logprob / len(output.ids)


def test_n(server):
    """Each output is the request alone with the seed that its end tells."""
    outputs = Outputs(server.inference.Generate(sampled(n=5)), 5)
    assert outputs[0].finish.seed == 7
    assert len({o.finish.seed for o in outputs}) == 5
    for output in outputs:
        single = alone(server, output.finish.seed)
        assert output.ids == single.ids
        assert output.text == single.text
        assert output.logprobs == [e.logprob for m in single.messages for e in m.logprobs]
        assert output.finish.cumulative_logprob == pytest.approx(sum(output.logprobs))
        assert output.finish.usage.output_tokens == 40
    server.wait_until_empty()


def test_outputs_share_the_prompt(server):
    ids = [1] + [261 + i % 200 for i in range(160)]
    message = request(ids=ids, max_tokens=3, n=8)
    before = server.stats().kv
    outputs = Outputs(server.inference.Generate(message), 8)
    after = server.stats().kv
    assert all(o.finish.usage.prompt_tokens == 161 for o in outputs)
    assert after.copies > before.copies  # the page in which the outputs begin to differ
    assert after.peak_pages < 8 * 11


def test_best_of(server):
    everything = Outputs(server.inference.Generate(sampled(n=6)), 6)
    best = Outputs(server.inference.Generate(sampled(n=2, best_of=6)), 2)
    ranked = sorted(everything, key=mean_logprob, reverse=True)
    assert [o.ids for o in best] == [o.ids for o in ranked[:2]]
    assert [o.finish.seed for o in best] == [o.finish.seed for o in ranked[:2]]


def test_beam_search(server):
    message = request(PROMPT, max_tokens=30, n=3)
    message.beam_search.beam_width = 4
    beams = Outputs(server.inference.Generate(message), 3)
    scores = [o.finish.cumulative_logprob / len(o.ids) for o in beams]
    assert scores == sorted(scores, reverse=True)
    assert len({tuple(o.ids) for o in beams}) == 3
    greedy = request(PROMPT, max_tokens=30)
    greedy.sampling.temperature = 0
    greedy = Result(server.inference.Generate(greedy))
    assert beams[0].finish.cumulative_logprob >= greedy.finish.cumulative_logprob
    message.beam_search.beam_width = 1
    message.n = 1
    assert Result(server.inference.Generate(message)).ids == greedy.ids


def test_a_long_withheld_output_to_a_slow_reader(server):
    """It takes no KV memory any more, and comes out whole."""
    message = request("Once", max_tokens=450, stalls=True)
    message.beam_search.beam_width = 2
    expected = Result(server.inference.Generate(message))
    slow = server.inference.Generate(message)
    server.wait_until(lambda s: s.requests.running == 0 and s.requests.waiting == 0
                      and s.requests.accepted > 0 and s.kv.used_pages == 0)
    assert Result(slow).ids == expected.ids


BAD_FIELDS = {
    "n zero": (dict(n=0), "n"),
    "n large": (dict(n=65), "n"),
    "best_of below n": (dict(n=3, best_of=2), "best_of"),
    "best_of zero": (dict(best_of=0), "best_of"),
    "beam width": (dict(beam_search=inference.BeamSearch()), "beam_search.beam_width"),
    "beam width large": (dict(beam_search=inference.BeamSearch(beam_width=65)),
                         "beam_search.beam_width"),
    "length penalty": (dict(beam_search=inference.BeamSearch(beam_width=2, length_penalty=99)),
                       "beam_search.length_penalty"),
    "n above beams": (dict(n=3, beam_search=inference.BeamSearch(beam_width=2)), "n"),
    "best_of with beams": (dict(best_of=3, beam_search=inference.BeamSearch(beam_width=2)),
                           "best_of"),
    "priority": (dict(priority=11), "priority"),
    "tenant": (dict(tenant="x" * 64), "tenant"),
    "salt": (dict(cache_salt="x" * 65), "cache_salt"),
    "objective": (dict(first_token_objective=dict(seconds=0)), "first_token_objective"),
}


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_bad_field(server, name):
    fields, field = BAD_FIELDS[name]
    error = failure(lambda: server.inference.Generate(request(PROMPT, max_tokens=5, **fields)))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error.details()
    assert [v.field for v in error.details_by_type["BadRequest"].field_violations] == [field]


def test_beams_do_not_sample(server):
    message = request(PROMPT, max_tokens=5)
    message.beam_search.beam_width = 2
    message.sampling.top_p = 0.5
    error = failure(lambda: server.inference.Generate(message))
    assert error.details_by_type["BadRequest"].field_violations[0].field == "sampling.top_p"


def test_prefix_cache_and_salt(start_server):
    """The second of two equal prompts finds it; one with another salt does not."""
    server = start_server()
    ids = [1] + [261 + i % 200 for i in range(99)]

    def usage(salt):
        message = request(ids=ids, max_tokens=4, cache_salt=salt)
        message.sampling.temperature = 0
        result = Result(server.inference.Generate(message))
        return result.ids, result.finish.usage

    first_ids, first = usage("a")
    second_ids, second = usage("a")
    other_ids, other = usage("b")
    assert first_ids == second_ids == other_ids
    assert (first.cached_prompt_tokens, first.uncached_prompt_tokens) == (0, 100)
    assert second.cached_prompt_tokens >= 96
    assert second.cached_prompt_tokens + second.uncached_prompt_tokens == 100
    assert (other.cached_prompt_tokens, other.uncached_prompt_tokens) == (0, 100)
    stats = server.wait_until_empty().kv
    assert stats.hit_tokens >= second.cached_prompt_tokens
    assert stats.cached_pages > 0
    server.stop()
    server = start_server("--prefix-cache", "off")
    usage("a")
    assert usage("a")[1].cached_prompt_tokens == 0
    server.stop()


def test_priority(start_server):
    """Of those that wait for the only place, the one with the highest priority is next."""
    server = start_server("--max-running", "1", "--kv-pages", "64")

    def start(priority):
        message = request("Once", max_tokens=500, priority=priority)
        message.stopping.ignore_eos = True
        return server.inference.Generate(message)

    def try_once():
        """False when the first had ended before the others were there."""
        before = server.stats().requests
        calls = [start(10)]  # before the others: calls may overtake each other on their way
        server.wait_until(lambda s: s.requests.accepted == before.accepted + 1)
        calls += [start(priority) for priority in (-10, 0, 5)]
        stats = server.wait_until(lambda s: s.requests.accepted == before.accepted + 4).requests
        queued = [Result(call).finish.timings.queue_time.ToTimedelta() for call in calls]
        if stats.finished_length > before.finished_length or stats.running == 0:
            return False
        first, low, middle, high = queued
        assert first < high < middle < low
        return True

    assert any(try_once() for _ in range(10))
    server.stop()


def test_tenant_quota(start_server):
    """A request that its tenant can never hold is refused; the others wait for their turn."""
    server = start_server("--kv-pages", "40", "--tenant", "small=1,25%", "--tenant", "big=4")
    error = failure(lambda: server.inference.Generate(
        request("Once", max_tokens=200, tenant="small")))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.reason == "QUOTA_EXCEEDED"
    assert error.details_by_type["QuotaFailure"].violations[0].subject == "tenant"
    assert "RetryInfo" not in error.details_by_type

    def start(tenant, seed):
        message = request("Once", max_tokens=100, tenant=tenant)
        message.sampling.seed = seed
        message.stopping.ignore_eos = True
        return server.inference.Generate(message)

    calls = [start(tenant, seed) for seed in range(8) for tenant in ("small", "big", "other")]
    results = [Result(call).ids for call in calls]
    assert results == [results[i - i % 3] for i in range(len(results))]
    server.wait_until_empty()
    server.stop()


@pytest.mark.parametrize("options, words", [
    (["--tenant", "a"], "NAME=WEIGHT"), (["--tenant", "a=0"], "weight"),
    (["--tenant", "a=1,50"], "quota"), (["--swap-disk", "1MiB"], "--swap-dir"),
    (["--swap-dir", "/tmp"], "--swap-disk"), (["--swap-memory", "10"], "--swap-memory"),
    (["--swap-dir", "/no/such/folder", "--swap-disk", "1MiB"], "/no/such/folder"),
    (["--discipline", "wild"], "cost|swap|recompute|reserve"),
    (["--prefix-cache", "perhaps"], "on nor off"),
])
def test_bad_options(options, words):
    done = subprocess.run([BUILD / "quire", "serve", "--model", MODEL, "--listen", "127.0.0.1:0",
                           *options], capture_output=True, text=True, timeout=30)
    assert done.returncode in (1, 2)
    assert words in done.stderr


def test_cli_with_several_outputs(server):
    """In-process and by a server, the same JSON but for the times."""
    command = [BUILD / "quire", "generate", "--prompt", PROMPT, "--max-tokens", "12", "--seed", "5",
               "--json"]
    where = (["--addr", server.address], ["--model", MODEL])

    def run(*options):
        results = []
        for place in where:
            done = subprocess.run([*command, *place, *options], capture_output=True, text=True,
                                  timeout=30, check=True)
            results.append(json.loads(done.stdout))
        for result in results:
            for output in result.get("outputs", [result]):
                del output["timings"], output["usage"]
        assert results[0] == results[1]
        return results[0]

    single = run()
    assert list(single)[:4] == ["prompt_ids", "ids", "text", "finish_reason"]
    assert "outputs" not in single
    several = run("--n", "3")
    assert several["outputs"][0]["ids"] == single["ids"]
    assert len(several["outputs"]) == 3
    best = run("--n", "1", "--best-of", "3")
    assert best["ids"] in [o["ids"] for o in several["outputs"]]
    beams = run("--n", "2", "--beam-width", "3", "--length-penalty", "0.5", "--early-stopping")
    assert len(beams["outputs"]) == 2
