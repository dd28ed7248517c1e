/* bpe_writer.c - see bpe_writer.h for the contract. */
#include "runtime/tokenizer/bpe_writer.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/trainer_options.h"

static json_t *token_text(const struct qr_string_table *vocab, int32_t id)
{
    return json_stringn(qr_string_table_text(vocab, id), qr_string_table_length(vocab, id));
}

static json_t *added_tokens(const struct qr_string_table *vocab, int32_t n_special)
{
    json_t *list = json_array();

    for (int32_t id = 0; id < n_special; id++) {
        json_t *token = json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", id, "content",
                                  token_text(vocab, id), "single_word", 0, "lstrip", 0, "rstrip", 0,
                                  "normalized", 0, "special", 1);
        if (json_array_append_new(list, token) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *vocab_object(const struct qr_string_table *vocab)
{
    json_t *object = json_object();

    for (int32_t id = 0; id < vocab->count; id++) {
        if (json_object_setn_new(object, qr_string_table_text(vocab, id),
                                 qr_string_table_length(vocab, id), json_integer(id)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

/* The pair as a key: "left right", which cannot be mistaken, for no token holds a space. */
static enum qr_status merge_key(const struct qr_string_table *vocab, struct qr_bpe_merge merge,
                                struct qr_buffer *key)
{
    qr_buffer_clear(key);
    QR_TRY(qr_buffer_append(key, qr_string_table_text(vocab, merge.left),
                            qr_string_table_length(vocab, merge.left)));
    QR_TRY(qr_buffer_append(key, " ", 1));
    return qr_buffer_append(key, qr_string_table_text(vocab, merge.right),
                            qr_string_table_length(vocab, merge.right));
}

static json_t *merge_list(const struct qr_string_table *vocab, const struct qr_bpe_merge *merges,
                          int32_t n_merges)
{
    struct qr_string_table seen = {0};
    struct qr_buffer key = {.arena = QR_ARENA_ENGINE};
    json_t *list = json_array();
    int32_t index;

    /* From the end, so that a pair's last merge is the one met first. */
    for (int32_t i = n_merges - 1; i >= 0; i--) {
        int32_t n_seen = seen.count;
        if (merge_key(vocab, merges[i], &key) != QR_OK ||
            qr_string_table_add(&seen, key.data, key.length, &index) != QR_OK)
            goto fail;
        if (seen.count == n_seen)
            continue;
        json_t *pair = json_pack("[o, o]", token_text(vocab, merges[i].left),
                                 token_text(vocab, merges[i].right));
        if (json_array_append_new(list, pair) != 0)
            goto fail;
    }
    for (size_t i = 0, k = json_array_size(list); i + 1 < k--; i++) {
        json_t *first = json_incref(json_array_get(list, i));
        json_array_set(list, i, json_array_get(list, k));
        json_array_set_new(list, k, first);
    }
    qr_buffer_free(&key);
    qr_string_table_free(&seen);
    return list;

fail:
    qr_buffer_free(&key);
    qr_string_table_free(&seen);
    json_decref(list);
    return NULL;
}

static json_t *byte_level(void)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", 1);
}

static json_t *document(const struct qr_string_table *vocab, int32_t n_special,
                        const struct qr_bpe_merge *merges, int32_t n_merges)
{
    json_t *model =
        json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                  "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                  "byte_fallback", 0, "ignore_merges", 0, "vocab", vocab_object(vocab), "merges",
                  merge_list(vocab, merges, n_merges));
    return json_pack("{s:s, s:n, s:n, s:o, s:n, s:o, s:n, s:o, s:o}", "version", "1.0",
                     "truncation", "padding", "added_tokens", added_tokens(vocab, n_special),
                     "normalizer", "pre_tokenizer", byte_level(), "post_processor", "decoder",
                     byte_level(), "model", model);
}

enum qr_status qr_bpe_write(const char *output_dir, const struct qr_string_table *vocab,
                            int32_t n_special, const struct qr_bpe_merge *merges, int32_t n_merges,
                            struct qr_error *err)
{
    json_t *json = document(vocab, n_special, merges, n_merges);
    char *text = json != NULL ? json_dumps(json, JSON_INDENT(1)) : NULL;
    enum qr_status status;

    json_decref(json);
    if (text != NULL)
        status = qr_trainer_write_file(output_dir, "tokenizer.json", text, strlen(text), err);
    else
        status = qr_fail(err, QR_ERR_INVALID,
                         "%s: the vocabulary cannot be written as JSON; a "
                         "special token may not be UTF-8, or memory is short",
                         output_dir);
    free(text);
    return status;
}
