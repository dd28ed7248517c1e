#!/usr/bin/env python3
"""Compare Quire's tokenizer with the reference implementation on texts made up at random.

    tools/tokenizer_differential.py --model DIR/tokenizer.json --count 100000

needs the Python packages of the oracles: tokenizers (tokenizer.json), sentencepiece (.model),
tiktoken (rank files). Ids must be equal, and so must be what they decode to. A failure is
shrunk to a smallest text, printed with the seed that leads to it, and ends the run with 1.
docs/tokenizers.md says more.
"""
import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH = 10000
MAX_SHOWN = 10

NASTY = [
    "\0", "\t", "\n", "\r\n", "\r", "\x0b", "\x0c", "\x1f", "\x7f", "\x85", "\xa0", "\xad",
    " ", "  ", "   ", "\u1680", "\u180e", "\u2003", "\u200b", "\u200c", "\u200d", "\u2028",
    "\u2029", "\u202f", "\u205f", "\u2060", "\u2581", "\u2581\u2581", " \u2581", "\u3000",
    "\ufeff", "\ufffd", "\ufffe", "\uffff", "\ue000", "\U0010ffff",
    "\u0301", "\u0323\u0301", "\u0301\u0323", "e\u0301", "\u0308\u0301", "\u0345", "\u20dd",
    "\u0959", "\u0915\u094d\u0937", "\u0e33", "\u0eb3", "\u0f73", "\u1100\u1161\u11a8", "\uac00",
    "\uac01\u11a8", "\ufb01", "\ufb2c", "\ufdfa", "\uff21\uff11\uff01", "\u00bd", "\u00b2",
    "\u2163", "\u2460", "\u24b6", "\u3300", "\u33ff", "\u212b", "\u2126", "\u017f", "\u212a",
    "\u0130", "\u0131", "\u01c5", "\u1e9e", "\u00df", "\u03a3\u03c2", "\u0660\u06f1\u0967",
    "\U0001d7d8", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea",
    "\U0001f44d\U0001f3fd", "\u2764\ufe0f", "\U0001f600", "\U000e0067", "\U00020000",
    "\u4e2d\u6587", "\u3042\u30a2", "\u0440\u0443\u0441", "\u05d0\u05d1", "\u0627\u0644", "\u0e44",
    "'s", "'S", "'ll", "'LL", "'\u017f", "'re", "'ve", "'d", "'t", "'m", "''", "n't",
    "0", "12", "345", "6789", "3.14", "1,000", "-", "--", "...", "!?", "$", "+=", "/*", "*/",
    "<s>", "</s>", "<unk>", "<pad>", "<0x0A>", "<0xE2>", "<0x", "<|endoftext|>", "<|im_start|>",
    "[INST]", "\\", "\"", "`", "_", "__", "#", "@", "http://", ".com", "\\n", "{", "}", "()",
]
WORDS = ("the of and to in a is that it was for on are with as I his they be at one have this "
         "from or had by hot but some what there we can out other were all your when up use "
         "Hello World hello world tokenizer Tokenization HTTPServer camelCase snake_case "
         "\u00e9t\u00e9 na\u00efve Stra\u00dfe \u0141\u00f3d\u017a").split()


class Texts:
    """Makes texts; the same seed makes the same ones."""

    def __init__(self, seed, pieces, added, corpus):
        self.random = random.Random(seed)
        self.pieces = pieces
        self.added = added
        self.corpus = corpus

    def any_char(self):
        while True:
            top = self.random.choice((0x80, 0x250, 0x800, 0x3000, 0x10000, 0x32000))
            char = chr(self.random.randrange(top))
            if unicodedata.category(char) not in ("Cs", "Cn"):
                return char

    def part(self):
        kind = self.random.random()
        if kind < 0.08 and self.added:
            return (self.random.choice(("", "", " ", "\n\t ", "x"))
                    + self.random.choice(self.added) + self.random.choice(("", "", "  ", "y")))
        if kind < 0.3:
            return self.random.choice(NASTY)
        if kind < 0.45:
            return self.random.choice(WORDS)
        if kind < 0.6:
            return " " + self.random.choice(WORDS)
        if kind < 0.75 and self.pieces:
            return self.random.choice(self.pieces)
        if kind < 0.85:
            return self.any_char()
        if kind < 0.9:
            return self.random.choice(NASTY) * self.random.randint(2, 30)
        if kind < 0.95 and self.corpus:
            start = self.random.randrange(len(self.corpus))
            return self.corpus[start:start + self.random.randint(1, 40)]
        return "".join(self.random.choice("abcdefgh ") for _ in range(self.random.randint(1, 12)))

    def any_bytes(self):
        """A text without newlines, with bytes left out, doubled, changed and put in."""
        text = bytearray(self.text().encode().replace(b"\n", b" "))
        for _ in range(self.random.choice((1, 1, 2, 4, 8))):
            at = self.random.randrange(len(text) + 1)
            there = text[at:at + self.random.choice((0, 1, 2, 3))]
            new = self.random.randbytes(self.random.choice((0, 1, 1, 2)))
            text[at:at + len(there)] = (there + there, new, b"")[self.random.randrange(3)]
        return bytes(text).replace(b"\n", b"\r")

    def text(self):
        parts = [self.part() for _ in range(self.random.choice((1, 2, 2, 3, 4, 6, 10, 20)))]
        return "".join(parts)


