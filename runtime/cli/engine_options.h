/*
 * engine_options.h - the options of every command that starts an engine.
 *
 * Rows for a command's table, written into a struct qr_engine_config that
 * qr_engine_config_default has filled.
 */
#ifndef QUIRE_RUNTIME_CLI_ENGINE_OPTIONS_H
#define QUIRE_RUNTIME_CLI_ENGINE_OPTIONS_H

#include "runtime/cli/options.h"
#include "runtime/engine/engine.h"

/* Of enum qr_quantize. */
#define QR_QUANTIZE_NAMES "none|q8_0|q4_0|q4_K"

/* clang-format off */
#define QR_ENGINE_OPTION_ROWS(config)                                                             \
    {"model", QR_OPTION_STRING, "PATH", &(config)->model_path, 0, 0,                              \
     "model directory, FILE.gguf, or synthetic:CONFIG.json[,bf16|f16|f32]: its shapes with "        \
     "random weights, bytes as tokens; default: the demo model", NULL},                           \
    {"backend", QR_OPTION_STRING, "NAME", &(config)->backend, 0, 0,                               \
     "auto, cpu or cuda; default auto: a GPU where there is one", NULL},                                                    \
    {"device", QR_OPTION_INT, "N", &(config)->device, -1, 1023,                                   \
     "GPU of the cuda backend, from 0; default -1: the backend's choice", NULL},                  \
    {"isa", QR_OPTION_STRING, "NAME", &(config)->isa, 0, 0,                                       \
     "CPU kernels: auto, scalar, neon, avx2, avx512, avx512vnni, avx512bf16 or amx; default auto (the best that runs here)", NULL},  \
    {"kv-dtype", QR_OPTION_CHOICE, "auto|f32|f16|bf16|fp8", &(config)->kv_dtype, 0, 0,            \
     "numbers in KV pages; default auto: F32 on the CPU, where f16 and bf16 take half of it; the "      \
     "weights' own on a GPU, where fp8 takes half", NULL},                                                                   \
    {"weights", QR_OPTION_CHOICE, "auto|fp8|int8", &(config)->weights, 0, 0,                      \
     "what a GPU makes of matrices when it loads them: 8 bits with a scale a row; default auto: "  \
     "16 bits, or F32 where they are", NULL},                                                     \
    {"quantize", QR_OPTION_CHOICE, QR_QUANTIZE_NAMES, &(config)->quantize, 0, 0,                  \
     "what the CPU makes of matrices of F32, F16 and BF16 when it loads them; the head of a "     \
     "model is Q8_0 then (docs/models.md); default none", NULL},                                  \
    {"weights-cache", QR_OPTION_STRING, "DIR", &(config)->weights_cache, 0, 0,                    \
     "folder where the CPU keeps a model's packed and quantized matrices for the next start, "    \
     "which maps them (docs/cpu.md); default: none", NULL},                                       \
    {"deterministic", QR_OPTION_SWITCH, "on|off", &(config)->deterministic, 0, 0,                 \
     "on a GPU: the same bits in any batch also in steps of 128 rows or more, without cuBLASLt "  \
     "and attention by warpgroups; default off",                                                  \
     NULL},                                                                                       \
    {"threads", QR_OPTION_INT, "N", &(config)->n_threads, 0, 1024,                                \
     "CPU threads, 0 to 1024; default 0: one a core", NULL},                                      \
    {"kv-memory", QR_OPTION_SIZE, "SIZE", &(config)->kv_memory, 0, 0x1p50,                        \
     "bytes of the KV page pool; default 0: what can run, at most 512 MiB, on a GPU what is free", \
     NULL},                                                                                       \
    {"kv-pages", QR_OPTION_INT, "N", &(config)->kv_pages, 0, 1 << 30,                             \
     "pages of the KV pool, instead of --kv-memory; default 0: unused", NULL},                    \
    {"page-size", QR_OPTION_INT, "TOKENS", &(config)->page_size, 8, 256,                          \
     "tokens a KV page, a power of two from 8 to 256; default 16", NULL},                         \
    {"max-batch-tokens", QR_OPTION_INT, "N", &(config)->max_batch_tokens, 0, 1 << 20,             \
     "rows of one step: decodes and prefill chunks, up to 1048576; default 0: 192 on the CPU, "   \
     "512 on a GPU, or --max-running where that is more", NULL},                                  \
    {"max-prefill-chunk", QR_OPTION_INT, "N", &(config)->max_prefill_chunk, 0, 1 << 20,           \
     "prompt rows of one sequence in one step; default 0: what the batch allows", NULL},          \
    {"max-stall", QR_OPTION_INT, "MS", &(config)->max_stall_ms, 0, 1000000,                       \
     "answers wait so long at most for the prompt rows of a step, by measured speed: these are "  \
     "fewer then, but 32 at least; default 60; 0: no bound",                                      \
     NULL},                                                                                       \
    {"max-running", QR_OPTION_INT, "N", &(config)->max_running, 1, 1 << 16,                       \
     "sequences in one batch, 1 to 65536; default 64", NULL},                                     \
    {"max-queue", QR_OPTION_INT, "N", &(config)->max_queue, 1, 1 << 20,                           \
     "requests that may wait, 1 to 1048576; more are refused; default 1024", NULL},               \
    {"max-context", QR_OPTION_INT, "TOKENS", &(config)->max_context, 0, 1 << 30,                  \
     "bound on prompt and output together; default 0: the model's", NULL},                        \
    {"swap-memory", QR_OPTION_SIZE, "SIZE", &(config)->swap_memory, 0, 0x1p50,                    \
     "bytes of host memory for KV pages that are moved out; default 0: none", NULL},              \
    {"swap-dir", QR_OPTION_STRING, "PATH", &(config)->swap_dir, 0, 0,                             \
     "folder for KV pages that are moved out to disk, with --swap-disk; default: none", NULL},    \
    {"swap-disk", QR_OPTION_SIZE, "SIZE", &(config)->swap_disk, 0, 0x1p60,                        \
     "bytes of disk for KV pages that are moved out; default 0: none", NULL},                     \
    {"prefix-cache", QR_OPTION_SWITCH, "on|off", &(config)->prefix_cache, 0, 0,                   \
     "requests with the same beginning share its KV pages; default on", NULL},                    \
    {"discipline", QR_OPTION_CHOICE, "cost|swap|recompute|reserve", &(config)->discipline, 0, 0,  \
     "when KV memory runs out (docs/scheduling.md); cost is Quire's, the others are for "         \
     "comparison; default cost", NULL},                                                           \
    {"record", QR_OPTION_STRING, "FILE", &(config)->record, 0, 0,                                 \
     "record what the scheduler does, for quire replay; default: off", NULL}

/* The tenants of a command that serves several. */
#define QR_TENANT_OPTION_ROW(config)                                                              \
    {"tenant", QR_OPTION_LIST, "NAME=WEIGHT[,QUOTA%]", &(config)->tenants, 0, 0,                  \
     "a tenant's share of the server (1e-6 to 1e6; others have 1), and of the KV pool at most "       \
     "(above 0 to 100 %; default: no bound); may be repeated, or joined by semicolons", NULL}
/* clang-format on */

#endif /* QUIRE_RUNTIME_CLI_ENGINE_OPTIONS_H */
