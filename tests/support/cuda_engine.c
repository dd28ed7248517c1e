/* cuda_engine.c - see cuda_engine.h for the contract. */
#include "tests/support/cuda_engine.h"

#include "tests/support/cuda_platform.h"
#include "tests/support/engine_runs.h"

struct qr_engine_config qr_run_cuda_config(const char *model_path)
{
    struct qr_engine_config config = qr_run_config(model_path);

    config.backend = qr_test_cuda_is_real() ? "cuda" : "cuda-emulated";
    config.max_running = 8;
    config.max_batch_tokens = 64;
    config.kv_pages = 64;
    return config;
}
