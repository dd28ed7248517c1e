"""Continues a prompt with the trained model, for reading what it has learnt.

    python sample.py --model ../../models/demo --prompt "Once upon a time" [--seed 1]
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from llama import Config, Llama


def load(folder):
    config = json.loads((folder / "config.json").read_text())
    model = Llama(Config(**{key: config[key] for key in vars(Config())}))
    model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json")), config["eos_token_id"]


def draw(logits, temperature, top_p, rng):
    if temperature == 0:
        return logits.argmax().item()
    probs, order = torch.softmax(logits / temperature, -1).sort(descending=True)
    probs[probs.cumsum(-1) - probs >= top_p] = 0
    return order[torch.multinomial(probs, 1, generator=rng)].item()


@torch.no_grad()
def continue_text(model, tokenizer, end, prompt, args):
    rng = torch.Generator().manual_seed(args.seed)
    ids = [end] + tokenizer.encode(prompt).ids
    while len(ids) < min(model.cfg.max_position_embeddings, args.max_tokens):
        token = draw(model(torch.tensor([ids]))[0, -1], args.temperature, args.top_p, rng)
        if token == end:
            break
        ids.append(token)
    return tokenizer.decode(ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--top-p", type=float, default=0.9)
    parser.add_argument("--max-tokens", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(continue_text(*load(args.model), args.prompt, args))


if __name__ == "__main__":
    main()
