"""Models without a checkpoint: random weights in the shapes of a config.json, the same each time."""
import json
import subprocess

import pytest
from conftest import BUILD, MODEL, Result, inference, request

CONFIG = MODEL / "config.json"
IDS = list(b"abc")


def generate(model, *arguments):
    return subprocess.run([BUILD / "quire", "generate", "--model", model, "--prompt", "abc", "--json",
                           "--max-tokens", "12", "--temperature", "0", *arguments],
                          capture_output=True, timeout=60)


def output_of(result):
    """The ids, and their log-probability: what can be told from it is told by no other weights."""
    assert result.returncode == 0, result.stderr
    output = json.loads(result.stdout)
    return output["ids"], output["cumulative_logprob"]


def test_the_same_weights_in_every_process_and_on_every_path():
    alone = output_of(generate(f"synthetic:{CONFIG}"))
    assert len(alone[0]) == 12
    assert output_of(generate(f"synthetic:{CONFIG}", "--threads", "1", "--isa", "scalar")) == alone
    assert output_of(generate(f"synthetic:{MODEL},f32")) == alone  # its torch_dtype, by directory
    assert output_of(generate(f"synthetic:{MODEL},bf16")) != alone


def test_a_server_gives_the_ids_that_one_engine_gives(start_server):
    server = start_server(model=f"synthetic:{CONFIG}")
    greedy = inference.SamplingOptions(temperature=0)
    result = Result(server.inference.Generate(request(ids=IDS, max_tokens=12, sampling=greedy)))
    ids, _ = output_of(generate(f"synthetic:{CONFIG}"))
    assert result.ids == ids


@pytest.mark.parametrize("model, message", [
    ("synthetic:/nowhere.json", b"/nowhere.json: No such file"),
    (f"synthetic:{CONFIG},q3", b'not "q3"'),
    ("synthetic:", b"CONFIG.json"),
])
def test_a_wrong_name_is_refused_in_words(model, message):
    result = generate(model)
    assert result.returncode != 0
    assert message in result.stderr
