/* token_table.c - see token_table.h for the contract. */
#include "runtime/tokenizer/token_table.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

static enum qr_status make_room(struct qr_token_table *table, int32_t id)
{
    if (id >= table->capacity) {
        int32_t capacity = id < 512 ? 1024 : id * 2;
        struct qr_token *tokens =
            qr_realloc(QR_ARENA_ENGINE, table->tokens, (size_t)capacity * sizeof(*tokens));
        if (tokens == NULL)
            return QR_ERR_NOMEM;
        memset(tokens + table->capacity, 0, (size_t)(capacity - table->capacity) * sizeof(*tokens));
        table->tokens = tokens;
        table->capacity = capacity;
    }
    if (id >= table->count)
        table->count = id + 1;
    return QR_OK;
}

static enum qr_status append_text(struct qr_token_table *table, const char *text, size_t n_bytes,
                                  size_t *offset)
{
    if (n_bytes > UINT32_MAX)
        return QR_ERR_NOMEM;
    *offset = table->bytes.length;
    QR_TRY(qr_buffer_append(&table->bytes, text, n_bytes));
    if (n_bytes > table->max_length)
        table->max_length = n_bytes;
    return QR_OK;
}

enum qr_status qr_token_table_set(struct qr_token_table *table, int32_t id, const char *text,
                                  size_t n_bytes, uint8_t flags)
{
    size_t offset;

    QR_ASSERT(id >= 0 && id < QR_MAX_VOCAB);
    QR_TRY(append_text(table, text, n_bytes, &offset));
    QR_TRY(make_room(table, id));
    table->tokens[id] = (struct qr_token){
        .offset = offset,
        .first_offset = offset,
        .length = (uint32_t)n_bytes,
        .first_length = (uint32_t)n_bytes,
        .flags = flags | QR_TOKEN_KNOWN,
    };
    return QR_OK;
}

enum qr_status qr_token_table_set_first(struct qr_token_table *table, int32_t id, const char *text,
                                        size_t n_bytes)
{
    QR_ASSERT(qr_token_table_has(table, id));
    QR_TRY(append_text(table, text, n_bytes, &table->tokens[id].first_offset));
    table->tokens[id].first_length = (uint32_t)n_bytes;
    return QR_OK;
}

enum qr_status qr_token_table_set_unknown(struct qr_token_table *table, int32_t id,
                                          const char *text, size_t n_bytes)
{
    QR_TRY(append_text(table, text, n_bytes, &table->unknown.offset));
    table->unknown.length = (uint32_t)n_bytes;
    table->unknown_id = id;
    return QR_OK;
}

void qr_token_table_free(struct qr_token_table *table)
{
    qr_buffer_free(&table->bytes);
    qr_free(table->tokens);
    *table = (struct qr_token_table){0};
}

const char *qr_token_table_text(const struct qr_token_table *table, int32_t id, bool skip_special,
                                bool *at_start, size_t *n_bytes)
{
    *n_bytes = 0;
    if (!qr_token_table_has(table, id))
        return "";
    const struct qr_token *token = &table->tokens[id];
    if (skip_special && (token->flags & QR_TOKEN_SPECIAL) != 0) {
        if (id != table->unknown_id || table->unknown.length == 0)
            return "";
        *at_start = false;
        *n_bytes = table->unknown.length;
        return table->bytes.data + table->unknown.offset;
    }
    bool is_first = *at_start;
    *n_bytes = is_first ? token->first_length : token->length;
    *at_start = is_first && table->first_until_text && *n_bytes == 0;
    return table->bytes.data + (is_first ? token->first_offset : token->offset);
}