def texts_of_characters(first):
    """A text for each of BATCH characters from `first` on, assigned or not, with neighbours of
    several kinds."""
    for code in range(first, min(first + BATCH, sys.maxunicode + 1)):
        if not 0xD800 <= code < 0xE000:
            char = chr(code)
            yield f"{char}a{char}{char} 1{char}\u0301{char}\u0323\u0301.{char}A {char} "


class Quire:
    def __init__(self, binary, model, special):
        self.binary = binary
        self.model = model
        self.special = ["--special"] if special else []

    def run(self, command, lines, *options):
        is_raw = lines and isinstance(lines[0], bytes)
        text = b"\n".join(lines) if is_raw else "\n".join(map(json.dumps, lines)).encode()
        result = subprocess.run([self.binary, command, "--model", self.model,
                                 "--lines" if is_raw else "--jsonl", *options],
                                input=text + b"\n", capture_output=True)
        if result.returncode != 0:
            raise SystemExit(f"quire {command}: {result.stderr.decode()}")
        return [json.loads(line) for line in result.stdout.splitlines()]

    def encode(self, texts):
        return self.run("tokenize", texts, *self.special)

    def decode(self, ids, skip_special):
        return self.run("detokenize", ids, *(["--skip-special"] if skip_special else []))


class Tokenizers:
    """Hugging Face's library, for tokenizer.json."""
    skips_special = False

    def __init__(self, path, special):
        import tokenizers
        self.tok = tokenizers.Tokenizer.from_file(str(path))
        self.tok.no_truncation()
        self.tok.no_padding()
        self.tok.encode_special_tokens = not special
        self.added = [each.content for each in self.tok.get_added_tokens_decoder().values()]
        self.version = f"tokenizers {tokenizers.__version__}"

    def encode(self, texts):
        return [e.ids for e in self.tok.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids):
        return self.tok.decode_batch(ids, skip_special_tokens=False)

    def pieces(self):
        return [self.tok.decode([i], skip_special_tokens=False)
                for i in range(self.tok.get_vocab_size())]


class SentencePiece:
    skips_special = True
    added = []

    def __init__(self, path, special):
        import sentencepiece
        if special:
            raise SystemExit("--special: sentencepiece does not look for control pieces in text")
        self.tok = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.version = f"sentencepiece {sentencepiece.__version__}"

    def encode(self, texts):
        return self.tok.encode(texts, out_type=int)

    def decode(self, ids):
        return self.tok.decode(ids)

    def pieces(self):
        return [self.tok.id_to_piece(i).replace("\u2581", " ")
                for i in range(self.tok.get_piece_size())]


