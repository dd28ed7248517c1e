/* test_simd.c - all instruction sets compute the scalar header's bits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/simd_probe.h"

enum { LANES = 16 };

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed;
}

/* Any bit pattern: subnormals, infinities and NaNs come up too. */
static void fill_with_patterns(float *out, uint32_t *seed)
{
    for (int i = 0; i < LANES; i++) {
        uint32_t bits = next_random(seed) ^ (next_random(seed) >> 16);
        memcpy(&out[i], &bits, sizeof(bits));
    }
}

/* Equal bits; a NaN may have any. */
static void assert_same(const struct simd_probe *probe, const char *what, const float *found,
                        const float *wanted, int n)
{
    for (int i = 0; i < n; i++) {
        if (isnan(found[i]) && isnan(wanted[i]))
            continue;
        if (memcmp(&found[i], &wanted[i], sizeof(float)) != 0)
            fail_msg("%s, %s, lane %d: %a instead of %a", probe->name, what, i, (double)found[i],
                     (double)wanted[i]);
    }
}

static void compare_op(const struct simd_probe *const *probes, int n_probes, int op, const float *a,
                       const float *b, const float *c)
{
    static const char *const names[SIMD_OPS] = {"add",         "sub", "mul", "div",   "fma",
                                                "add_product", "max", "min", "round", "exp"};
    float wanted[LANES];
    float found[LANES];

    probes[0]->apply((enum simd_op)op, a, b, c, wanted);
    for (int i = 1; i < n_probes; i++) {
        probes[i]->apply((enum simd_op)op, a, b, c, found);
        assert_same(probes[i], names[op], found, wanted, LANES);
    }
}

static void operations_agree_on_any_bits(void **state)
{
    (void)state;
    const struct simd_probe *probes[4];
    int n_probes = simd_probes(probes);
    uint32_t seed = 1;
    float a[LANES], b[LANES], c[LANES];

    for (int round = 0; round < 3000; round++) {
        fill_with_patterns(a, &seed);
        fill_with_patterns(b, &seed);
        fill_with_patterns(c, &seed);
        a[0] = 0.0f; /* zeros of both signs meet in max and min */
        b[0] = -0.0f;
        for (int i = 8; i < LANES; i++) { /* and values of a usual size */
            a[i] = (float)(int32_t)next_random(&seed) * 0x1p-26f;
            b[i] = (float)(int32_t)next_random(&seed) * 0x1p-30f;
            c[i] = -a[i] * b[i]; /* what is left of a fused a * b + c is its rounding */
        }
        for (int op = 0; op < SIMD_OPS; op++)
            compare_op(probes, n_probes, op, a, b, c);
    }
}

static void fma_rounds_once(void **state)
{
    (void)state;
    const struct simd_probe *probes[4];
    int n_probes = simd_probes(probes);
    float a[LANES], b[LANES], c[LANES], out[LANES];

    for (int i = 0; i < LANES; i++) {
        a[i] = b[i] = 1.0f + 0x1p-12f;
        c[i] = -(1.0f + 0x1p-11f);
    }
    for (int p = 0; p < n_probes; p++) {
        probes[p]->apply(SIMD_FMA, a, b, c, out);
        for (int i = 0; i < LANES; i++)
            assert_true(out[i] == 0x1p-24f); /* two roundings leave 0 */
    }
}

