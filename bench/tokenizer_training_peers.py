#!/usr/bin/env python3
"""How fast Quire trains vocabularies, beside Hugging Face tokenizers and sentencepiece.

    python3 -m venv VENV && VENV/bin/pip install tokenizers sentencepiece
    VENV/bin/python bench/tokenizer_training_peers.py QUIRE TESTDATA WORK_DIR [--rounds N]

One thread of one CPU; the CPU time of whole processes (Quire) or of the call (peers), in
turns (A B A B). What is learnt is compared, too: for BPE the merges or pieces themselves, for
the unigram model the log likelihood a character and the tokens of the training text and of
another one, both encoded by the sentencepiece package. The table goes to standard output, the
figures to bench/results/tokenizer-training-peers.json.
"""
import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import sentencepiece  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[1]


def prompts(testdata):
    lines = (testdata / "traces/prompts").glob("*.jsonl")
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(lines))


def make_texts(testdata, work):
    """The novel, the novel with the prompts of three benchmarks, and that ten times."""
    novel = (testdata / "tokenizers/corpora/botchan.txt").read_text(encoding="utf-8")
    both = novel + prompts(testdata)
    texts = {"botchan": novel, "botchan+prompts": both, "botchan+prompts x 10": both * 10}
    files = {}
    for number, (name, text) in enumerate(texts.items()):
        files[name] = work / f"text{number}.txt"
        files[name].write_text(text, encoding="utf-8")
    return files


def quire_train(options, kind, file, size):
    """Seconds of CPU, and the file that was written."""
    folder = options.work / "quire"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([options.quire, "train-tokenizer", "--type", kind, "--vocab-size", str(size),
                    "--threads", "1", "--output", folder, file], check=True,
                   stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, folder / ("tokenizer.json" if kind == "byte-level-bpe" else "tokenizer.model")


def hf_train(file, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    begin = time.process_time()
    tokenizer.train([str(file)], trainer)
    return time.process_time() - begin, json.loads(tokenizer.to_str())["model"]["merges"]


def sentencepiece_train(options, kind, file, size):
    begin = time.process_time()
    sentencepiece.SentencePieceTrainer.train(
        input=str(file), model_prefix=str(options.work / "peer"), model_type=kind,
        vocab_size=size, normalization_rule_name="identity", num_threads=1, minloglevel=2,
        max_sentence_length=1 << 30, hard_vocab_limit=False)
    return time.process_time() - begin, open_model(options.work / "peer.model")


def open_model(path):
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def pieces(model):
    return [model.id_to_piece(i) for i in range(len(model))]


def fit(model, file):
    """Tokens, and log likelihood a character, of the best cut of each line."""
    lines = file.read_text(encoding="utf-8").split("\n")
    ids = [model.encode(line) for line in lines]
    total = sum(model.get_score(i) for line in ids for i in line)
    return {"tokens": sum(map(len, ids)), "log_likelihood": total / sum(map(len, lines))}


def train_byte_level(options, file, size):
    mine, path = quire_train(options, "byte-level-bpe", file, size)
    theirs, merges = hf_train(file, size)
    return mine, theirs, json.loads(path.read_text())["model"]["merges"] == merges


def train_bpe(options, file, size):
    mine, path = quire_train(options, "sentencepiece-bpe", file, size)
    theirs, model = sentencepiece_train(options, "bpe", file, size)
    return mine, theirs, pieces(open_model(path)) == pieces(model)


def train_unigram(options, file, size):
    other = options.testdata / "tokenizers/corpora/sonnet.txt"
    mine, path = quire_train(options, "unigram", file, size)
    theirs, model = sentencepiece_train(options, "unigram", file, size)
    return mine, theirs, {"quire": fit(open_model(path), file), "peer": fit(model, file),
                          "quire, other text": fit(open_model(path), other),
                          "peer, other text": fit(model, other)}


def machine():
    model = [line.split(":")[1].strip() for line in open("/proc/cpuinfo")
             if line.startswith("model name")]
    versions = {name: importlib.metadata.version(name) for name in ("tokenizers", "sentencepiece")}
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "commit": os.environ.get("QUIRE_COMMIT", ""),
            "processor": model[0] if model else platform.machine(), "versions": versions}


def measure(options, kind, train, name, file, size):
    runs = [train(options, file, size) for _ in range(options.rounds)]
    row = {"type": kind, "text": name, "bytes": file.stat().st_size, "vocab_size": size,
           "quire_seconds": [run[0] for run in runs], "peer_seconds": [run[1] for run in runs],
           "learnt": runs[0][2]}
    mine = statistics.median(row["quire_seconds"])
    theirs = statistics.median(row["peer_seconds"])
    learnt = row["learnt"] if isinstance(row["learnt"], dict) else f"equal: {row['learnt']}"
    print(f"{kind:18} {name:22} {size:6}  quire {mine:7.2f} s  peer {theirs:7.2f} s  "
          f"({theirs / mine:5.1f} x)  {learnt}", flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("quire", type=pathlib.Path)
    parser.add_argument("testdata", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=pathlib.Path,
                        default=ROOT / "bench/results/tokenizer-training-peers.json")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    kinds = {"byte-level-bpe": train_byte_level, "sentencepiece-bpe": train_bpe,
             "unigram": train_unigram}
    rows = [measure(options, kind, train, name, file, size)
            for kind, train in kinds.items()
            for name, file in make_texts(options.testdata, options.work).items()
            for size in (2000, 8000)
            if size == 2000 or name != "botchan"]
    options.output.write_text(json.dumps({**machine(), "rounds": options.rounds, "rows": rows},
                                         indent=1) + "\n")


main()
