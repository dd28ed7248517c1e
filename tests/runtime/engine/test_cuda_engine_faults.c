/*
 * What goes wrong on a CUDA device ends a request or the start with a message that says what it
 * was, and never in a wrong token. On the emulator, which has faults to order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cuda/emulator/emulator.h"
#include "tests/support/cuda_platform.h"
#include "tests/support/engine_runs.h"
#include "tests/support/testdata.h"

enum { OUTPUT_TOKENS = 6 };

static char model_path[QR_TEST_PATH_MAX];
static const int32_t prompt[] = {1, 403, 407, 261, 378};

static int find_model(void **state)
{
    (void)state;
    if (qr_test_cuda_is_real() || !qr_testdata("models/stories260k/hf", model_path))
        model_path[0] = '\0';
    return 0;
}

static struct qr_engine_config plain_config(void)
{
    struct qr_engine_config config;

    qr_engine_config_default(&config);
    config.model_path = model_path;
    config.backend = "cuda-emulated";
    config.max_running = 4;
    config.max_batch_tokens = 32;
    config.kv_pages = 32;
    config.prefix_cache = false; /* so that every run has the prompt's step */
    return config;
}

/* An engine, what it gives while all is well, and the run at hand. */
struct rig {
    struct qr_engine *engine;
    bool is_flat;   /* top-p leaves more tokens than a selection has */
    bool is_edited; /* a penalty changes the rows */
    struct qr_run right;
    struct qr_run run;
};

static void run_one(const struct rig *rig, struct qr_run *run)
{
    struct qr_request *request =
        qr_run_request(prompt, sizeof(prompt) / sizeof(prompt[0]), OUTPUT_TOKENS);

    request->ignore_eos = true;
    if (rig->is_flat) {
        request->sampling.temperature = 50;
        request->sampling.top_p = 0.9f;
        request->sampling.seed = 3;
    }
    if (rig->is_edited)
        request->sampling.repetition_penalty = 1.3f;
    qr_run_all(rig->engine, &request, run, 1);
}

static void open_rig(struct rig *rig)
{
    struct qr_engine_config config = plain_config();

    rig->engine = qr_run_engine(&config);
    run_one(rig, &rig->right);
    assert_int_equal(rig->right.finish.reason, QR_FINISH_LENGTH);
}

static void close_rig(struct rig *rig)
{
    qr_run_free(&rig->right, 1);
    qr_engine_destroy(rig->engine);
}

/* With a fault ordered: the run ends well, or with an error that names it; tokens that came are
 * right in any case. False: with an error. */
static bool run_with_fault(struct rig *rig, const char *error)
{
    run_one(rig, &rig->run);
    qr_emulator_heal();
    assert_memory_equal(rig->run.ids, rig->right.ids, (size_t)rig->run.n_tokens * sizeof(int32_t));
    bool whole = rig->run.finish.reason == QR_FINISH_LENGTH;
    if (!whole) {
        assert_int_equal(rig->run.finish.reason, QR_FINISH_ERROR);
        assert_non_null(strstr(rig->run.finish.error.message, error));
    }
    qr_run_free(&rig->run, 1);
    return whole;
}

/* Of the prompt's step, which has too many rows for a captured one: an error that names what
 * failed; the next request is as ever. */
static void a_failure_in_a_step_ends_its_requests(void **state)
{
    static const char *const kernels[] = {
        "qr_copy_rows",   "qr_norm", "qr_activate",       "qr_select_part",
        "qr_edit_logits", "qr_draw", "qr_restore_logits",
    };
    static struct rig rig = {.is_flat = true, .is_edited = true};

    (void)state;
    if (model_path[0] == '\0')
        return;
    open_rig(&rig);
    for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
        qr_emulator_fail_launch(kernels[i], 1, QR_CU_LAUNCH_OUT_OF_RESOURCES);
        assert_false(run_with_fault(&rig, kernels[i]));
        run_one(&rig, &rig.run);
        qr_run_assert_same(&rig.run, &rig.right);
        qr_run_free(&rig.run, 1);
    }
    close_rig(&rig);
}

