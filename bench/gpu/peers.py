#!/usr/bin/env python3
"""The cases of `quire bench cuda` by other people's programs, for comparison.

Each peer runs in a process of its own with a share of the time, so that one that hangs or crashes
leaves the others alone; one that cannot run a case says "skipped" and why. GPU work is measured as
Quire measures its own: a CUDA graph of at least 20 calls, replays timed by events, medians, buffers
in turn that together exceed the L2 cache four times.

  peers.py --quire DIR --json FILE      DIR holds the bench-*.json of ./dev gpu
  peers.py --cpu                        tiny sizes on the CPU: does this script work
"""
import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
import traceback

HEADS, KV_HEADS, DIM, PAGE = 32, 8, 128, 16

# name in Quire's figures -> (sequences, tokens of each, of the first, shared, query rows, KV type)
ATTENTION = {
    "decode bf16 64x4k": (64, 4096, 4096, 0, 1, "bf16"),
    "decode bf16 8x16k": (8, 16384, 16384, 0, 1, "bf16"),
    "decode bf16 1x4k": (1, 4096, 4096, 0, 1, "bf16"),
    "decode bf16 8x1k": (8, 1024, 1024, 0, 1, "bf16"),
    "decode fp8 64x4k": (64, 4096, 4096, 0, 1, "fp8"),
    "decode fp8 8x32k": (8, 32768, 32768, 0, 1, "fp8"),
    "decode bf16 1x64k + 63x1k": (64, 1024, 65536, 0, 1, "bf16"),
    "decode bf16 64x(8k shared + 512)": (64, 8704, 8704, 8192, 1, "bf16"),
    "prefill bf16 4k": (1, 4096, 4096, 0, 4096, "bf16"),
    "prefill bf16 512 after 16k": (1, 16896, 16896, 0, 512, "bf16"),
    "prefill bf16 40 after 16k": (1, 16424, 16424, 0, 40, "bf16"),
}
MATMUL = {
    "qkv 4096 > 6144": (4096, 6144),
    "o 4096 > 4096": (4096, 4096),
    "gate, up 4096 > 28672": (4096, 28672),
    "down 14336 > 4096": (14336, 4096),
    "head 4096 > 128256": (4096, 128256),
}
STEPS = {
    "batch 1, context 128": (1, 128),
    "batch 1, context 4k": (1, 4096),
    "batch 64, context 1k": (64, 1024),
    "batch 64, context 4k": (64, 4096),
}


class Skip(Exception):
    """A peer or a case that cannot run here; the message says why."""


