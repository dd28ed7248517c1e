#include "base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void appends_keep_all_bytes_and_the_terminator(void **state)
{
    (void)state;
    struct qr_buffer buffer = {.arena = QR_ARENA_REQUEST};

    for (size_t n = 0; n < 300; n++) {
        unsigned char bytes[300];
        memset(bytes, (int)(n & 0xFF), sizeof(bytes));
        assert_int_equal(qr_buffer_append(&buffer, bytes, n), QR_OK);
        assert_int_equal(buffer.data[buffer.length], '\0');
        assert_true(buffer.length < buffer.capacity);
    }
    assert_int_equal(buffer.length, 299 * 300 / 2);
    size_t pos = 0;
    for (size_t n = 0; n < 300; n++) {
        for (size_t i = 0; i < n; i++)
            assert_int_equal((unsigned char)buffer.data[pos++], n & 0xFF);
    }
    qr_buffer_free(&buffer);
    assert_null(buffer.data);
    assert_int_equal(buffer.capacity, 0);
}

static void printf_appends_text_of_any_length(void **state)
{
    (void)state;
    struct qr_buffer buffer = {.arena = QR_ARENA_REQUEST};

    assert_int_equal(qr_buffer_printf(&buffer, "%s=%d", "pages", 512), QR_OK);
    assert_int_equal(qr_buffer_printf(&buffer, "%200s", "end"), QR_OK);
    assert_int_equal(buffer.length, 9 + 200);
    assert_memory_equal(buffer.data, "pages=512 ", 10);
    assert_string_equal(buffer.data + 9 + 197, "end");
    qr_buffer_free(&buffer);
}

static void reserved_bytes_need_no_new_memory(void **state)
{
    (void)state;
    struct qr_buffer buffer = {.arena = QR_ARENA_REQUEST};

    assert_int_equal(qr_buffer_reserve(&buffer, 1000), QR_OK);
    assert_string_equal(buffer.data, "");
    const char *data = buffer.data;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(qr_buffer_append(&buffer, "x", 1), QR_OK);
    assert_ptr_equal(buffer.data, data);
    qr_buffer_free(&buffer);
}

static void clear_keeps_the_capacity(void **state)
{
    (void)state;
    struct qr_buffer buffer = {.arena = QR_ARENA_REQUEST};

    qr_buffer_clear(&buffer);
    assert_int_equal(qr_buffer_printf(&buffer, "%100s", ""), QR_OK);
    size_t capacity = buffer.capacity;
    qr_buffer_clear(&buffer);
    assert_int_equal(buffer.length, 0);
    assert_string_equal(buffer.data, "");
    assert_int_equal(buffer.capacity, capacity);
    qr_buffer_free(&buffer);
    qr_buffer_free(&buffer);
}

static void impossible_sizes_leave_the_buffer_alone(void **state)
{
    (void)state;
    struct qr_buffer buffer = {.arena = QR_ARENA_REQUEST};

    assert_int_equal(qr_buffer_append(&buffer, "kept", 4), QR_OK);
    assert_int_equal(qr_buffer_reserve(&buffer, SIZE_MAX), QR_ERR_NOMEM);
    assert_int_equal(qr_buffer_reserve(&buffer, SIZE_MAX - 4), QR_ERR_NOMEM);
#ifdef QUIRE_JEMALLOC /* a sanitizer's malloc dies on a size that could never be had */
    assert_int_equal(qr_buffer_reserve(&buffer, SIZE_MAX / 2), QR_ERR_NOMEM);
#endif
    assert_int_equal(buffer.length, 4);
    assert_string_equal(buffer.data, "kept");
    qr_buffer_free(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_keep_all_bytes_and_the_terminator),
        cmocka_unit_test(printf_appends_text_of_any_length),
        cmocka_unit_test(reserved_bytes_need_no_new_memory),
        cmocka_unit_test(clear_keeps_the_capacity),
        cmocka_unit_test(impossible_sizes_leave_the_buffer_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
