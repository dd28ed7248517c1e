#!/usr/bin/env python3
"""How fast Quire, Hugging Face tokenizers, tiktoken and sentencepiece encode, side by side.

    python3 -m venv VENV && VENV/bin/pip install tokenizers tiktoken sentencepiece
    VENV/bin/python bench/tokenizer_peers.py QUIRE TESTDATA WORK_DIR [--rounds N] [--only NAME]

One thread of one CPU, CPU time; the programs take turns (A B C A B C ...), each encodes once
unmeasured before. Every peer's ids are compared with Quire's before anything is timed. The
table goes to standard output, the figures to bench/results/tokenizer-peers.json.
"""
import argparse
import base64
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import time
import unicodedata

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import sentencepiece  # noqa: E402
import tiktoken  # noqa: E402
from tiktoken import load as tiktoken_load  # noqa: E402
import tokenizers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[1]
CL100K_PATTERN = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
                  r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s")
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


def byte_alphabet():
    """The character that stands for each byte in vocabularies of byte-level BPE."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


ALPHABET = byte_alphabet()
BYTE_OF = {char: byte for byte, char in enumerate(ALPHABET)}


def written(token):
    return "".join(ALPHABET[byte] for byte in token)


def read_ranks(path):
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def last_merge(ranks, token, rank):
    """The two tokens that become `token`, found by encoding it with the tokens before it."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        found = [(ranks.get(parts[i] + parts[i + 1], rank), i) for i in range(len(parts) - 1)]
        best, i = min(found)
        if best >= rank:
            return None
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts if len(parts) == 2 else None


def tokenizer_json(skeleton, ranks, is_bare=False):
    """A tokenizer.json of tokens that are ranked by their ids."""
    root = json.loads(skeleton.read_text())
    merges = (last_merge(ranks, token, rank) for token, rank in ranks.items() if len(token) > 1)
    root["model"]["vocab"] = {written(token): rank for token, rank in ranks.items()}
    root["model"]["merges"] = [[written(part) for part in pair] for pair in merges if pair]
    if is_bare:
        root["added_tokens"] = []
        root["post_processor"] = None
    return root


def qwen_json(data):
    root = json.loads((data / "skeletons/qwen2.tokenizer.skeleton.json").read_text())
    lines = (data / "qwen/merges.txt").read_text(encoding="utf-8").split("\n")
    root["model"]["vocab"] = json.loads((data / "qwen/vocab.json").read_text())
    root["model"]["merges"] = [line for line in lines if line and not line.startswith("#version")]
    return root


class Subject:
    """A tokenizer: where Quire finds it, and its peers as functions from a text to ids."""

    def __init__(self, path, **peers):
        self.path = path
        self.peers = peers


def hf_encode(path):
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.no_truncation()  # which some files ask for

    def encode(texts):
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encoded]
    return encode


def tiktoken_encode(name, pattern, ranks, nfc=False):
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    if nfc:  # as Qwen's own tokenizer does around tiktoken
        return lambda texts: [encoding.encode_ordinary(unicodedata.normalize("NFC", text))
                              for text in texts]
    return lambda texts: [encoding.encode_ordinary(text) for text in texts]


def sentencepiece_encode(path):
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return lambda texts: [model.EncodeAsIds(text) for text in texts]


def write_if_missing(path, make):
    if not path.exists():
        path.write_text(json.dumps(make()))
    return path


def open_subject(name, data, work):
    skeleton = data / "skeletons/llama3.tokenizer.skeleton.json"
    if name == "gpt2":
        path = data / "gpt2/tokenizer.json"
        ranks = tiktoken_load.data_gym_to_mergeable_bpe_ranks(
            str(data / "gpt2/vocab.bpe"), str(data / "gpt2/encoder.json"))
        return Subject(path, hf=hf_encode(path),
                       tiktoken=tiktoken_encode(name, GPT2_PATTERN, ranks))
    if name in ("cl100k", "llama3"):
        ranks = read_ranks(data / ("tiktoken/cl100k_base.tiktoken" if name == "cl100k"
                                   else "llama3/tokenizer.model"))
        path = write_if_missing(work / f"{name}.json", lambda: tokenizer_json(
            skeleton, ranks, is_bare=name == "cl100k"))
        return Subject(path, hf=hf_encode(path),
                       tiktoken=tiktoken_encode(name, CL100K_PATTERN, ranks))
    if name == "qwen2":
        path = write_if_missing(work / "qwen2.json", lambda: qwen_json(data))
        vocab = json.loads((data / "qwen/vocab.json").read_text())
        ranks = {bytes(BYTE_OF[char] for char in token): rank for token, rank in vocab.items()}
        pattern = CL100K_PATTERN.replace(r"\p{N}{1,3}+", r"\p{N}")
        return Subject(path, hf=hf_encode(path),
                       tiktoken=tiktoken_encode(name, pattern, ranks, nfc=True))
    return Subject(data / "llama2/tokenizer.model", hf=hf_encode(data / "llama2/tokenizer.json"),
                   sentencepiece=sentencepiece_encode(data / "llama2/tokenizer.model"))


