#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cuda/cuda.h"
#include "base/cuda/emulator/emulator.h"
#include "tests/base/cuda/conformance.h"
#include "tests/support/conformance_definitions.h"
#include "tests/support/cuda_platform.h"

static uint32_t random_state = 20240229;

static uint32_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static uint32_t bits_of(double x)
{
    float value = (float)x;
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* Words that arithmetic goes wrong on first, and others of all sizes. */
static uint32_t some_float(void)
{
    static const uint32_t special[] = {
        0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x00000001, 0x807fffff,
        0x00800000, 0x7f7fffff, 0xff7fffff, 0x3f800000, 0xbf800000, 0xc2fc0000, 0xc3150000,
        0x43000000, 0x477fe000, 0x477fefff, 0x477ff000, 0x38800000, 0x33000000, 0x43e00000,
    };
    uint32_t kind = random_bits() % 16;
    if (kind == 0)
        return special[random_bits() % (sizeof(special) / sizeof(special[0]))];
    if (kind < 4)
        return random_bits();
    /* Exponents from -16 to 15: where sums, exp2 and conversions have work to do. */
    return (random_bits() & 0x807fffffu) | (111 + random_bits() % 32) << 23;
}

/* Word k: number k / 6 of the format, widened to F32, and five places up to the next. */
static uint32_t at_edge(uint32_t k, int mantissa_bits, int bias, uint32_t sign_bit)
{
    uint32_t bits = k / 6 % (2 * sign_bit), rest = bits & (sign_bit - 1);
    int exponent = (int)(rest >> mantissa_bits);
    double unit = ldexp(1.0, (exponent == 0 ? 1 : exponent) - bias - mantissa_bits);
    double mantissa = (double)(rest & ((1u << mantissa_bits) - 1)) +
                      (exponent == 0 ? 0.0 : (double)(1u << mantissa_bits));
    static const double place[6] = {0.0, 0.25, 0.5, 0.5, 0.5, 0.75};
    uint32_t word = bits_of((mantissa + place[k % 6]) * unit);
    if (k % 6 == 3)
        word--; /* the neighbours of the middle */
    if (k % 6 == 4)
        word++;
    return word | ((bits & sign_bit) != 0 ? 0x80000000u : 0);
}

static uint32_t small_number(bool is_bf16, bool integer)
{
    double value = integer ? (double)(int)(random_bits() % 17) - 8
                           : ((double)(int)(random_bits() % 2048) - 1024) / 256;
    if (is_bf16)
        return bits_of(integer ? value : nearbyint(value * 16) / 16) >> 16;
    /* f16: 11 bits of mantissa hold these exactly */
    int exponent;
    double fraction = frexp(fabs(value), &exponent);
    uint32_t bits =
        value == 0.0 ? 0 : (uint32_t)(exponent + 14) << 10 | ((uint32_t)(fraction * 2048) & 0x3ffu);
    return bits | (value < 0 ? 0x8000u : 0);
}

/* Words from n_factors on are sums. */
static uint32_t fragment_word(enum conformance_fill fill, int word, int n_factors)
{
    bool is_bf16 = fill == FILL_INTEGERS_BF16 || fill == FILL_NUMBERS_BF16;
    bool integer = fill == FILL_INTEGERS_BF16 || fill == FILL_INTEGERS_F16;
    if (word >= n_factors)
        return integer ? bits_of((double)(random_bits() % 2001) - 1000)
                       : bits_of(((double)(random_bits() % 65536) - 32768) / 4096);
    return small_number(is_bf16, integer) | small_number(is_bf16, integer) << 16;
}

static uint32_t word_of(const struct conformance_case *c, uint32_t k)
{
    switch (c->fill) {
    case FILL_BITS:
        return random_bits();
    case FILL_FLOATS:
        return some_float();
    case FILL_BF16_EDGE:
        return at_edge(k, 7, 127, 0x8000);
    case FILL_F16_EDGE:
        return at_edge(k, 10, 15, 0x8000);
    case FILL_E4M3_EDGE:
        return at_edge(k, 3, 7, 0x80);
    case FILL_COUNT:
        return k * 0x10001u;
    case FILL_INTEGERS_BF16:
    case FILL_INTEGERS_F16:
    case FILL_NUMBERS_BF16:
    case FILL_NUMBERS_F16:
        break;
    }
    int n_factors = c->n_in == 10 ? 6 : c->n_in; /* those of a warp's product have sums */
    return fragment_word(c->fill, (int)(k % (uint32_t)c->n_in), n_factors);
}

static void check_result(const struct conformance_case *c, const uint32_t *in, const uint32_t *out)
{
    for (int i = 0; i < c->n_threads; i++) {
        uint32_t expected[CONFORMANCE_MAX_OUT] = {0};
        if (c->check(c, in, out, i, expected))
            continue;
        char words[2048];
        int n = 0;
        for (int k = 0; k < c->n_in; k++)
            n += snprintf(words + n, sizeof(words) - (size_t)n, " %08x", in[c->n_in * i + k]);
        n += snprintf(words + n, sizeof(words) - (size_t)n, " ->");
        for (int k = 0; k < c->n_out; k++)
            n += snprintf(words + n, sizeof(words) - (size_t)n, " %08x (not %08x)",
                          out[c->n_out * i + k], expected[k]);
        fail_msg("%s, thread %d:%s", c->kernel, i, words);
    }
}

static void run_case(struct qr_cuda *cuda, const struct conformance_case *c)
{
    char name[64];
    struct qr_cuda_kernel kernel;
    struct qr_error err = {0};
    snprintf(name, sizeof(name), "qr_conformance_%s", c->kernel);
    if (qr_cuda_find_kernel(cuda, name, CONFORMANCE_THREADS, CONFORMANCE_SHARED, &kernel, &err) !=
        QR_OK)
        fail_msg("%s", err.message);
    size_t in_bytes = (size_t)c->n_threads * (size_t)c->n_in * 4;
    size_t out_bytes = (size_t)c->n_threads * (size_t)c->n_out * 4;
    uint32_t *in = malloc(in_bytes), *out = malloc(out_bytes);
    assert_true(in != NULL && out != NULL);
    for (uint32_t k = 0; k < in_bytes / 4; k++)
        in[k] = word_of(c, k);
    qr_cu_address on_device[2] = {qr_cuda_alloc(cuda, in_bytes), qr_cuda_alloc(cuda, out_bytes)};
    qr_cuda_copy_to_device(cuda, "in", on_device[0], in, in_bytes);
    const struct qr_conformance_params params = {(const uint32_t *)on_device[0],
                                                 (uint32_t *)on_device[1]};
    qr_cuda_launch(cuda, &kernel, c->n_threads / CONFORMANCE_THREADS, 1, &params);
    qr_cuda_copy_to_host(cuda, "out", out, on_device[1], out_bytes);
    qr_cuda_synchronize(cuda);
    if (qr_cuda_take_failure(cuda, &err) != QR_OK)
        fail_msg("%s", err.message);
    check_result(c, in, out);
    qr_cuda_free(cuda, on_device[0]);
    qr_cuda_free(cuda, on_device[1]);
    free(in);
    free(out);
}

static void run_all(bool only_exchange)
{
    struct qr_cuda cuda;
    struct qr_error err = {0};
    if (qr_cuda_open(qr_test_cuda_platform(), 0, &cuda, &err) != QR_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i < n_conformance_cases; i++) {
        const struct conformance_case *c = &conformance_cases[i];
        bool is_alone = c->fill != FILL_BITS && c->n_in < 4; /* threads that never meet */
        int capability = cuda.properties.capability;
        bool is_there = c->capability >= CONFORMANCE_ONLY
                            ? capability == c->capability - CONFORMANCE_ONLY
                            : capability >= c->capability;
        if (is_there && !(only_exchange && is_alone))
            run_case(&cuda, c);
    }
    qr_cuda_close(&cuda);
}

static void primitives_are_what_they_are_defined_to_be(void **state)
{
    (void)state;
    run_all(false);
}

static void in_every_schedule(void **state)
{
    (void)state;
    if (qr_test_cuda_is_real())
        skip();
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    for (int i = 0; i < 6; i++) {
        settings.seed = (uint64_t)(i / 2 + 1);
        settings.async = (enum qr_emulator_async)(i % 3);
        settings.capability = i % 2 == 0 ? 90 : 80;
        settings.n_workers = 1 + i % 2;
        qr_emulator_set(&settings);
        run_all(true);
    }
    settings = qr_emulator_default_settings();
    qr_emulator_set(&settings);
}

/* Each launch may start before the one ahead of it ends, and must see what that one wrote. */
static void launches_that_start_early_wait(void **state)
{
    (void)state;
    enum { N = 64 * CONFORMANCE_THREADS, N_LAUNCHES = 50 };
    struct qr_cuda cuda;
    struct qr_cuda_kernel kernel;
    struct qr_error err = {0};
    static uint32_t words[N];
    assert_int_equal(qr_cuda_open(qr_test_cuda_platform(), 0, &cuda, &err), QR_OK);
    assert_int_equal(qr_cuda_find_kernel(&cuda, "qr_conformance_chain", CONFORMANCE_THREADS,
                                         CONFORMANCE_SHARED, &kernel, &err),
                     QR_OK);
    qr_cu_address out = qr_cuda_alloc(&cuda, sizeof(words));
    qr_cuda_zero(&cuda, "out", out, sizeof(words));
    const struct qr_conformance_params params = {(const uint32_t *)out, (uint32_t *)out};
    for (int i = 0; i < N_LAUNCHES; i++)
        qr_cuda_launch(&cuda, &kernel, N / CONFORMANCE_THREADS, 1, &params);
    qr_cuda_copy_to_host(&cuda, "out", words, out, sizeof(words));
    qr_cuda_synchronize(&cuda);
    assert_int_equal(qr_cuda_take_failure(&cuda, &err), QR_OK);
    for (int i = 0; i < N; i++)
        assert_int_equal(words[i], N_LAUNCHES);
    qr_cuda_free(&cuda, out);
    qr_cuda_close(&cuda);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(primitives_are_what_they_are_defined_to_be),
        cmocka_unit_test(in_every_schedule),
        cmocka_unit_test(launches_that_start_early_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
