/*
 * tiktoken.c - Llama-3's tokenizer from its list of ranked tokens (base64, one a line).
 *
 * The list does not hold the merges. A token's merge is what byte-pair encoding with
 * the tokens of lower rank leaves of it, if that is two parts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/string_table.h"
#include "runtime/tokenizer/tokenizer_impl.h"
#include "tests/support/testdata.h"
#include "tests/support/tokenizers.h"

enum { MAX_TOKEN = 256 };

static size_t decode_base64(const char *text, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    int n_bits = 0;
    size_t n_out = 0;

    for (const char *digit; *text != '\0' && (digit = strchr(digits, *text)) != NULL; text++) {
        bits = bits << 6 | (uint32_t)(digit - digits);
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            assert_true(n_out < MAX_TOKEN);
            out[n_out++] = (char)(bits >> n_bits & 0xff);
        }
    }
    return n_out;
}

static json_t *mapped(const char *bytes, size_t n_bytes)
{
    char text[MAX_TOKEN * QR_BYTE_CHAR_MAX];
    size_t length = 0;

    for (size_t i = 0; i < n_bytes; i++)
        length += qr_byte_to_char((uint8_t)bytes[i], text + length);
    return json_stringn(text, length);
}

/* Where the two parts of token `rank` meet; 0 when there are not two. */
static size_t split_token(const struct qr_string_table *ranks, int32_t rank)
{
    const char *text = qr_string_table_text(ranks, rank);
    size_t begins[MAX_TOKEN + 1];
    size_t n = qr_string_table_length(ranks, rank);

    for (size_t i = 0; i <= n; i++)
        begins[i] = i;
    while (n > 2) {
        int32_t best = rank;
        size_t at = 0;
        for (size_t i = 0; i + 2 <= n; i++) {
            int32_t found =
                qr_string_table_find(ranks, text + begins[i], begins[i + 2] - begins[i]);
            if (found >= 0 && found < best) {
                best = found;
                at = i;
            }
        }
        if (best == rank)
            return 0;
        memmove(&begins[at + 1], &begins[at + 2], (n - at - 1) * sizeof(begins[0]));
        n--;
    }
    return n == 2 ? begins[1] : 0;
}

static void read_ranks(const char *path, struct qr_string_table *ranks)
{
    char line[1024];
    char bytes[MAX_TOKEN];
    int32_t index;
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        size_t n_bytes = decode_base64(line, bytes);
        assert_int_equal(qr_string_table_add(ranks, bytes, n_bytes, &index), QR_OK);
        assert_int_equal(index, atoi(strchr(line, ' ')));
    }
    fclose(file);
}

struct qr_tokenizer *open_llama3(void)
{
    char path[QR_TEST_PATH_MAX];
    struct qr_string_table ranks = {0};
    struct qr_tokenizer *tok;
    struct qr_error err = {0};
    json_t *root = qr_testdata_json("tokenizers/skeletons/llama3.tokenizer.skeleton.json");

    if (root == NULL || !qr_testdata("tokenizers/llama3/tokenizer.model", path)) {
        json_decref(root);
        return NULL;
    }
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
    read_ranks(path, &ranks);
    for (int32_t rank = 0; rank < ranks.count; rank++) {
        const char *text = qr_string_table_text(&ranks, rank);
        size_t n_bytes = qr_string_table_length(&ranks, rank);
        size_t at = n_bytes > 1 ? split_token(&ranks, rank) : 0;
        json_t *name = mapped(text, n_bytes);
        json_object_set_new(vocab, json_string_value(name), json_integer(rank));
        json_decref(name);
        if (at > 0)
            json_array_append_new(
                merges, json_pack("[o, o]", mapped(text, at), mapped(text + at, n_bytes - at)));
    }
    qr_string_table_free(&ranks);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    assert_non_null(text);
    if (qr_tokenizer_from_json("llama3", text, strlen(text), &tok, &err) != QR_OK)
        fail_msg("%s", err.message);
    free(text);
    return tok;
}