/* What a failed step has written is in no cache, though the next one was planned beside it. */
static void a_failed_step_leaves_nothing_to_be_found(void **state)
{
    static struct rig rig;

    (void)state;
    if (model_path[0] == '\0')
        return;
    open_rig(&rig);
    qr_engine_destroy(rig.engine);
    struct qr_engine_config config = plain_config();
    config.prefix_cache = true;
    rig.engine = qr_run_engine(&config);
    qr_emulator_fail_launch("qr_select_part", 1, QR_CU_LAUNCH_OUT_OF_RESOURCES);
    assert_false(run_with_fault(&rig, "qr_select_part"));
    run_one(&rig, &rig.run);
    assert_int_equal(rig.run.finish.usage.n_cached_tokens, 0);
    qr_run_assert_same(&rig.run, &rig.right);
    qr_run_free(&rig.run, 1);
    close_rig(&rig);
}

/* Lets each copy of a run fail; how many there are. */
static int32_t fail_each_copy(struct rig rig)
{
    int32_t n = 0;

    open_rig(&rig);
    do
        qr_emulator_fail_copy(n + 1, QR_CU_ILLEGAL_ADDRESS);
    while (!run_with_fault(&rig, "(there or in what was enqueued before)") && n++ < 1000);
    close_rig(&rig);
    return n;
}

static void every_copy_of_a_request_may_fail(void **state)
{
    (void)state;
    if (model_path[0] == '\0')
        return;
    int32_t n = fail_each_copy((struct rig){.is_flat = false});
    assert_in_range(n, OUTPUT_TOKENS, 999); /* at least one a step */
    /* No row comes for what top-p leaves, however much that is. */
    assert_int_equal(fail_each_copy((struct rig){.is_flat = true}), n);
    /* Edits go there, what they leave comes back. */
    assert_int_equal(fail_each_copy((struct rig){.is_edited = true}), n + 2 * OUTPUT_TOKENS);
}

static void too_little_memory_is_said_at_the_start(void **state)
{
    (void)state;
    if (model_path[0] == '\0')
        return;
    struct qr_emulator_settings settings = qr_emulator_get_settings();
    struct qr_engine_config config = plain_config();
    struct qr_engine *engine;
    struct qr_error err = {""};

    settings.device_bytes = 1 << 20;
    qr_emulator_set(&settings);
    assert_int_equal(qr_engine_create(&config, &engine, &err), QR_ERR_NOMEM);
    assert_non_null(strstr(err.message, "bytes are missing"));
    settings = qr_emulator_default_settings();
    qr_emulator_set(&settings);

    config.kv_pages = 0;
    config.kv_memory = INT64_C(1) << 40;
    assert_int_equal(qr_engine_create(&config, &engine, &err), QR_ERR_NOMEM);
    assert_non_null(strstr(err.message, "KV pool needs 1099511"));
    assert_int_equal(qr_emulator_bytes_in_use(), 0);
}

static void every_allocation_of_a_start_may_fail(void **state)
{
    (void)state;
    if (model_path[0] == '\0')
        return;
    struct qr_engine_config config = plain_config();
    struct qr_engine *engine = NULL;
    enum qr_status status = QR_ERR_NOMEM;
    int32_t n_failed = 0;

    for (int32_t nth = 1; status != QR_OK; nth++) {
        struct qr_error err = {""};
        qr_emulator_fail_allocation(nth);
        status = qr_engine_create(&config, &engine, &err);
        qr_emulator_heal();
        if (status == QR_OK)
            break;
        assert_int_equal(status, QR_ERR_NOMEM);
        assert_true(strlen(err.message) > 10);
        assert_int_equal(qr_emulator_bytes_in_use(), 0);
        n_failed++;
    }
    assert_true(n_failed >= 5); /* weights, workspace, pool, pinned memory */
    qr_engine_destroy(engine);
    assert_int_equal(qr_emulator_bytes_in_use(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_in_a_step_ends_its_requests),
        cmocka_unit_test(a_failed_step_leaves_nothing_to_be_found),
        cmocka_unit_test(every_copy_of_a_request_may_fail),
        cmocka_unit_test(too_little_memory_is_said_at_the_start),
        cmocka_unit_test(every_allocation_of_a_start_may_fail),
    };
    return cmocka_run_group_tests(tests, find_model, NULL);
}
