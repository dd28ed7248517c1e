"""quire tokenize, detokenize and train-tokenizer: what they read, print and refuse."""
import hashlib
import json
import struct
import subprocess

import pytest
from conftest import BUILD, MODEL, SOURCE

TOKENIZERS = MODEL.parents[2] / "tokenizers"


def quire(*arguments, stdin=b""):
    if isinstance(stdin, str):
        stdin = stdin.encode()
    return subprocess.run([BUILD / "quire", *map(str, arguments)], input=stdin,
                          capture_output=True, timeout=60)


def output(*arguments, stdin=b""):
    result = quire(*arguments, stdin=stdin)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_tokenize_and_back():
    ids = output("tokenize", "--model", MODEL, stdin="One day, a little")
    assert ids == b"385 328 432 261 376\n"
    assert output("detokenize", "--model", MODEL, stdin=ids) == b"One day, a little"
    assert output("detokenize", "--model", MODEL, stdin="[385,328]") == b"One day"


def test_json_and_bos():
    out = output("tokenize", "--model", MODEL, "--bos", "--json", stdin="One day")
    assert json.loads(out) == {"ids": [1, 385, 328]}
    assert output("detokenize", "--model", MODEL, stdin=out) == b"<s> One day"
    assert json.loads(output("tokenize", "--model", MODEL, "--json")) == {"ids": []}


def test_special_tokens_are_text_unless_asked_for():
    plain = output("tokenize", "--model", MODEL, stdin="<s>").split()
    assert len(plain) > 1 and b"1" not in plain
    assert output("tokenize", "--model", MODEL, "--special", stdin="<s>") == b"1\n"


def test_lines():
    texts = ["One day", "", "a\nb \u00e9\u6f22 \"q\"", "\u0000"]
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    ids = output("tokenize", "--model", MODEL, "--jsonl", stdin=lines)
    assert [json.loads(line) for line in ids.splitlines()][:2] == [[385, 328], []]
    back = output("detokenize", "--model", MODEL, "--jsonl", stdin=ids)
    assert [json.loads(line) for line in back.splitlines()] == texts


def test_plain_lines():
    """Texts of any bytes; the last line needs no newline, and an empty line is a text."""
    ids = output("tokenize", "--model", MODEL, "--lines", stdin=b"One day\n\n \r\na\0\xff")
    lines = [json.loads(line) for line in ids.splitlines()]
    assert len(lines) == 4 and lines[:2] == [[385, 328], []]
    assert lines[3] == json.loads(output("tokenize", "--model", MODEL, "--jsonl",
                                         stdin='"a\\u0000\\ufffd"'))


@pytest.mark.parametrize("name, file", [
    ("llama2", "llama2/tokenizer.model"), ("llama2", "llama2/tokenizer.json"),
    ("llama3", "llama3/tokenizer.model"), ("qwen", "qwen"), ("gpt2", "gpt2/tokenizer.json"),
    ("gpt2", "gpt2/encoder.json"), ("cl100k", "tiktoken/cl100k_base.tiktoken")])
def test_books(name, file):
    """Every id of two books: the published ids' SHA-256, as 32-bit little-endian numbers."""
    if not (TOKENIZERS / file).exists():
        pytest.skip(f"no {TOKENIZERS / file}")
    for book, prints in json.loads(
            (TOKENIZERS / "expected/corpora_fingerprints.json").read_text()).items():
        text = (TOKENIZERS / "corpora" / book).read_bytes()
        ids = [int(id) for id in output("tokenize", "--model", TOKENIZERS / file,
                                        stdin=text).split()]
        packed = struct.pack(f"<{len(ids)}I", *ids)
        assert hashlib.sha256(packed).hexdigest() == prints[name]["sha256_u32le"]


def test_special_tokens_left_out():
    out = output("detokenize", "--model", MODEL, "--skip-special", stdin="1 385 328 2")
    assert out == b"One day"


@pytest.mark.parametrize("model, kept", [
    (MODEL, "a\ufffd\0b".encode()),  # SentencePiece replaces them
    (TOKENIZERS / "gpt2/tokenizer.json", b"a\xff\0b")])
def test_bytes_that_are_not_utf8(model, kept):
    ids = output("tokenize", "--model", model, stdin=b"a\xff\x00b")
    assert output("detokenize", "--model", model, stdin=ids) == kept
    line = b"[" + b",".join(ids.split()) + b"]\n"
    assert json.loads(output("detokenize", "--model", model, "--jsonl", stdin=line)) == "a\ufffd\0b"