class Run:
    """One peer's process: its device, its sizes, its records on standard output."""

    def __init__(self, args):
        import torch

        self.torch = torch
        self.args = args
        self.cpu = args.cpu
        if not self.cpu and not torch.cuda.is_available():
            raise Skip("PyTorch sees no CUDA device")
        self.device = "cpu" if self.cpu else "cuda"
        self.peer = f"{args.peer} {torch.__version__}"
        self.l2 = 0 if self.cpu else torch.cuda.get_device_properties(0).L2_cache_size
        torch.manual_seed(1)

    def left(self):
        return self.args.seconds - (time.monotonic() - self.args.start)

    def record(self, case, **found):
        print("RECORD " + json.dumps({"peer": self.peer, "case": case, **found}), flush=True)

    def each(self, cases, run_case):
        for case in cases:
            if self.left() < 5:
                self.record(case, skipped="the time for this peer is used up")
                continue
            try:
                run_case(case)
            except Skip as reason:
                self.record(case, skipped=str(reason))
            except Exception as failure:  # whatever another program throws: the next case runs
                traceback.print_exc()
                self.record(case, skipped=first_line(failure))
            finally:
                if not self.cpu:
                    self.torch.cuda.empty_cache()

    def attention_shape(self, case):
        """Of the device; on the CPU about a hundredth of it."""
        n, length, first, shared, rows, kv = ATTENTION[case]
        if self.cpu:
            return max(1, n // 32), length // 64, first // 64, shared // 64, max(1, rows // 64), kv
        return n, length, first, shared, rows, kv

    def n_sets(self, bytes_of_one):
        """Buffers that are used in turn, so that none is found in the cache."""
        return 2 if self.cpu else max(2, math.ceil(4 * self.l2 / bytes_of_one))

    def random(self, *shape, dtype=None):
        dtype = dtype or self.torch.bfloat16
        return self.torch.randn(*shape, device=self.device, dtype=self.torch.bfloat16).to(dtype)

    def seconds(self, call, n_sets):
        """Median seconds of call(i), i in turn below n_sets."""
        if self.cpu:
            call(0)
            start = time.perf_counter()
            call(1 % n_sets)
            return time.perf_counter() - start
        torch = self.torch
        n_calls = max(20, n_sets)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for i in range(3):
                call(i % n_sets)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for i in range(n_calls):
                call(i % n_sets)
        graph.replay()
        torch.cuda.synchronize()
        times = []
        for _ in range(15):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) * 1e-3 / n_calls)
        return statistics.median(times)

    def error(self, out, q, k, v):
        """Relative error of sequence 0 against float32; [rows][heads][dim], [tokens][kv heads][dim]."""
        torch = self.torch
        group = q.shape[1] // k.shape[1]
        q, k, v = (x.float().transpose(0, 1) for x in (q, k, v))
        k, v = (x.repeat_interleave(group, 0) for x in (k, v))
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
        rows, tokens = scores.shape[1:]
        hidden = torch.ones(rows, tokens, dtype=torch.bool, device=q.device).triu(tokens - rows + 1)
        expected = (scores.masked_fill(hidden, -math.inf).softmax(-1) @ v).transpose(0, 1)
        return ((out.float() - expected).norm() / expected.norm()).item()


def first_line(failure):
    return f"{type(failure).__name__}: {str(failure).strip().splitlines()[0][:160] if str(failure).strip() else ''}"


# ---- the peers ----


def sdpa(run):
    """torch SDPA over contiguous K and V of equal lengths: an upper bound, for it has no pages."""
    torch = run.torch
    from torch.nn.attention.bias import causal_lower_right

    def attention(case):
        n, length, first, _, rows, kv = run.attention_shape(case)
        if kv != "bf16":
            raise Skip("SDPA has no FP8 KV")
        if first != length:
            raise Skip("SDPA needs sequences of one length")
        bytes_of_one = 4 * n * KV_HEADS * length * DIM
        n_sets = run.n_sets(bytes_of_one)
        q = run.random(n, HEADS, rows, DIM)
        sets = [[run.random(n, KV_HEADS, length, DIM) for _ in "kv"] for _ in range(n_sets)]
        mask = causal_lower_right(rows, length) if rows > 1 and rows != length else None
        outs = [None]

        def call(i):
            outs[0] = torch.nn.functional.scaled_dot_product_attention(
                q, *sets[i], attn_mask=mask, is_causal=rows > 1 and mask is None, enable_gqa=True)

        seconds = run.seconds(call, n_sets)
        call(0)
        error = run.error(*(x[0].transpose(0, 1) for x in (outs[0], q, *sets[0])))
        run.record(case, seconds=seconds, error=error)

    def product(case):
        name, n_rows = case.rsplit(", ", 1)
        n_in, n_out = MATMUL[name.removeprefix("BF16 ")]
        n_rows = int(n_rows.split()[0])
        if run.cpu:
            n_in, n_out = n_in // 16, n_out // 16
        n_sets = min(64, run.n_sets(2 * n_in * n_out))
        x = run.random(n_rows, n_in)
        weights = [run.random(n_out, n_in) for _ in range(n_sets)]
        outs = [None]

        def call(i):
            outs[0] = torch.nn.functional.linear(x, weights[i])

        seconds = run.seconds(call, n_sets)
        call(0)
        expected = x.float() @ weights[0].float().T
        error = ((outs[0].float() - expected).norm() / expected.norm()).item()
        run.record(case, seconds=seconds, error=error)

    run.peer = f"torch {torch.__version__} SDPA, contiguous"
    run.each(ATTENTION, attention)
    run.peer = f"torch {torch.__version__} linear"
    run.each([f"BF16 {name}, {rows} row{'s' if rows > 1 else ''}"
              for name in MATMUL for rows in (1, 8, 64, 512)], product)


