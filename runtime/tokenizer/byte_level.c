/* byte_level.c - see byte_level.h for the contract. */
#include "runtime/tokenizer/byte_level.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/tokenizer/bpe_merge.h"
#include "runtime/tokenizer/byte_alphabet.h"

/* Longer pieces are not looked up whole: no token is that long in practice. */
enum { MAX_WHOLE_PIECE = 512 };

struct context {
    const struct qr_byte_level *model;
    struct qr_pre_tokenizer_scans scans;
    struct qr_bpe_scratch scratch;
    struct qr_token_ids *ids;
    struct qr_error *err;
};

struct qr_byte_level *qr_byte_level_alloc(void)
{
    struct qr_byte_level *model = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*model));

    if (model == NULL)
        return NULL;
    model->unknown_id = -1;
    for (int i = 0; i < 256; i++)
        model->byte_ids[i] = -1;
    return model;
}

static void destroy(void *arg)
{
    struct qr_byte_level *model = arg;

    if (model == NULL)
        return;
    qr_pre_tokenizer_free(&model->pre_tokenizer);
    qr_string_table_free(&model->vocab);
    qr_free(model->vocab_ids);
    qr_free(model->merges);
    qr_free(model);
}

static size_t merge_slot(const struct qr_byte_level *model, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = model->n_merge_slots - 1;
    size_t slot = (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 24) & mask;

    while (model->merges[slot].id >= 0 &&
           (model->merges[slot].left != left || model->merges[slot].right != right))
        slot = (slot + 1) & mask;
    return slot;
}

enum qr_status qr_byte_level_reserve_merges(struct qr_byte_level *model, size_t count)
{
    QR_ASSERT(model->merges == NULL);
    size_t n_slots = 16;
    while (n_slots < count * 2)
        n_slots *= 2;
    model->merges = qr_calloc(QR_ARENA_ENGINE, n_slots, sizeof(*model->merges));
    if (model->merges == NULL)
        return QR_ERR_NOMEM;
    model->n_merge_slots = n_slots;
    for (size_t i = 0; i < n_slots; i++)
        model->merges[i].id = -1;
    return QR_OK;
}

void qr_byte_level_add_merge(struct qr_byte_level *model, struct qr_merge_slot merge)
{
    model->merges[merge_slot(model, merge.left, merge.right)] = merge;
}

int32_t qr_byte_level_find(const struct qr_byte_level *model, const char *text, size_t n_bytes)
{
    int32_t index = qr_string_table_find(&model->vocab, text, n_bytes);
    return index < 0 ? -1 : model->vocab_ids[index];
}

static int32_t find_join(const void *arg, const char *text, const struct qr_bpe_symbol *left,
                         const struct qr_bpe_symbol *right, int32_t *rank)
{
    const struct qr_byte_level *model = arg;

    (void)text;
    const struct qr_merge_slot *merge = &model->merges[merge_slot(model, left->id, right->id)];
    *rank = merge->rank;
    return merge->id;
}

static int32_t find_whole_piece(const struct qr_byte_level *model, const char *text, size_t n_bytes)
{
    char mapped[MAX_WHOLE_PIECE * QR_BYTE_CHAR_MAX];
    size_t length = 0;

    if (n_bytes > MAX_WHOLE_PIECE)
        return -1;
    for (size_t i = 0; i < n_bytes; i++)
        length += qr_byte_to_char((uint8_t)text[i], mapped + length);
    return qr_byte_level_find(model, mapped, length);
}

/* Bytes that the vocabulary lacks stay symbols without an id, which nothing joins. */
static enum qr_status begin_symbols(struct context *context, const char *text, size_t n_bytes)
{
    const struct qr_byte_level *model = context->model;

    context->scratch.n_symbols = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        int32_t id = model->byte_ids[(uint8_t)text[i]];
        if (id < 0 && model->unknown_id < 0)
            return qr_fail(context->err, QR_ERR_INVALID,
                           "the text holds the byte 0x%02x, for which the tokenizer has neither a "
                           "token nor an unknown token",
                           (uint8_t)text[i]);
        QR_TRY(qr_bpe_add_symbol(&context->scratch, 1, id, id < 0));
    }
    return QR_OK;
}

static enum qr_status encode_piece(void *arg, const char *text, size_t n_bytes)
{
    struct context *context = arg;
    const struct qr_byte_level *model = context->model;
    const struct qr_bpe_symbol *symbols;
    bool was_unknown = false;

    if (model->whole_piece_first) {
        int32_t id = find_whole_piece(model, text, n_bytes);
        if (id >= 0)
            return qr_token_ids_append(context->ids, id);
    }
    QR_TRY(begin_symbols(context, text, n_bytes));
    QR_TRY(qr_bpe_merge(&context->scratch, find_join, model, text));
    symbols = context->scratch.symbols;
    for (int32_t i = 0; i >= 0; i = symbols[i].next) {
        bool is_unknown = symbols[i].id < 0;
        if (!is_unknown || !was_unknown || !model->fuses_unknown)
            QR_TRY(
                qr_token_ids_append(context->ids, is_unknown ? model->unknown_id : symbols[i].id));
        was_unknown = is_unknown;
    }
    return QR_OK;
}

static void end(void *arg)
{
    struct context *context = arg;

    if (context == NULL)
        return;
    qr_pre_tokenizer_end(&context->scans);
    qr_bpe_scratch_free(&context->scratch);
    qr_free(context);
}

static enum qr_status begin(const void *model, void **out)
{
    struct context *context = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*context));

    *out = NULL;
    if (context == NULL)
        return QR_ERR_NOMEM;
    context->model = model;
    enum qr_status status = qr_pre_tokenizer_begin(&context->model->pre_tokenizer, &context->scans);
    if (status != QR_OK) {
        end(context);
        return status;
    }
    *out = context;
    return QR_OK;
}

static enum qr_status encode(const void *model, void *arg, const struct qr_segment *segment,
                             struct qr_token_ids *ids, struct qr_error *err)
{
    struct context *context = arg;
    const struct qr_byte_level *byte_level = model;

    context->ids = ids;
    context->err = err;
    enum qr_status status =
        qr_pre_tokenizer_cut(&byte_level->pre_tokenizer, &context->scans, segment->text,
                             segment->n_bytes, encode_piece, context);
    if (status == QR_ERR_UNSUPPORTED)
        return qr_fail(err, status, "the tokenizer's pattern backtracks too long on this text");
    return status;
}

const struct qr_model_ops qr_byte_level_ops = {
    .kind = "byte-level-bpe",
    .begin = begin,
    .encode = encode,
    .end = end,
    .destroy = destroy,
};
