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

enum qr_status qr_token_table_set(struct qr_token_table *table, int32_t id, const char *text,
                                  size_t n_bytes, uint8_t flags)
{
    QR_ASSERT(id >= 0 && id < QR_MAX_VOCAB);
    if (n_bytes > UINT32_MAX)
        return QR_ERR_NOMEM;
    size_t offset = table->bytes.length;
    QR_TRY(qr_buffer_append(&table->bytes, text, n_bytes));
    QR_TRY(make_room(table, id));
    table->tokens[id] = (struct qr_token){
        .offset = offset,
        .length = (uint32_t)n_bytes,
        .flags = flags | QR_TOKEN_KNOWN,
    };
    if (n_bytes > table->max_length)
        table->max_length = n_bytes;
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
    if (skip_special && (token->flags & QR_TOKEN_SPECIAL) != 0)
        return "";
    bool drops_space = *at_start && (token->flags & QR_TOKEN_WORD_START) != 0;
    *at_start = false;
    *n_bytes = token->length - (drops_space ? 1 : 0);
    return table->bytes.data + token->offset + (drops_space ? 1 : 0);
}