class Tiktoken:
    skips_special = False
    added = []
    # tiktoken's own patterns, from tiktoken_ext/openai_public.py; llama 3's and Qwen's from the
    # code that they were published with.
    R50K = (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s")
    CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"
              r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s")
    LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
              r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    PATTERNS = {50256: R50K, 50280: R50K, 100256: CL100K, 128000: LLAMA3}

    def __init__(self, path, special):
        import tiktoken
        from tiktoken.load import load_tiktoken_bpe
        if special:
            raise SystemExit("--special: a rank file does not hold the special tokens")
        ranks = load_tiktoken_bpe(str(path))
        self.tok = tiktoken.Encoding("differential", pat_str=self.PATTERNS[len(ranks)],
                                     mergeable_ranks=ranks, special_tokens={})
        self.ranks = ranks
        self.version = f"tiktoken {tiktoken.__version__}"

    def encode(self, texts):
        return self.tok.encode_ordinary_batch(texts)

    def decode(self, ids):
        return [self.tok.decode(each) for each in ids]

    def pieces(self):
        return [token.decode(errors="ignore") for token in self.ranks]


def make_oracle(path, special):
    if path.is_dir():
        path = path / "tokenizer.json"
    head = path.open("rb").read(64)
    if head.lstrip().startswith(b"{"):
        return Tokenizers(path, special)
    if re.match(rb"[A-Za-z0-9+/]+=* \d+\n", head):
        return Tiktoken(path, special)
    return SentencePiece(path, special)


class Comparison:
    def __init__(self, quire, oracle):
        self.quire = quire
        self.oracle = oracle

    def failures(self, texts):
        """Indices of the texts on which the two differ, and how."""
        expected = self.oracle.encode(texts)
        found = self.quire.encode(texts)
        if len(found) != len(texts):
            raise SystemExit(f"quire tokenize: {len(found)} lines for {len(texts)} texts")
        bad = {i: f"ids {found[i]}\n  but    {expected[i]}"
               for i in range(len(texts)) if found[i] != expected[i]}
        decoded = self.oracle.decode(expected)
        mine = self.quire.decode(expected, self.oracle.skips_special)
        for i in range(len(texts)):
            # How many U+FFFD stand for bytes that are no character is each one's own choice.
            text = texts[i] if isinstance(texts[i], str) else texts[i].decode(errors="replace")
            broken = "\ufffd" in decoded[i] and decoded[i].count("\ufffd") != text.count("\ufffd")
            if i not in bad and not broken and decoded[i] != mine[i]:
                bad[i] = f"ids {expected[i]} decode to {mine[i]!r}\n  but    {decoded[i]!r}"
        return bad

    def shrink(self, text):
        """The smallest text that still fails, by leaving out ever smaller parts."""
        step = max(1, len(text) // 2)
        while True:
            shorter = [text[:i] + text[i + step:] for i in range(0, len(text), step)]
            bad = self.failures([each for each in shorter if each])
            if bad:
                text = [each for each in shorter if each][min(bad)]
                step = min(step, max(1, len(text) // 2))
            elif step == 1:
                return text
            else:
                step //= 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", type=pathlib.Path, required=True,
                        help="tokenizer file, or a directory with a tokenizer.json")
    parser.add_argument("--oracle", type=pathlib.Path,
                        help="the file that the reference implementation reads; default: the same")
    parser.add_argument("--quire", default=str(ROOT / "build/release/quire"))
    parser.add_argument("--count", type=int, default=100000, help="texts; default 100000")
    parser.add_argument("--seed", type=int, default=1, help="of the first batch; default 1")
    parser.add_argument("--corpus", type=pathlib.Path, help="a file to take parts of texts from")
    parser.add_argument("--special", action="store_true", help="special tokens count in texts")
    parser.add_argument("--characters", action="store_true",
                        help="instead of random texts one for each character of Unicode")
    parser.add_argument("--bytes", action="store_true",
                        help="texts of any bytes but newlines, for sentencepiece, which takes them")
    args = parser.parse_args()

    oracle = make_oracle(args.oracle or args.model, args.special)
    comparison = Comparison(Quire(args.quire, str(args.model), args.special), oracle)
    def differ(name, batch):
        bad = comparison.failures(batch)
        for i in sorted(bad)[:MAX_SHOWN]:
            small = comparison.shrink(batch[i])
            why = comparison.failures([small]).get(0, bad[i])
            print(f"{name}, text {i}: {small!r}\n  {why}")
        if bad:
            print(f"{args.model}: {len(bad)} of {len(batch)} texts differ from {oracle.version}")
        return bad

    if args.characters:
        if any([differ(f"from U+{first:04X}", list(texts_of_characters(first)))
                for first in range(0, sys.maxunicode + 1, BATCH)]):
            return 1
        print(f"{args.model}: each character as {oracle.version}")
        return 0
    pieces = [piece for piece in oracle.pieces() if piece and "\ufffd" not in piece]
    corpus = args.corpus.read_text() if args.corpus else ""
    done = 0
    seed = args.seed
    while done < args.count:
        texts = Texts(seed, pieces, oracle.added, corpus)
        make = texts.any_bytes if args.bytes else texts.text
        batch = [make() for _ in range(min(BATCH, args.count - done))]
        if differ(f"seed {seed}", batch):
            return 1
        done += len(batch)
        seed += 1
    print(f"{args.model}: {done} texts, seeds {args.seed} to {seed - 1}, as {oracle.version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
