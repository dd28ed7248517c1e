"""Writes the demo model's training text. The same seed gives the same bytes.

    python generate_text.py --output DIR [--seed 7] [--megabytes 24]

DIR gets train.jsonl and heldout.jsonl (one document a line, as a JSON string), meetings.jsonl, the
short texts full of names that one stage of the training reads, and tokenizer.txt, plain text to
learn the vocabulary from.
"""

import argparse
import json
import random
from pathlib import Path

from facts import Facts
from plans import Plans
from templates import load_lexicon

CURLY_SHARE = 0.2
HELD_OUT_EVERY = 100
TOKENIZER_BYTES = 6_000_000
NAME_REPEATS = 500
MEETINGS, MEETINGS_SEED = 6000, 5


def curly(text):
    """Typographic quotes: opening after a space or at the start, closing elsewhere."""
    out = []
    for i, char in enumerate(text):
        if char == '"':
            char = "“" if i == 0 or text[i - 1] in " \n(" else "”"
        elif char == "'":
            char = "’"
        out.append(char)
    return "".join(out)


def documents(seed):
    rng, plans, facts = random.Random(seed), Plans(), Facts()
    kinds = ((66, lambda: plans.document(rng, ("stories1.txt", "stories2.txt"))),
             (14, lambda: plans.document(rng, ("meetings.txt",))),
             (8, lambda: plans.document(rng, ("passages.txt",))),
             (7, lambda: plans.document(rng, ("papers.txt",))),
             (12, lambda: facts.questions(rng)),
             (16, lambda: facts.sums(rng)),
             (4, lambda: facts.table(rng)))
    weights, makers = zip(*kinds)
    while True:
        text = rng.choices(makers, weights)[0]()
        yield curly(text) if rng.random() < CURLY_SHARE else text


def names(lexicon):
    """Every name on lines of its own, so that it is one token at the start of a paragraph too: a
    name that has one spelling there and another inside a sentence is hard to carry through a story."""
    words = {row["name"] for row in lexicon["children"]}
    words |= {word for row in lexicon["towns"] for word in row["town"].split()}
    return "".join(word + "\n" for word in sorted(words)) * NAME_REPEATS


def write_meetings(path):
    rng, plans = random.Random(MEETINGS_SEED), Plans()
    with open(path, "w", encoding="utf-8") as out:
        for _ in range(MEETINGS):
            out.write(json.dumps(plans.document(rng, ("meetings.txt",)), ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--megabytes", type=float, default=24)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    write_meetings(args.output / "meetings.jsonl")
    written = plain = 0
    with (open(args.output / "train.jsonl", "w", encoding="utf-8") as train,
          open(args.output / "heldout.jsonl", "w", encoding="utf-8") as heldout,
          open(args.output / "tokenizer.txt", "w", encoding="utf-8") as tokenizer):
        tokenizer.write(names(load_lexicon()))
        for number, text in enumerate(documents(args.seed)):
            if written >= args.megabytes * 1e6:
                break
            out = heldout if number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 else train
            out.write(json.dumps(text, ensure_ascii=False) + "\n")
            written += len(text.encode())
            if out is train and plain < TOKENIZER_BYTES:
                plain += tokenizer.write(text + "\n\n")


if __name__ == "__main__":
    main()