def sharegpt(testdata):
    ranks = read_ranks(testdata / "tokenizers/llama3/tokenizer.model")
    encoding = tiktoken.Encoding("llama3", pat_str=CL100K_PATTERN, mergeable_ranks=ranks,
                                 special_tokens={})
    lines = (testdata / "traces/sharegpt/sharegpt-llama-3.1-8b-300-sps10.jsonl").open()
    return [encoding.decode(json.loads(line)["input_tok_ids"]) for line in lines]


def make_texts(testdata):
    corpora = testdata / "tokenizers/corpora"
    letters = random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=1_000_000)
    return {
        "botchan": [(corpora / "botchan.txt").read_text(encoding="utf-8")],
        "sonnet": [(corpora / "sonnet.txt").read_text(encoding="utf-8")],
        "sharegpt": sharegpt(testdata),
        "one letter": ["a" * 1_000_000],
        "spaces": [" " * 1_000_000],
        "random letters": ["".join(letters)],
    }


def quire_ids(quire, path, file):
    out = subprocess.run([quire, "tokenize", "--model", path, "--jsonl"], stdin=file.open(),
                         capture_output=True, check=True)
    return [json.loads(line) for line in out.stdout.splitlines()]


def time_quire(quire, path, file, work):
    result = work / "run.json"
    subprocess.run([quire, "bench", "tokenizer", "--tokenizer", path, "--text", file, "--jsonl",
                    "--runs", "1", "--json", result], check=True, stdout=subprocess.DEVNULL)
    return json.loads(result.read_text())["cpu_seconds"][0]


def time_peer(encode, texts):
    begin = time.thread_time()
    encode(texts)
    return time.thread_time() - begin


def agreement(mine, theirs):
    """What share of the texts has the same ids."""
    return sum(a == b for a, b in zip(mine, theirs, strict=True)) / len(mine)


def compare(options, name, subject, text_name, texts):
    file = options.work / "texts.jsonl"
    file.write_text("".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts))
    ids = quire_ids(options.quire, subject.path, file)
    n_bytes = sum(len(text.encode()) for text in texts)
    seconds = {"quire": []}
    row = {"tokenizer": name, "text": text_name, "bytes": n_bytes, "tokens": sum(map(len, ids)),
           "same_ids": {}}
    for peer, encode in subject.peers.items():
        row["same_ids"][peer] = agreement(ids, encode(texts))
        seconds[peer] = []
    for _ in range(options.rounds):
        seconds["quire"].append(time_quire(options.quire, subject.path, file, options.work))
        for peer, encode in subject.peers.items():
            seconds[peer].append(time_peer(encode, texts))
    row["seconds"] = seconds
    row["mb_per_s"] = {who: n_bytes / 1e6 / statistics.median(times)
                       for who, times in seconds.items()}
    return row


def print_row(row):
    speeds = row["mb_per_s"]
    cells = [f"{who} {speed:8.2f}" + ("" if who == "quire" else
             f" ({speeds['quire'] / speed:5.1f} x, {100 * row['same_ids'][who]:.0f} % equal)")
             for who, speed in speeds.items()]
    print(f"{row['tokenizer']:8} {row['text']:16}" + "  ".join(cells), flush=True)


def machine():
    model = [line.split(":")[1].strip() for line in open("/proc/cpuinfo")
             if line.startswith("model name")]
    versions = {name: importlib.metadata.version(name)
                for name in ("tokenizers", "tiktoken", "sentencepiece")}
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "commit": os.environ.get("QUIRE_COMMIT", ""),
            "processor": model[0] if model else platform.machine(),
            "versions": {**versions, "python": platform.python_version()}}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("quire", type=pathlib.Path)
    parser.add_argument("testdata", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=None, help="tokenizers, separated by commas")
    parser.add_argument("--texts", default=None, help="texts, separated by commas")
    parser.add_argument("--output", type=pathlib.Path,
                        default=ROOT / "bench/results/tokenizer-peers.json")
    return parser.parse_args()


def main():
    options = parse_arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    texts = make_texts(options.testdata)
    rows = []
    print("MB/s of CPU time of one thread (1 MB = 10^6 bytes), median of "
          f"{options.rounds} rounds; (Quire's speed over the peer's, texts with equal ids)")
    for name in (options.only or "gpt2,cl100k,llama3,qwen2,llama2").split(","):
        subject = open_subject(name, options.testdata / "tokenizers", options.work)
        for text_name in (options.texts or ",".join(texts)).split(","):
            rows.append(compare(options, name, subject, text_name, texts[text_name]))
            print_row(rows[-1])
    options.output.write_text(json.dumps({**machine(), "rounds": options.rounds, "rows": rows},
                                         indent=1) + "\n")


main()