@pytest.mark.parametrize("arguments, stdin, code, message", [
    (("tokenize",), "", 2, "--model is required"),
    (("tokenize", "--model", "/nowhere"), "", 1, "/nowhere"),
    (("tokenize", "--model", MODEL, "--jsonl"), '"a"\n7\n', 1, "line 2: it must be a JSON string"),
    (("tokenize", "--model", MODEL, "--jsonl", "--lines"), "", 2, "one or the other"),
    (("tokenize", "--model", MODEL, "--jsonl"), '"a\n', 1, "line 1: it is not valid JSON"),
    (("detokenize", "--model", MODEL), "1 x 2", 1, '"x" is not a token id'),
    (("detokenize", "--model", MODEL), "512", 1, '"512" is not a token id'),
    (("detokenize", "--model", MODEL), "[1,", 1, "not valid JSON"),
    (("detokenize", "--model", MODEL), "[1, 512]", 1, "item 1 must be a token id"),
    (("detokenize", "--model", MODEL, "--jsonl"), "{}", 1, "line 1: it must be an array"),
    (("train-tokenizer", "x"), "", 2, "--vocab-size is required"),
    (("train-tokenizer", "--vocab-size", "300", "x"), "", 2, "--output is required"),
    (("train-tokenizer", "--vocab-size", "300", "--output", "/tmp", "--type", "word", "x"), "", 2,
     "byte-level-bpe|sentencepiece-bpe|unigram"),
    (("train-tokenizer", "--vocab-size", "300", "--output", "/tmp", "/nowhere"), "", 1,
     "/nowhere: No such file"),
])
def test_errors(arguments, stdin, code, message):
    result = quire(*arguments, stdin=stdin)
    assert result.returncode == code
    assert message in result.stderr.decode()


def test_train(tmp_path):
    result = quire("train-tokenizer", "--type", "byte-level-bpe", "--vocab-size", "400", "--output",
                   tmp_path / "new", "--special-token", "<a>", "--special-token", "<b>",
                   SOURCE / "LICENSE")
    assert result.returncode == 0, result.stderr
    assert result.stderr == b"reading: 11358 done\nmerging: 400 done\n"
    ids = output("tokenize", "--model", tmp_path / "new", "--special", stdin="<b>License<a>")
    assert ids.split()[0] == b"1" and ids.split()[-1] == b"0"
    assert output("detokenize", "--model", tmp_path / "new", stdin=ids) == b"<b>License<a>"


def test_train_sentencepiece(tmp_path):
    text = "Licensed under the Apache License"
    for kind, last in (("sentencepiece-bpe", b"merging: 241 done\n"),
                       ("unigram", b"pruning: 100 done\n")):
        result = quire("train-tokenizer", "--type", kind, "--vocab-size", "500", "--byte-fallback",
                       "--output", tmp_path / kind, "--threads", "2", SOURCE / "LICENSE")
        assert result.returncode == 0, result.stderr
        assert result.stderr == b"reading: 11358 done\n" + last
    model = tmp_path / "sentencepiece-bpe" / "tokenizer.model"
    ids = output("tokenize", "--model", model, stdin=text)
    assert 4 < len(ids.split()) < 12
    assert output("detokenize", "--model", model, stdin=ids) == text.encode()


def test_bench(tmp_path):
    (tmp_path / "lines").write_text('"One day"\n\n"a little"\n')
    report = tmp_path / "report.json"
    out = output("bench", "tokenizer", "--tokenizer", MODEL, "--text", tmp_path / "lines",
                 "--jsonl", "--runs", "3", "--json", report)
    assert b"15 bytes in 2 texts" in out
    figures = json.loads(report.read_text())
    assert figures["texts"] == 2 and figures["bytes"] == 15 and len(figures["cpu_seconds"]) == 3
    assert figures["tokens"] == len(output("tokenize", "--model", MODEL, stdin="One day").split() +
                                    output("tokenize", "--model", MODEL, stdin="a little").split())
    (tmp_path / "lines").write_text("7")
    result = quire("bench", "tokenizer", "--tokenizer", MODEL, "--text", tmp_path / "lines",
                   "--jsonl")
    assert result.returncode == 1 and b"line 1: is not a JSON string" in result.stderr
