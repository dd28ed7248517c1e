"""Trains the demo model on the generated text and writes a Hugging Face folder.

    python train.py --text DIR --tokenizer DIR/tokenizer.json --output ../../models/demo --minutes 30

The learning rate warms up, stays, and falls to zero over the last part of the run, which reads
windows of the full context. `--minutes` sizes the run by the clock; `--steps` repeats one exactly.
`--init FOLDER` goes on from weights written before, and is that last part alone.
"""

import argparse
import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from llama import Config, Llama

END_OF_TEXT = "<|endoftext|>"
SEED = 7
SHORT, LONG = 512, 1024
WARMUP, DECAY_SHARE = 100, 0.3
PEAK_RATE = 3e-3


def encode(path, tokenizer):
    """All documents as one stream, each begun by the end-of-text token; and where each begins."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    texts = [json.loads(line) for line in open(path, encoding="utf-8")]
    stream, starts = [], []
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        starts.append(len(stream))
        stream.append(end)
        stream.extend(encoding.ids)
    stream.append(end)
    return np.array(stream, dtype=np.int64), np.array(starts)


class Windows:
    """Windows that begin where a document begins, as a prompt does; each start once an epoch."""

    def __init__(self, stream, starts, seed):
        self.stream, self.starts = stream, starts
        self.rng, self.queue = np.random.default_rng(seed), []

    def batch(self, tokens, length):
        rows = []
        while len(rows) < tokens // length:
            if not len(self.queue):
                self.queue = list(self.rng.permutation(self.starts))
            start = self.queue.pop()
            if start + length < len(self.stream):
                rows.append(self.stream[start:start + length + 1])
        rows = torch.from_numpy(np.stack(rows))
        return rows[:, :-1], rows[:, 1:]


def loss_of(model, ids, targets):
    return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())


@torch.no_grad()
def held_out_loss(model, stream):
    rows = min(len(stream) - 1, 96 * LONG) // LONG
    pieces = torch.from_numpy(stream[:rows * LONG + 1])
    ids, targets = pieces[:-1].view(rows, LONG), pieces[1:].view(rows, LONG)
    losses = [loss_of(model, ids[i:i + 4], targets[i:i + 4]).item() for i in range(0, rows, 4)]
    return sum(losses) / len(losses)


def optimizer_of(model):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                              {"params": vectors, "weight_decay": 0.0}],
                             lr=PEAK_RATE, betas=(0.9, 0.95), fused=True)


def rate_at(step, done, decay):
    return PEAK_RATE * min(1.0, (step + 1) / WARMUP, (1 - done) / decay)


def train(model, windows, args, log):
    run = torch.compile(model, dynamic=False)
    optimizer = optimizer_of(model)
    decay = 1.0 if args.init else DECAY_SHARE
    begun, step, tokens = time.monotonic(), 0, 0
    while True:
        minutes = (time.monotonic() - begun) / 60
        done = step / args.steps if args.steps else minutes / args.minutes
        if done >= 1:
            return step, tokens, minutes
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, done, decay)
        ids, targets = windows.batch(args.batch, SHORT if done < 1 - decay else LONG)
        loss = loss_of(run, ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step, tokens = step + 1, tokens + ids.numel()
        if step % 10 == 0:
            log(step, tokens, minutes, loss.item())
        if step % 200 == 0:
            export(model, args)


def export(model, args):
    """The folder as `transformers` writes it: config, generation_config and bf16 weights."""
    cfg, end = model.cfg, Tokenizer.from_file(str(args.tokenizer)).token_to_id(END_OF_TEXT)
    args.output.mkdir(parents=True, exist_ok=True)
    weights = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    save_file(weights, args.output / "model.safetensors", metadata={"format": "pt"})
    ids = {"bos_token_id": end, "eos_token_id": end}
    config = {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
              **ids, **vars(cfg), "hidden_act": "silu", "initializer_range": 0.02, "mlp_bias": False,
              "model_type": "llama", "pretraining_tp": 1, "rope_scaling": None,
              "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True}
    generation = {**ids, "do_sample": True, "temperature": 0.7, "top_p": 0.9}
    for name, content in (("config", config), ("generation_config", generation)):
        (args.output / f"{name}.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def plot(path, rows):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "demo"
    from matplotlib import pyplot as plt
    every = max(1, len(rows) // 300)
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot([r[1] / 1e6 for r in rows[::every]], [r[3] for r in rows[::every]], linewidth=1)
    axes.set(xlabel="tokens read (millions)", ylabel="training loss (nats a token)", yscale="log")
    axes.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--curve", type=Path, default=Path(__file__).parent)
    parser.add_argument("--init", type=Path, help="folder of weights to go on from")
    parser.add_argument("--seed", type=int, default=SEED, help="of weights and of the order of the text")
    parser.add_argument("--batch", type=int, default=4096, help="tokens a step")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--minutes", type=float)
    size.add_argument("--steps", type=int)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(2)
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    model = Llama(Config(vocab_size=tokenizer.get_vocab_size()))
    if args.init:
        model.load_state_dict(load_file(args.init / "model.safetensors"))
    windows = Windows(*encode(args.text / "train.jsonl", tokenizer), args.seed)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(windows.stream)} tokens", flush=True)
    rows = []

    def log(*row):
        rows.append(row)
        print("step {} tokens {} minutes {:.2f} loss {:.4f}".format(*row), flush=True)

    steps, tokens, minutes = train(model, windows, args, log)
    export(model, args)
    held = held_out_loss(model, encode(args.text / "heldout.jsonl", tokenizer)[0])
    print(f"{steps} steps, {tokens} tokens, {minutes:.1f} minutes; "
          f"held-out loss {held:.4f}, perplexity {math.exp(held):.3f}")
    with open(args.curve / "loss.csv", "w", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows(
            [("step", "tokens", "minutes", "loss"), *((s, t, f"{m:.2f}", f"{l:.4f}") for s, t, m, l in rows)])
    plot(args.curve / "loss.svg", rows)


if __name__ == "__main__":
    main()
