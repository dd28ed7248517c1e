/*
 * test_cuda_gguf.c - weights in blocks on a CUDA device: they come to it as BF16, so that a model
 * gives the bits of one whose weights were BF16 from the start.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/cuda_platform.h"
#include "tests/support/gguf_block_models.h"
#include "tests/support/model_rig.h"

enum { VOCAB = GGUF_BLOCK_MODEL_VOCAB, N_IDS = 6 };

static void run(const struct qr_temp_dir *dir, const char *name, float *logits)
{
    char path[QR_TEMP_PATH_MAX + 16];
    struct model_rig rig;
    int32_t ids[N_IDS];

    for (int i = 0; i < N_IDS; i++)
        ids[i] = i * 7 % VOCAB;
    snprintf(path, sizeof(path), "%s/%s", dir->path, name);
    model_rig_open(&rig, path, qr_test_cuda_is_real() ? "cuda" : "cuda-emulated", NULL, 1);
    model_rig_run(&rig, ids, N_IDS, N_IDS, logits);
    model_rig_close(&rig);
}

static void blocks_give_the_bits_of_bf16(void **state)
{
    (void)state;
    static const enum qr_dtype dtypes[] = {QR_DTYPE_Q8_0, QR_DTYPE_Q4_K};
    float found[MODEL_RIG_TOKENS * VOCAB] = {0}, wanted[MODEL_RIG_TOKENS * VOCAB] = {0};

    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
        struct qr_temp_dir dir;
        qr_temp_dir_make(&dir);
        gguf_write_block_models(&dir, dtypes[i], QR_DTYPE_BF16);
        run(&dir, "blocks.gguf", found);
        run(&dir, "plain.gguf", wanted);
        assert_memory_equal(found, wanted, N_IDS * VOCAB * sizeof(float));
        assert_true(found[0] != found[1]);
        qr_temp_dir_remove(&dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_give_the_bits_of_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
