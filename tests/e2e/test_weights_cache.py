"""--quantize, and packed weights that are kept for the next start."""
import json
import resource
import subprocess

import pytest
from conftest import BUILD, MODEL, SOURCE, Result, inference, request

DEMO = SOURCE / "models/demo"
IDS = [5, 9, 17]


def generate(*arguments, model=DEMO, before=None):
    result = subprocess.run([BUILD / "quire", "generate", "--model", model, "--prompt", "Once upon",
                             "--json", "--max-tokens", "24", "--temperature", "0", "--backend", "cpu",
                             "--log-level", "info", *map(str, arguments)],
                            capture_output=True, text=True, timeout=60, preexec_fn=before)
    assert result.returncode == 0, result.stderr
    output = json.loads(result.stdout)
    return (output["ids"], output["cumulative_logprob"]), result.stderr


def test_the_second_start_takes_what_the_first_has_kept(tmp_path):
    for quantize in "none", "q8_0", "q4_0", "q4_K":
        plain, log = generate("--quantize", quantize)
        assert "weights_cache" not in log
        first, log = generate("--quantize", quantize, "--weights-cache", tmp_path)
        assert "weights_cache_written" in log and "weights_cache_used" not in log
        second, log = generate("--quantize", quantize, "--weights-cache", tmp_path)
        assert "weights_cache_used" in log and "weights_cache_written" not in log
        assert plain == first == second
    assert len(list(tmp_path.iterdir())) == 4  # one for each, and nothing that was in the making


def test_quantized_weights_are_others_and_the_case_does_not_matter():
    kinds = [generate("--quantize", kind)[0] for kind in ("none", "q8_0", "q4_0", "q4_K")]
    assert len(set(map(str, kinds))) == 4
    assert generate("--quantize", "q4_k")[0] == kinds[3] == generate("--quantize", "Q4_K")[0]


@pytest.mark.parametrize("at", [0, 20, 5000, -3])  # magic, key, tiles, index
def test_a_damaged_file_is_told_and_replaced(tmp_path, at):
    wanted, _ = generate("--weights-cache", tmp_path)
    file, = tmp_path.iterdir()
    whole = bytearray(file.read_bytes())
    damaged = bytearray(whole)
    damaged[at] ^= 0x10
    file.write_bytes(damaged)
    found, log = generate("--weights-cache", tmp_path)
    assert found == wanted
    assert "weights_cache_bad" in log and str(file) in log and "weights_cache_written" in log
    assert list(tmp_path.iterdir()) == [file] and file.read_bytes() == whole
    file.write_bytes(whole[:len(whole) // 2])
    found, log = generate("--weights-cache", tmp_path)
    assert found == wanted and "weights_cache_bad" in log
    assert file.read_bytes() == whole


def test_a_folder_that_is_none_does_no_harm(tmp_path):
    wanted, _ = generate()
    found, log = generate("--weights-cache", tmp_path / "nowhere")
    assert found == wanted
    assert "weights_cache_off" in log and "nowhere" in log


def test_a_file_that_may_not_grow_is_given_up(tmp_path):
    wanted, _ = generate()
    limit = 1 << 20  # the tiles take more
    found, log = generate("--weights-cache", tmp_path, before=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (limit, limit)))
    assert found == wanted
    assert "weights_cache_not_written" in log and "ulimit -f" in log
    assert not list(tmp_path.iterdir())


def test_the_environment_may_ask_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("QUIRE_QUANTIZE", "q8_0")
    monkeypatch.setenv("QUIRE_WEIGHTS_CACHE", str(tmp_path))
    _, log = generate()
    assert "weights_quantized" in log and "weights_cache_written" in log


def test_synthetic_weights_are_quantized_but_not_kept(tmp_path):
    _, log = generate("--quantize", "q8_0", "--weights-cache", tmp_path, model=f"synthetic:{DEMO}")
    assert "weights_quantized" in log and "weights_cache_unused" in log
    assert not list(tmp_path.iterdir())


def test_a_server_takes_them_too(start_server, tmp_path):
    greedy = inference.SamplingOptions(temperature=0)
    found = []
    for _ in range(2):
        server = start_server("--quantize", "q8_0", "--weights-cache", tmp_path, model=MODEL)
        found.append(Result(server.inference.Generate(
            request(ids=IDS, max_tokens=12, sampling=greedy))).ids)
    assert len(found[0]) == 12 and found[0] == found[1]


def test_each_backend_names_the_other_ones_option():
    for arguments, words in ((["--backend", "cuda", "--quantize", "q8_0"], "--weights"),
                             (["--backend", "cpu", "--weights", "fp8"], "--quantize")):
        result = subprocess.run([BUILD / "quire", "generate", "--model", DEMO, "--prompt", "a",
                                 *arguments], capture_output=True, text=True, timeout=60)
        assert result.returncode != 0 and words in result.stderr
