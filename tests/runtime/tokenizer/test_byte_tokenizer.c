/* The vocabulary of 256 bytes: any bytes there and back, each as its own id. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/tokenizer/tokenizer.h"

static void every_byte_is_its_own_id(void **state)
{
    (void)state;
    struct qr_tokenizer *tok;
    struct qr_error err = {""};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};
    const struct qr_encode_options options = {.add_bos = true, .parse_special = true};
    char bytes[256];

    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    assert_int_equal(qr_tokenizer_open_bytes(&tok, &err), QR_OK);
    assert_int_equal(qr_tokenizer_vocab_size(tok), 256);
    assert_int_equal(qr_tokenizer_bos_id(tok), -1);
    assert_int_equal(qr_tokenizer_encode(tok, bytes, sizeof(bytes), &options, &ids, &err), QR_OK);
    assert_int_equal(ids.count, 256);
    for (int i = 0; i < 256; i++)
        assert_int_equal(ids.ids[i], i);
    assert_int_equal(qr_tokenizer_decode(tok, ids.ids, ids.count, false, &text, &err), QR_OK);
    assert_int_equal(text.length, 256);
    assert_memory_equal(text.data, bytes, sizeof(bytes));
    qr_buffer_free(&text);
    qr_token_ids_free(&ids);
    qr_tokenizer_close(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_its_own_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
