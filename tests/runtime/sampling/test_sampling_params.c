#include "runtime/sampling/sampling_params.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 100 };

static struct qr_sampling_params defaults(void)
{
    struct qr_sampling_params params;
    qr_sampling_params_default(&params);
    return params;
}

static void assert_ok(const struct qr_sampling_params *params)
{
    const char *field = NULL;
    struct qr_error err = {""};
    assert_int_equal(qr_sampling_params_check(params, VOCAB, &field, &err), QR_OK);
}

static void assert_fault(const struct qr_sampling_params *params, const char *expected)
{
    const char *field = NULL;
    struct qr_error err = {""};
    assert_int_equal(qr_sampling_params_check(params, VOCAB, &field, &err), QR_ERR_INVALID);
    assert_string_equal(field, expected);
    assert_non_null(strstr(err.message, expected));
}

static void presets_lie_in_the_usual_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        float temperature[2];
        float top_p[2];
        int32_t top_k[2];
    } ranges[] = {
        {"factual", {0.0f, 0.3f}, {0.1f, 0.5f}, {10, 20}},
        {"chat", {0.5f, 0.7f}, {0.8f, 0.9f}, {40, 50}},
        {"creative", {0.8f, 1.2f}, {0.95f, 0.95f}, {100, 1000}},
        {"code", {0.0f, 0.2f}, {0.5f, 0.8f}, {20, 40}},
    };

    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        struct qr_sampling_params p;
        assert_true(qr_sampling_preset(ranges[i].name, &p));
        assert_ok(&p);
        assert_true(p.temperature >= ranges[i].temperature[0] &&
                    p.temperature <= ranges[i].temperature[1]);
        assert_true(p.top_p >= ranges[i].top_p[0] && p.top_p <= ranges[i].top_p[1]);
        assert_true(p.top_k >= ranges[i].top_k[0] && p.top_k <= ranges[i].top_k[1]);
        assert_true(p.repetition_penalty == 1.0f);
    }
    struct qr_sampling_params untouched = defaults();
    assert_false(qr_sampling_preset("poetic", &untouched));
}

/* The field of a float parameter, its ends, and values just outside of them. */
static void bounds_are_as_documented(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t offset;
        float good[2];
        float bad[2];
    } fields[] = {
        {"temperature", offsetof(struct qr_sampling_params, temperature), {0, 100}, {-0.1f, 101}},
        {"top_p", offsetof(struct qr_sampling_params, top_p), {1e-6f, 1}, {0, 1.001f}},
        {"min_p", offsetof(struct qr_sampling_params, min_p), {0, 1}, {-0.001f, 1.001f}},
        {"repetition_penalty",
         offsetof(struct qr_sampling_params, repetition_penalty),
         {0.01f, 10},
         {0, 10.1f}},
        {"presence_penalty",
         offsetof(struct qr_sampling_params, presence_penalty),
         {-2, 2},
         {-2.1f, 2.1f}},
        {"frequency_penalty",
         offsetof(struct qr_sampling_params, frequency_penalty),
         {-2, 2},
         {-2.1f, 2.1f}},
    };

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const float bad[] = {fields[i].bad[0], fields[i].bad[1], NAN, INFINITY, -INFINITY};
        for (int v = 0; v < 2; v++) {
            struct qr_sampling_params params = defaults();
            memcpy((char *)&params + fields[i].offset, &fields[i].good[v], sizeof(float));
            assert_ok(&params);
        }
        for (size_t v = 0; v < sizeof(bad) / sizeof(bad[0]); v++) {
            struct qr_sampling_params params = defaults();
            memcpy((char *)&params + fields[i].offset, &bad[v], sizeof(float));
            assert_fault(&params, fields[i].name);
        }
    }
}

static void whole_numbers_are_checked(void **state)
{
    (void)state;
    struct qr_sampling_params params = defaults();
    params.top_k = -1;
    assert_fault(&params, "top_k");

    params = defaults();
    params.top_k = INT32_MAX;
    params.n_logprobs = QR_MAX_LOGPROBS;
    assert_ok(&params);
    params.n_logprobs = QR_MAX_LOGPROBS + 1;
    assert_fault(&params, "logprobs");
    params.n_logprobs = -1;
    assert_fault(&params, "logprobs");
}

static void logit_bias_is_checked(void **state)
{
    (void)state;
    const struct qr_logit_bias bad[] = {{-1, 0}, {VOCAB, 0}, {0, 100.1f}, {0, -100.1f}, {0, NAN}};
    const struct qr_logit_bias good[] = {{0, -100}, {VOCAB - 1, 100}};
    struct qr_sampling_params params = defaults();

    params.logit_bias = good;
    params.n_logit_bias = 2;
    assert_ok(&params);
    params.n_logit_bias = 1;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        params.logit_bias = &bad[i];
        assert_fault(&params, "logit_bias");
    }
    params.n_logit_bias = QR_MAX_LOGIT_BIAS + 1;
    assert_fault(&params, "logit_bias");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_lie_in_the_usual_ranges),
        cmocka_unit_test(bounds_are_as_documented),
        cmocka_unit_test(whole_numbers_are_checked),
        cmocka_unit_test(logit_bias_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
