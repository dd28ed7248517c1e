/*
 * `quire bench cuda --smoke`: every group runs at tiny sizes, its results are right, and the
 * figures are all there.
 */
#include "runtime/bench/cuda/cuda_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/cuda_platform.h"
#include "tests/support/temp_dir.h"

/* The shapes of a model that even the emulator runs in no time. */
static const char tiny_config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 64,"
    " \"intermediate_size\": 96, \"num_hidden_layers\": 1, \"num_attention_heads\": 1,"
    " \"num_key_value_heads\": 1, \"vocab_size\": 512, \"max_position_embeddings\": 256,"
    " \"rms_norm_eps\": 1e-5, \"torch_dtype\": \"bfloat16\", \"bos_token_id\": 1,"
    " \"eos_token_id\": 2}";

/* The group's figures on this platform; fails the test on an error or a wrong result. */
static void run_group(uint32_t what, const char *group, int32_t n_figures)
{
    struct qr_temp_dir folder;
    char model[QR_TEMP_PATH_MAX + 32];
    struct qr_error err;
    struct qr_cuda_bench bench;
    int32_t n = 0;

    qr_temp_dir_make(&folder);
    qr_temp_dir_write(&folder, "config.json", tiny_config, strlen(tiny_config));
    snprintf(model, sizeof(model), "synthetic:%s/config.json", folder.path);
    const struct qr_cuda_bench_config config = {
        .platform = qr_test_cuda_platform(),
        .what = what,
        .smoke = true,
        .model = model,
        .backend = qr_test_cuda_is_real() ? "cuda" : "cuda-emulated",
    };
    if (qr_cuda_bench_open(&bench, &config, &err) != QR_OK)
        fail_msg("%s", err.message);
    if (qr_cuda_bench_run(&bench, &err) != QR_OK)
        fail_msg("%s", err.message);
    qr_cuda_bench_print(&bench, stdout);
    for (int32_t i = 0; i < bench.n_figures; i++) {
        const struct qr_cuda_figure *figure = &bench.figures[i];
        n += strcmp(figure->group, group) == 0;
        if (figure->checked && !(figure->error <= figure->error_bound))
            fail_msg("%s: error %g", figure->name, figure->error);
    }
    assert_int_equal(qr_cuda_bench_n_wrong(&bench), 0);
    assert_int_equal(n, n_figures);

    json_t *json = qr_cuda_bench_json(&bench);
    assert_non_null(json);
    assert_int_equal(json_array_size(json_object_get(json, "figures")), bench.n_figures);
    assert_true(json_number_value(json_object_get(json, "read_bytes_per_second")) > 0);
    json_decref(json);
    qr_cuda_bench_close(&bench);
    qr_temp_dir_remove(&folder);
}

static void bandwidth(void **state)
{
    (void)state;
    run_group(QR_BENCH_BANDWIDTH, "bandwidth", 4);
}

static void attention(void **state)
{
    (void)state;
    run_group(QR_BENCH_ATTENTION, "attention", 14);
}

static void matmul(void **state)
{
    (void)state;
    run_group(QR_BENCH_MATMUL, "matmul", 5 * 3 * 3);
}

static void swap(void **state)
{
    (void)state;
    run_group(QR_BENCH_SWAP, "swap", 5);
}

static void step(void **state)
{
    (void)state;
    run_group(QR_BENCH_STEP, "step", 4 * 2);
}

/* A wrong result, and one that is NaN, are counted and named. */
static void wrong_results_are_counted(void **state)
{
    (void)state;
    struct qr_cuda_figure figures[] = {
        {.name = "right", .checked = true, .error = 0, .error_bound = 0},
        {.name = "off", .checked = true, .error = 0.2, .error_bound = 0.1},
        {.name = "nan", .checked = true, .error = __builtin_nan(""), .error_bound = 0.1},
        {.name = "unchecked", .error = 1},
    };
    const struct qr_cuda_bench bench = {.figures = figures, .n_figures = 4};

    assert_int_equal(qr_cuda_bench_n_wrong(&bench), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bandwidth), cmocka_unit_test(attention),
        cmocka_unit_test(matmul),    cmocka_unit_test(swap),
        cmocka_unit_test(step),      cmocka_unit_test(wrong_results_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
