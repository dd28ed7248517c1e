#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#ifdef QUIRE_JEMALLOC

static void arena_grows_and_returns_to_where_it_was(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 24, 4096, 1 << 20, 5 << 20};
    void *blocks[QR_ARENA_COUNT][sizeof(sizes) / sizeof(sizes[0])];

    for (int arena = 0; arena < QR_ARENA_COUNT; arena++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            uint64_t before = qr_arena_bytes((enum qr_arena)arena);
            blocks[arena][i] = qr_malloc((enum qr_arena)arena, sizes[i]);
            assert_non_null(blocks[arena][i]);
            memset(blocks[arena][i], 0xA5, sizes[i]);
            uint64_t grown = qr_arena_bytes((enum qr_arena)arena) - before;
            assert_in_range(grown, sizes[i], 2 * sizes[i] + 16);
        }
    }
    for (int arena = 0; arena < QR_ARENA_COUNT; arena++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            qr_free(blocks[arena][i]);
        assert_int_equal(qr_arena_bytes((enum qr_arena)arena), 0);
    }
}

static void arenas_are_counted_apart(void **state)
{
    (void)state;
    uint64_t engine = qr_arena_bytes(QR_ARENA_ENGINE);
    uint64_t request = qr_arena_bytes(QR_ARENA_REQUEST);
    void *block = qr_calloc(QR_ARENA_NETWORK, 1000, 1000);

    assert_non_null(block);
    assert_int_equal(qr_arena_bytes(QR_ARENA_ENGINE), engine);
    assert_int_equal(qr_arena_bytes(QR_ARENA_REQUEST), request);
    assert_true(qr_arena_bytes(QR_ARENA_NETWORK) >= 1000 * 1000);
    qr_free(block);
}

static void too_much_memory_is_null(void **state)
{
    (void)state;
    void *block = qr_malloc(QR_ARENA_REQUEST, 16);

    assert_non_null(block);
    memset(block, 7, 16);
    assert_null(qr_malloc(QR_ARENA_REQUEST, SIZE_MAX / 2));
    assert_null(qr_calloc(QR_ARENA_REQUEST, SIZE_MAX / 2, 3)); /* the product wraps */
    assert_null(qr_realloc(QR_ARENA_REQUEST, block, SIZE_MAX / 2));
    for (int i = 0; i < 16; i++)
        assert_int_equal(((unsigned char *)block)[i], 7); /* still the caller's */
    qr_free(block);
}

#else /* a sanitizer build: plain malloc, which counts nothing and dies on absurd sizes */

static void arenas_count_nothing(void **state)
{
    (void)state;
    void *block = qr_malloc(QR_ARENA_ENGINE, 100);

    assert_non_null(block);
    assert_int_equal(qr_arena_bytes(QR_ARENA_ENGINE), 0);
    qr_free(block);
}

#endif

static void calloc_is_zeroed(void **state)
{
    (void)state;
    static const unsigned char zeros[7 * 300];
    void *block = qr_calloc(QR_ARENA_ENGINE, 7, 300);

    assert_non_null(block);
    assert_memory_equal(block, zeros, sizeof(zeros));
    qr_free(block);
}

static void zero_sizes_are_blocks_of_their_own(void **state)
{
    (void)state;
    void *a = qr_malloc(QR_ARENA_ENGINE, 0);
    void *b = qr_calloc(QR_ARENA_ENGINE, 0, 8);
    void *c = qr_aligned_alloc(QR_ARENA_ENGINE, 64, 0);

    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    assert_true(a != b && b != c && a != c);
    qr_free(a);
    qr_free(b);
    qr_free(c);
    qr_free(NULL);
}

static void realloc_keeps_the_contents(void **state)
{
    (void)state;
    unsigned char *block = NULL;

    for (size_t size = 1; size <= 1 << 20; size *= 4) {
        unsigned char *grown = qr_realloc(QR_ARENA_REQUEST, block, size);
        assert_non_null(grown);
        for (size_t i = 0; i < size / 4; i++)
            assert_int_equal(grown[i], (unsigned char)(i * 31));
        for (size_t i = 0; i < size; i++)
            grown[i] = (unsigned char)(i * 31);
        block = grown;
    }
    block = qr_realloc(QR_ARENA_REQUEST, block, 10);
    assert_non_null(block);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(block[i], (unsigned char)(i * 31));
    qr_free(block);
}

static void alignment_is_kept(void **state)
{
    (void)state;
    for (size_t alignment = 8; alignment <= 1 << 21; alignment *= 2) {
        void *block = qr_aligned_alloc(QR_ARENA_ENGINE, alignment, 100);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % alignment, 0);
        memset(block, 1, 100);
        qr_free(block);
    }
}

static void strings_are_copied(void **state)
{
    (void)state;
    const char cut[] = {'a', 'b', 'c', 'd'}; /* no NUL: strndup must not look for one */
    char *whole = qr_strdup(QR_ARENA_REQUEST, "paged");
    char *part = qr_strndup(QR_ARENA_REQUEST, cut, sizeof(cut));

    assert_string_equal(whole, "paged");
    assert_non_null(part);
    assert_int_equal(part[sizeof(cut)], '\0');
    assert_memory_equal(part, cut, sizeof(cut));
    qr_free(whole);
    qr_free(part);
}

static void arenas_have_names(void **state)
{
    (void)state;
    assert_string_equal(qr_arena_name(QR_ARENA_ENGINE), "engine");
    assert_string_equal(qr_arena_name(QR_ARENA_REQUEST), "request");
    assert_string_equal(qr_arena_name(QR_ARENA_NETWORK), "network");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef QUIRE_JEMALLOC
        cmocka_unit_test(arena_grows_and_returns_to_where_it_was),
        cmocka_unit_test(arenas_are_counted_apart),
        cmocka_unit_test(too_much_memory_is_null),
#else
        cmocka_unit_test(arenas_count_nothing),
#endif
        cmocka_unit_test(calloc_is_zeroed),
        cmocka_unit_test(zero_sizes_are_blocks_of_their_own),
        cmocka_unit_test(realloc_keeps_the_contents),
        cmocka_unit_test(alignment_is_kept),
        cmocka_unit_test(strings_are_copied),
        cmocka_unit_test(arenas_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