/* All bits of it, those of NaN too, and nothing behind the last lane. */
static void narrow_stores_round_as_the_conversions(void **state)
{
    (void)state;
    const struct simd_probe *probes[4];
    int n_probes = simd_probes(probes);
    const float special[LANES] = {0.0f,     -0.0f,     INFINITY,   -INFINITY, NAN,      65519.0f,
                                  65520.0f, -65520.0f, 1e38f,      0x1p-24f,  0x1p-25f, 0x1.8p-25f,
                                  1e-40f,   -1e-8f,    0x1.ffep0f, 0x1.fffp0f};
    uint32_t seed = 9;
    float a[LANES];

    for (int round = 0; round < 20000; round++) {
        int n = round % (LANES + 1);
        fill_with_patterns(a, &seed);
        for (int i = 0; i < LANES && round < LANES + 1; i++)
            a[i] = special[i];
        for (int i = 0; i < LANES && round % 2 == 0; i += 2)
            a[i] = (float)(int32_t)next_random(&seed) * 0x1p-31f; /* F16 has these */
        for (int p = 0; p < n_probes; p++) {
            uint16_t f16[LANES + 1] = {0}, bf16[LANES + 1] = {0};
            probes[p]->store_narrow(QR_DTYPE_F16, a, n, f16);
            probes[p]->store_narrow(QR_DTYPE_BF16, a, n, bf16);
            for (int i = 0; i <= LANES; i++) {
                uint16_t wanted[2] = {i < n ? qr_f32_to_f16(a[i]) : 0,
                                      i < n ? qr_f32_to_bf16(a[i]) : 0};
                if (f16[i] != wanted[0] || bf16[i] != wanted[1])
                    fail_msg("%s, lane %d of %d, %a: %x and %x instead of %x and %x",
                             probes[p]->name, i, n, (double)a[i % LANES], f16[i], bf16[i],
                             wanted[0], wanted[1]);
            }
        }
    }
}

static void exp_is_right_to_two_units(void **state)
{
    (void)state;
    const struct simd_probe *probes[4];
    int n_probes = simd_probes(probes);
    float x[LANES], out[LANES];

    for (float from = -104.0f; from < 90.0f; from += 0.01f) {
        for (int i = 0; i < LANES; i++)
            x[i] = from + 0.01f / LANES * (float)i;
        for (int p = 0; p < n_probes; p++) {
            probes[p]->apply(SIMD_EXP, x, x, x, out);
            for (int i = 0; i < LANES; i++) {
                double wanted = exp((double)x[i]);
                double allowed = fmax(wanted * 0x1p-22, 0x1p-148); /* 2 units in the last place */
                if (wanted > (double)0x1.fffffep+127f)
                    assert_true(isinf(out[i]) || wanted < 0x1p128);
                else if (!(fabs((double)out[i] - wanted) <= allowed))
                    fail_msg("%s: e^%a is %a instead of %a", probes[p]->name, (double)x[i],
                             (double)out[i], wanted);
            }
        }
    }
}

static void exp_of_special_values(void **state)
{
    (void)state;
    const struct simd_probe *probes[4];
    int n_probes = simd_probes(probes);
    float x[LANES] = {0.0f, -0.0f, -INFINITY, INFINITY, NAN, -1e30f, 1e30f, -104.5f};
    float out[LANES];

    for (int p = 0; p < n_probes; p++) {
        probes[p]->apply(SIMD_EXP, x, x, x, out);
        assert_true(out[0] == 1.0f && out[1] == 1.0f);
        assert_true(out[2] == 0.0f && out[5] == 0.0f && out[7] == 0.0f);
        assert_true(isinf(out[3]) && isinf(out[6]));
        assert_true(isnan(out[4]));
    }
}

static void every_16_bit_pattern_widens_alike(void **state)
{
    (void)state;
    const struct simd_probe *probes[4];
    int n_probes = simd_probes(probes);
    uint16_t bits[LANES];
    float wanted[LANES], found[LANES];

    for (uint32_t from = 0; from < 65536; from += LANES) {
        for (uint32_t i = 0; i < LANES; i++)
            bits[i] = (uint16_t)(from + i);
        for (int p = 0; p < n_probes; p++) {
            for (int i = 0; i < LANES; i++)
                wanted[i] = qr_f16_to_f32(bits[i]);
            probes[p]->load(QR_DTYPE_F16, bits, LANES, found);
            assert_same(probes[p], "load_f16", found, wanted, LANES);
            for (int i = 0; i < LANES; i++)
                wanted[i] = qr_bf16_to_f32(bits[i]);
            probes[p]->load(QR_DTYPE_BF16, bits, LANES, found);
            assert_same(probes[p], "load_bf16", found, wanted, LANES);
        }
    }
}