def flex(run):
    """flex_attention, compiled, with a block mask over pages of 128 tokens at places by chance."""
    torch = run.torch
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    run.peer = f"torch {torch.__version__} flex_attention"
    block = 16 if run.cpu else 128
    compiled = flex_attention if run.cpu else torch.compile(flex_attention, dynamic=False)

    def attention(case):
        n, length, first, shared, rows, kv = run.attention_shape(case)
        if kv != "bf16":
            raise Skip("no FP8 KV here")
        if shared:
            raise Skip("no cascade: it would read the shared pages once for each sequence")
        if rows > 1:
            raise Skip("the paged mask here is for decoding")
        lengths = torch.full((n,), length, device=run.device)
        lengths[0] = first
        n_blocks = (lengths + block - 1) // block
        total = int(n_blocks.sum())
        places = torch.randperm(total, device=run.device)
        starts = torch.cat([torch.zeros(1, dtype=torch.long, device=run.device), n_blocks.cumsum(0)])
        # Where each logical block of a sequence stands, and which logical block a place holds. The
        # mask wants room for all places in each row of the table.
        table = torch.zeros(n, total, dtype=torch.int32, device=run.device)
        logical = torch.full((n, total), -1, dtype=torch.int32, device=run.device)
        for seq in range(n):
            own = places[starts[seq]:starts[seq + 1]]
            table[seq, :len(own)] = own.int()
            logical[seq, own] = torch.arange(len(own), dtype=torch.int32, device=run.device)

        def visible(b, h, q_index, kv_index):
            token = logical[b, kv_index // block] * block + kv_index % block
            return (token >= 0) & (token < lengths[b])

        mask = BlockMask.from_kv_blocks(
            n_blocks.int().view(n, 1, 1), table.view(n, 1, 1, total), BLOCK_SIZE=(block, block),
            mask_mod=visible, seq_lengths=(1, total * block))
        n_sets = run.n_sets(4 * total * block * KV_HEADS * DIM)
        q = run.random(n, HEADS, 1, DIM)
        sets = [[run.random(1, KV_HEADS, total * block, DIM) for _ in "kv"] for _ in range(n_sets)]
        outs = [None]

        def call(i):
            k, v = (x.expand(n, -1, -1, -1) for x in sets[i])
            outs[0] = compiled(q, k, v, block_mask=mask, enable_gqa=True)

        seconds = run.seconds(call, n_sets)
        call(0)
        tokens = torch.arange(int(lengths[0]), device=run.device)
        at = table[0, tokens // block].long() * block + tokens % block
        k, v = (x[0][:, at].transpose(0, 1) for x in sets[0])
        run.record(case, seconds=seconds, error=run.error(outs[0][0].transpose(0, 1),
                                                          q[0].transpose(0, 1), k, v))

    run.each(ATTENTION, attention)


def flashinfer(run):
    """FlashInfer's paged decode and prefill, pages of 16 tokens at places by chance."""
    torch = run.torch
    import flashinfer as fi

    if run.cpu:
        raise Skip("FlashInfer needs a GPU")
    run.peer = f"flashinfer {fi.__version__}"

    def attention(case):
        n, length, first, shared, rows, kv = run.attention_shape(case)
        dtype = torch.bfloat16 if kv == "bf16" else torch.float8_e4m3fn
        if shared:
            raise Skip("its cascade has another interface")
        lengths = [first] + [length] * (n - 1)
        n_pages = [(tokens + PAGE - 1) // PAGE for tokens in lengths]
        total = sum(n_pages)
        places = torch.randperm(total, device=run.device).int()
        starts = torch.tensor([sum(n_pages[:i]) for i in range(n + 1)]).int()
        last = torch.tensor([(tokens - 1) % PAGE + 1 for tokens in lengths]).int()
        workspace = torch.empty(256 << 20, dtype=torch.uint8, device=run.device)
        types = {"q_data_type": torch.bfloat16, "kv_data_type": dtype}
        if rows == 1:
            wrapper = fi.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD", use_tensor_cores=True)
            wrapper.plan(starts, places, last, HEADS, KV_HEADS, DIM, PAGE, **types)
        else:
            wrapper = fi.BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD")
            wrapper.plan(torch.tensor([0, rows]).int(), starts, places, last, HEADS, KV_HEADS, DIM,
                         PAGE, causal=True, **types)
        n_sets = run.n_sets(2 * total * PAGE * KV_HEADS * DIM * dtype.itemsize)
        q = run.random(n * rows, HEADS, DIM)
        sets = [[run.random(total, PAGE, KV_HEADS, DIM, dtype=dtype) for _ in "kv"]
                for _ in range(n_sets)]
        outs = [None]

        def call(i):
            outs[0] = wrapper.run(q, tuple(sets[i]))

        seconds = run.seconds(call, n_sets)
        call(0)
        own = places[:n_pages[0]].long()
        k, v = (x[own].flatten(0, 1)[:lengths[0]] for x in sets[0])
        run.record(case, seconds=seconds, error=run.error(outs[0][:rows], q[:rows], k, v))

    run.each(ATTENTION, attention)


def transformers(run):
    """A whole model by generate_batch with paged attention; random weights of the same shapes."""
    torch = run.torch
    import transformers as hf

    run.peer = f"transformers {hf.__version__} generate_batch, sdpa"
    with open(run.args.model, encoding="utf-8") as file:
        shape = json.load(file)
    if run.cpu:
        shape.update(hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                     num_attention_heads=4, num_key_value_heads=2, vocab_size=512, bos_token_id=1, eos_token_id=2)
    config = hf.LlamaConfig(**{key: value for key, value in shape.items()
                               if key not in ("architectures", "model_type", "torch_dtype")})
    # generate_batch makes paged attention of it, under a name that differs between versions.
    with torch.device(run.device):
        model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa",
                                                    dtype=torch.bfloat16).eval()

    def generate(batch, context, n_tokens):
        """Seconds of a whole run."""
        generator = torch.Generator().manual_seed(7)
        prompts = torch.randint(3, config.vocab_size, (batch, context), generator=generator).tolist()
        settings = hf.GenerationConfig(max_new_tokens=n_tokens, do_sample=False, eos_token_id=-1,
                                       pad_token_id=0)
        more = {}
        if run.cpu:  # it would size its cache by all of the machine's memory
            more["continuous_batching_config"] = hf.generation.ContinuousBatchingConfig(
                page_size=32, num_blocks=64, max_batch_tokens=128)
        start = time.perf_counter()
        outputs = model.generate_batch(inputs=prompts, generation_config=settings, **more)
        seconds = time.perf_counter() - start
        found = sorted(len(output.generated_tokens) for output in outputs.values())
        if found != [n_tokens] * batch:
            raise Skip(f"generate_batch gave {found[:3]}... tokens, not {batch} times {n_tokens}")
        return seconds

    def step(case):
        batch, context = STEPS[case]
        few, many = 8, 40
        if run.cpu:
            batch, context, few, many = max(1, batch // 32), context // 64, 2, 6
        if not run.cpu and run.left() < 20:
            raise Skip("the time for this peer is used up")
        generate(1, 16, 4)  # warm
        short = generate(batch, context, few)
        if run.left() < 1.5 * short:
            raise Skip(f"its prompts alone take {short:.0f} s")
        seconds = (generate(batch, context, many) - short) / (many - few)
        if seconds <= 0:
            raise Skip("the difference of two runs is lost in their spread")
        run.record(case, seconds=seconds, note="difference of two runs")

    run.each(STEPS, step)


# name -> (function, modules that it needs, share of the time)
PEERS = {
    "sdpa": (sdpa, ["torch"], 0.3),
    "transformers": (transformers, ["torch", "transformers"], 0.45),
    "flashinfer": (flashinfer, ["torch", "flashinfer"], 0.3),
    "flex": (flex, ["torch"], 0.4),
}


def run_child(args):
    """In the process of one peer."""
    try:
        PEERS[args.peer][0](Run(args))
    except Skip as reason:
        print("RECORD " + json.dumps({"peer": args.peer, "case": "all", "skipped": str(reason)}))
    except Exception as failure:
        traceback.print_exc()
        print("RECORD " + json.dumps({"peer": args.peer, "case": "all",
                                      "skipped": first_line(failure)}))


def run_peer(name, args, seconds):
    """The records of one peer."""
    missing = [module for module in PEERS[name][1] if importlib.util.find_spec(module) is None]
    if missing:
        return [{"peer": name, "case": "all", "skipped": f"no Python package {missing[0]}"}]
    if seconds < 15 and not args.cpu:
        return [{"peer": name, "case": "all", "skipped": "no time is left"}]
    command = [sys.executable, os.path.abspath(__file__), "--peer", name, "--model", args.model,
               "--seconds", str(seconds)] + ["--cpu"] * args.cpu
    late = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as child:
        try:
            output, _ = child.communicate(timeout=seconds + 5)
        except subprocess.TimeoutExpired:
            child.kill()
            output, _ = child.communicate()
            late = True
    records = [json.loads(line[len("RECORD "):]) for line in output.splitlines()
               if line.startswith("RECORD ")]
    if late or child.returncode != 0:
        reason = "it took too long" if late else f"it ended with status {child.returncode}"
        records.append({"peer": name, "case": "the rest", "skipped": reason})
    return records


def quire_figures(folder):
    """name -> median seconds, of all bench-*.json in the folder."""
    figures = {}
    if folder:
        for file_name in sorted(os.listdir(folder)):
            if file_name.startswith("bench-") and file_name.endswith(".json"):
                with open(os.path.join(folder, file_name), encoding="utf-8") as file:
                    for figure in json.load(file).get("figures", []):
                        if figure.get("seconds", 0) > 0:
                            figures[figure["name"]] = figure["seconds"]
    return figures


def print_table(records, figures):
    print(f"{'case':34} {'Quire us':>10} {'peer us':>10} {'peer/Quire':>10} {'error':>8}  peer")
    for record in records:
        if "seconds" not in record:
            continue
        quire, peer = figures.get(record["case"]), record["seconds"]
        ours = f"{quire * 1e6:10.1f}" if quire else f"{'-':>10}"
        ratio = f"{peer / quire:10.2f}" if quire else f"{'-':>10}"
        error = f"{record['error']:8.0e}" if "error" in record else f"{'-':>8}"
        print(f"{record['case']:34} {ours} {peer * 1e6:10.1f} {ratio} {error}  {record['peer']}")
    for record in records:
        if "skipped" in record:
            print(f"  skipped: {record['peer']}, {record['case']}: {record['skipped']}")
    if all("skipped" in record for record in records):
        print("skipped: no peer could run")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quire", help="folder with bench-*.json of `quire bench cuda`")
    parser.add_argument("--model", default=os.path.join(here, "../models/llama-3.1-8b.json"))
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--seconds", type=float, default=150, help="for all of it (150)")
    parser.add_argument("--only", help="of: " + ", ".join(PEERS))
    parser.add_argument("--cpu", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.start = time.monotonic()
    if args.peer:
        run_child(args)
        return
    names = args.only.split(",") if args.only else list(PEERS)
    for name in names:
        if name not in PEERS:
            parser.error(f"no peer '{name}', only: {', '.join(PEERS)}")
    records = []
    for name in names:
        left = args.seconds - (time.monotonic() - args.start) - 5
        records += run_peer(name, args, min(left, PEERS[name][2] * args.seconds))
    print_table(records, quire_figures(args.quire))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"records": records}, file, indent=1)


if __name__ == "__main__":
    main()
