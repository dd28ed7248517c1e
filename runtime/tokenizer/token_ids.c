/* token_ids.c - the growable list of token ids of tokenizer.h. */
#include "base/alloc.h"
#include "runtime/tokenizer/tokenizer.h"

enum qr_status qr_token_ids_append(struct qr_token_ids *ids, int32_t id)
{
    if (ids->count == ids->capacity) {
        size_t capacity = ids->capacity < 32 ? 64 : ids->capacity * 2;
        int32_t *grown = qr_realloc(ids->arena, ids->ids, capacity * sizeof(*grown));
        if (grown == NULL)
            return QR_ERR_NOMEM;
        ids->ids = grown;
        ids->capacity = capacity;
    }
    ids->ids[ids->count++] = id;
    return QR_OK;
}

void qr_token_ids_free(struct qr_token_ids *ids)
{
    qr_free(ids->ids);
    ids->ids = NULL;
    ids->count = ids->capacity = 0;
}
