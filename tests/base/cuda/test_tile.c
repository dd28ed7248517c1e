#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cuda/cuda.h"
#include "base/cuda/emulator/emulator.h"
#include "base/dtype.h"
#include "tests/base/cuda/tile_kernel.h"
#include "tests/support/cuda_platform.h"

enum { N_TILES = 5, N_STEPS = 21, N_W = N_TILES * N_STEPS * 256, N_X = N_STEPS * 128 };

static uint16_t small_bf16(uint32_t *random)
{
    *random = *random * 1664525u + 1013904223u;
    float value = (float)((int)(*random >> 24) - 128) / 64.0f;
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)(bits >> 16); /* 8 bits of mantissa: exact */
}

static void check_product(const uint16_t *w, const uint16_t *x, const float *out)
{
    for (int tile = 0; tile < N_TILES; tile++)
        for (int row = 0; row < 16; row++)
            for (int column = 0; column < 8; column++) {
                double sum = 0.0;
                for (int step = 0; step < N_STEPS; step++)
                    for (int k = 0; k < 16; k++)
                        sum += (double)qr_bf16_to_f32(
                                   w[((tile * N_STEPS + step) * 16 + row) * 16 + k]) *
                               (double)qr_bf16_to_f32(x[(step * 8 + column) * 16 + k]);
                assert_true(out[(tile * 16 + row) * 8 + column] == (float)sum);
            }
}

static void multiply_on(const char *kernel_name, int block_size, int shared_bytes, int capability)
{
    struct qr_cuda cuda;
    struct qr_error err = {0};
    struct qr_cuda_kernel kernel;
    qr_test_cuda_open(&cuda);
    cuda.launch_early = false;
    if (cuda.properties.capability < capability) {
        qr_cuda_close(&cuda);
        return;
    }
    assert_int_equal(
        qr_cuda_find_kernel(&cuda, kernel_name, block_size, shared_bytes, &kernel, &err), QR_OK);
    static uint16_t w[N_W], x[N_X];
    static float out[N_TILES * 128];
    uint32_t random = 7;
    for (int i = 0; i < N_W; i++)
        w[i] = small_bf16(&random);
    for (int i = 0; i < N_X; i++)
        x[i] = small_bf16(&random);
    qr_cu_address on_device[3] = {qr_cuda_alloc(&cuda, sizeof(w)), qr_cuda_alloc(&cuda, sizeof(x)),
                                  qr_cuda_alloc(&cuda, sizeof(out))};
    qr_cuda_copy_to_device(&cuda, "w", on_device[0], w, sizeof(w));
    qr_cuda_copy_to_device(&cuda, "x", on_device[1], x, sizeof(x));
    const struct qr_test_tile_params params = {.w = (void *)on_device[0],
                                               .x = (void *)on_device[1],
                                               .out = (float *)on_device[2],
                                               .n_steps = N_STEPS};
    qr_cuda_launch(&cuda, &kernel, N_TILES, 1, &params);
    qr_cuda_copy_to_host(&cuda, "out", out, on_device[2], sizeof(out));
    qr_cuda_synchronize(&cuda);
    assert_int_equal(qr_cuda_take_failure(&cuda, &err), QR_OK);
    check_product(w, x, out);
    for (int i = 0; i < 3; i++)
        qr_cuda_free(&cuda, on_device[i]);
    qr_cuda_close(&cuda);
}

static void products_are_exact_in_every_schedule(void **state)
{
    (void)state;
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    for (int i = 0; i < 24; i++) {
        settings.seed = (uint64_t)(i / 3);
        settings.async = (enum qr_emulator_async)(i % 3);
        settings.late_streams = i % 2 == 1;
        qr_emulator_set(&settings);
        multiply_on("qr_test_tile_async", 128, 4 * 3 * 512, 80);
        multiply_on("qr_test_tile_bulk", 160, 8 * 512 + 128, 90);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_are_exact_in_every_schedule)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
