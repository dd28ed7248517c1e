"""Trains the demo model on the generated text and writes a Hugging Face folder.

    python train.py --text DIR --tokenizer DIR/tokenizer.json --output ../../models/demo

The run goes through STAGES. It learns the language first, then to carry a name, on text that is
dense with names, then everything, and at the end the full context; the rates fall to zero.
"""

import argparse
import csv
import json
import math
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer

from llama import Config, Llama
from muon import Muon

END_OF_TEXT = "<|endoftext|>"
SEED = 7
STEPS, DECAY_FROM = 3600, 2200
EXPORT_EVERY = 50
CONTEXT = 1024


class Stage(NamedTuple):
    first_step: int
    text: str
    window: int
    matrix_rate: float  # of Muon
    other_rate: float  # of AdamW
    warm_up: int = 0  # steps in which the rates rise from zero


# Short windows cost less attention and bring a name closer to the place that repeats it. High rates
# learn the commonest phrases fast, but their noise drowns the weak signal that names are copied.
STAGES = (
    Stage(0, "train", 128, 0.02, 3e-3, warm_up=100),
    Stage(200, "train", 128, 0.005, 1e-3),
    Stage(280, "meetings", 128, 0.005, 1e-3),
    Stage(700, "train", 256, 0.008, 1.5e-3),
    Stage(2800, "train", 512, 0.008, 1.5e-3),
    Stage(3400, "train", 1024, 0.008, 1.5e-3),
)


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
    rows = min(len(stream) - 1, 96 * CONTEXT) // CONTEXT
    pieces = torch.from_numpy(stream[:rows * CONTEXT + 1])
    ids, targets = pieces[:-1].view(rows, CONTEXT), pieces[1:].view(rows, CONTEXT)
    losses = [loss_of(model, ids[i:i + 4], targets[i:i + 4]).item() for i in range(0, rows, 4)]
    return sum(losses) / len(losses)


def optimizers_of(model):
    """Muon for the matrices of the layers, AdamW for the embedding (which is the head) and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    embedding = model.model.embed_tokens.weight
    return (Muon(matrices, lr=0.0, weight_decay=0.02),
            torch.optim.AdamW([{"params": [embedding], "weight_decay": 0.02},
                               {"params": vectors, "weight_decay": 0.0}],
                              lr=0.0, betas=(0.9, 0.95), fused=True))


def stage_at(step):
    return max(stage for stage in STAGES if stage.first_step <= step)


def set_rates(optimizers, stage, step):
    warmth = (step + 1 - stage.first_step) / stage.warm_up if stage.warm_up else 1.0
    share = min(1.0, warmth, (STEPS - step) / (STEPS - DECAY_FROM))
    for optimizer, rate in zip(optimizers, (stage.matrix_rate, stage.other_rate)):
        for group in optimizer.param_groups:
            group["lr"] = rate * share


def train(model, windows, args, log):
    begun, tokens = time.monotonic(), 0
    optimizers = optimizers_of(model)
    for step in range(STEPS):
        stage = stage_at(step)
        set_rates(optimizers, stage, step)
        ids, targets = windows[stage.text].batch(args.batch, stage.window)
        loss = loss_of(model, ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += ids.numel()
        if step % 10 == 9:
            log(step + 1, tokens, (time.monotonic() - begun) / 60, loss.item())
        if (step + 1) % EXPORT_EVERY == 0:
            export(model, args)
    return tokens


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
    parser.add_argument("--seed", type=int, default=SEED, help="of weights and of the order of the text")
    parser.add_argument("--batch", type=int, default=4096, help="tokens a step")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(2)
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    model = Llama(Config(vocab_size=tokenizer.get_vocab_size()))
    windows = {text: Windows(*encode(args.text / f"{text}.jsonl", tokenizer), args.seed)
               for text in ("train", "meetings")}
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    rows = []

    def log(*row):
        rows.append(row)
        print("step {} tokens {} minutes {:.2f} loss {:.4f}".format(*row), flush=True)

    tokens = train(model, windows, args, log)
    export(model, args)
    held = held_out_loss(model, encode(args.text / "heldout.jsonl", tokenizer)[0])
    print(f"{STEPS} steps, {tokens} tokens; "
          f"held-out loss {held:.4f}, perplexity {math.exp(held):.3f}")
    with open(args.curve / "loss.csv", "w", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows(
            [("step", "tokens", "minutes", "loss"), *((s, t, f"{m:.2f}", f"{l:.4f}") for s, t, m, l in rows)])
    plot(args.curve / "loss.svg", rows)


if __name__ == "__main__":
    main()