static void reductions_add_in_one_tree(void **state)
{
    (void)state;
    const struct simd_probe *probes[4];
    int n_probes = simd_probes(probes);
    uint32_t seed = 7;

    for (int round = 0; round < 1000; round++) {
        float a[LANES], tree[LANES];
        float largest = -INFINITY;
        for (int i = 0; i < LANES; i++) {
            a[i] = (float)(int32_t)next_random(&seed) * 0x1p-20f;
            largest = fmaxf(largest, a[i]);
        }
        memcpy(tree, a, sizeof(tree));
        for (int width = 8; width > 0; width /= 2)
            for (int i = 0; i < width; i++)
                tree[i] = tree[i] + tree[i + width];
        for (int p = 0; p < n_probes; p++) {
            assert_true(probes[p]->reduce_add(a) == tree[0]);
            assert_true(probes[p]->reduce_max(a) == largest);
        }
    }
}

static void vectors_reduced_together_are_reduced_as_each_alone(void **state)
{
    (void)state;
    const struct simd_probe *probes[4];
    int n_probes = simd_probes(probes);
    float a[LANES * LANES];
    float sums[LANES], largest[LANES];
    uint32_t seed = 11;

    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < LANES * LANES; i++)
            a[i] = (float)(int32_t)next_random(&seed) * 0x1p-20f;
        for (int p = 0; p < n_probes; p++) {
            probes[p]->reduce_add_each(a, sums);
            probes[p]->reduce_max_each(a, largest);
            for (int i = 0; i < LANES; i++) {
                assert_true(sums[i] == probes[0]->reduce_add(a + i * LANES));
                assert_true(largest[i] == probes[0]->reduce_max(a + i * LANES));
            }
        }
    }
}

/* The element after the last one wanted lies on a page that faults when it is touched. */
static void partial_accesses_touch_no_more_than_they_say(void **state)
{
    (void)state;
    const struct simd_probe *probes[4];
    int n_probes = simd_probes(probes);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    float ones[LANES], found[LANES];

    assert_true(map != MAP_FAILED);
    assert_int_equal(mprotect(map + page, page, PROT_NONE), 0);
    for (int i = 0; i < LANES; i++)
        ones[i] = 1.0f;
    for (int p = 0; p < n_probes; p++) {
        for (int n = 0; n <= LANES; n++) {
            memset(map, 0x3F, page); /* 0x3F3F3F3F and 0x3F3F: no zeros */
            for (int dtype = 0; dtype < QR_DTYPE_COUNT; dtype++) {
                size_t bytes = (size_t)n * qr_dtype_size((enum qr_dtype)dtype);
                probes[p]->load((enum qr_dtype)dtype, map + page - bytes, n, found);
                for (int i = 0; i < LANES; i++)
                    assert_true((found[i] != 0.0f) == (i < n));
            }
            float *end = (float *)(void *)(map + page);
            end[-n - 1] = 5.0f;
            probes[p]->store_partial(ones, n, end - n);
            assert_true(end[-n - 1] == 5.0f);
            for (int i = 1; i <= n; i++)
                assert_true(end[-i] == 1.0f);
        }
    }
    munmap(map, 2 * page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations_agree_on_any_bits),
        cmocka_unit_test(fma_rounds_once),
        cmocka_unit_test(narrow_stores_round_as_the_conversions),
        cmocka_unit_test(exp_is_right_to_two_units),
        cmocka_unit_test(exp_of_special_values),
        cmocka_unit_test(every_16_bit_pattern_widens_alike),
        cmocka_unit_test(reductions_add_in_one_tree),
        cmocka_unit_test(vectors_reduced_together_are_reduced_as_each_alone),
        cmocka_unit_test(partial_accesses_touch_no_more_than_they_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
