#!/usr/bin/env python3
"""Write a GGUF file of a LLaMA-shaped model with random weights, for Quire and llama.cpp alike.

    bench/make_gguf.py CONFIG.json TYPE OUTPUT.gguf

CONFIG.json is a Hugging Face config (bench/models/); TYPE is f32, f16, bf16, q8_0, q4_0, q4_K or
q6_K, of every matrix, while norms stay F32. Matrices are uniform with variance 1 / n_in. Those of
q4_K and q6_K, which the gguf package cannot quantise to, are blocks of random bits with such scales
that their variance is the same. The tokenizer has the bytes and made-up words. The head's rows of
bytes and special tokens are 0, so that greedy output is whole words: servers hold back the text of
a part of a character.

Needs gguf and numpy (bench/requirements.txt).
"""
import argparse
import json
import math
import pathlib
import sys

import gguf
import numpy
from gguf import GGMLQuantizationType as Type

FILE_TYPES = {Type.F32: gguf.LlamaFileType.ALL_F32, Type.F16: gguf.LlamaFileType.MOSTLY_F16,
              Type.BF16: gguf.LlamaFileType.MOSTLY_BF16, Type.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
              Type.Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0,
              Type.Q4_K: gguf.LlamaFileType.MOSTLY_Q4_K_M, Type.Q6_K: gguf.LlamaFileType.MOSTLY_Q6_K}
SPECIAL = ("<unk>", "<s>", "</s>")
N_BYTES = 256


def half(values):
    """F16 numbers [n] as bytes [n][2]."""
    return values.astype("<f2")[:, None].view(numpy.uint8)


def random_q4_k(random, n_blocks, n_in):
    """An element is d * s * q - dmin * m: s and m of 6 bits, q of 4; dmin = 7.5 d makes the mean 0."""
    s_square, s_mean = numpy.mean(numpy.arange(64.0) ** 2), 31.5
    q_square, q_mean = numpy.mean(numpy.arange(16.0) ** 2), 7.5
    variance = (s_square * q_square - (s_mean * q_mean) ** 2
                + q_mean ** 2 * (s_square - s_mean ** 2))
    d = numpy.full(n_blocks, 1 / math.sqrt(variance * n_in), numpy.float32)
    bits = random.integers(0, 256, (n_blocks, 12 + 128), numpy.uint8)
    return numpy.concatenate([half(d), half(q_mean * d), bits], axis=1)


def random_q6_k(random, n_blocks, n_in):
    """An element is d * s * (q - 32): s of 8 bits, of which [-16, 16) are used, q of 6."""
    variance = numpy.mean(numpy.arange(-16.0, 16) ** 2) * numpy.mean(numpy.arange(-32.0, 32) ** 2)
    d = numpy.full(n_blocks, 1 / math.sqrt(variance * n_in), numpy.float32)
    bits = random.integers(0, 256, (n_blocks, 128 + 64), numpy.uint8)
    scales = random.integers(-16, 16, (n_blocks, 16), numpy.int8).view(numpy.uint8)
    return numpy.concatenate([bits, scales, half(d)], axis=1)


RANDOM_BLOCKS = {Type.Q4_K: random_q4_k, Type.Q6_K: random_q6_k}


def random_matrix(random, n_out, n_in, kind):
    if kind in RANDOM_BLOCKS:
        blocks = RANDOM_BLOCKS[kind](random, n_out * n_in // gguf.GGML_QUANT_SIZES[kind][0], n_in)
        return blocks.reshape(n_out, -1)
    values = random.random((n_out, n_in), numpy.float32)
    values -= 0.5
    values *= math.sqrt(12 / n_in)
    return gguf.quantize(values, kind)


def tensor(random, name, shape, kind, head):
    if len(shape) == 1:
        return numpy.ones(shape, numpy.float32)
    matrix = random_matrix(random, *shape, kind)
    if name == head:
        matrix[:len(SPECIAL) + N_BYTES] = 0  # blocks of zero bytes are numbers of 0, too
    return matrix


def matrices(config):
    """Names and shapes [n_out, n_in] of the matrices, norms [n], in the file's order."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    q, kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    yield "token_embd", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        for name, shape in (("attn_norm", (hidden,)), ("attn_q", (q, hidden)), ("attn_k", (kv, hidden)),
                            ("attn_v", (kv, hidden)), ("attn_output", (hidden, q)),
                            ("ffn_norm", (hidden,)), ("ffn_gate", (inner, hidden)),
                            ("ffn_up", (inner, hidden)), ("ffn_down", (hidden, inner))):
            yield f"blk.{layer}.{name}", shape
    yield "output_norm", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "output", (config["vocab_size"], hidden)


def check(config, kind):
    block = gguf.GGML_QUANT_SIZES[kind][0]
    if config["model_type"] != "llama":
        sys.exit(f"make_gguf.py: model_type is {config['model_type']}, only llama is written")
    for name, shape in matrices(config):
        if len(shape) == 2 and shape[1] % block != 0:
            sys.exit(f"make_gguf.py: rows of {name} have {shape[1]} elements, which are no whole "
                     f"number of {kind.name}'s blocks of {block}")


def add_settings(writer, config, kind):
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_name("random weights")
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])


def add_tokenizer(writer, vocab_size):
    kinds = gguf.TokenType
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(N_BYTES))]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * N_BYTES]
    if vocab_size < len(tokens):
        sys.exit(f"make_gguf.py: vocab_size is {vocab_size}, the tokenizer needs {len(tokens)}")
    n_words = vocab_size - len(tokens)
    tokens += [f"\u2581w{word}" for word in range(n_words)]
    types += [kinds.NORMAL] * n_words
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([float(-index) for index in range(vocab_size)])
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def add_infos(writer, config, kind):
    for name, shape in matrices(config):
        name += ".weight"
        if len(shape) == 1:
            writer.add_tensor_info(name, shape, numpy.dtype(numpy.float32), 4 * shape[0])
            continue
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        row_bytes = shape[1] // block * block_bytes
        plain = {Type.F32: numpy.float32, Type.F16: numpy.float16}.get(kind)
        if plain is not None:
            writer.add_tensor_info(name, shape, numpy.dtype(plain), shape[0] * row_bytes)
        else:
            writer.add_tensor_info(name, (shape[0], row_bytes), numpy.dtype(numpy.uint8),
                                   shape[0] * row_bytes, raw_dtype=kind)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("type", choices=[kind.name for kind in FILE_TYPES], type=lambda name:
                        name.upper())
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    config, kind = json.loads(options.config.read_text()), Type[options.type]
    check(config, kind)
    writer = gguf.GGUFWriter(options.output, "llama")
    add_settings(writer, config, kind)
    add_tokenizer(writer, config["vocab_size"])
    add_infos(writer, config, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = numpy.random.default_rng(options.seed)
    head = "token_embd" if config["tie_word_embeddings"] else "output"
    for name, shape in matrices(config):
        writer.write_tensor_data(tensor(random, name, shape, kind, head))
    writer.close()


main()
