/* byte_level.c - see byte_level.h for the contract. */
#include "runtime/tokenizer/byte_level.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/tokenizer/byte_alphabet.h"

/* Shorter pieces are not searched for places where no token goes on. */
enum { MIN_CUT_PIECE = 48 };

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
        model->byte_ids[i] = model->fallback_ids[i] = -1;
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
    qr_free(model->joins);
    qr_token_lookup_free(&model->tokens);
    qr_free(model);
}

static size_t merge_slot(const struct qr_byte_level *model, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = model->n_merge_slots - 1;
    size_t slot = (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> model->merge_shift);

    while (model->merges[slot].id >= 0 &&
           (model->merges[slot].left != left || model->merges[slot].right != right))
        slot = (slot + 1) & mask;
    return slot;
}

enum qr_status qr_byte_level_reserve_merges(struct qr_byte_level *model, size_t count)
{
    QR_ASSERT(model->merges == NULL);
    size_t n_slots = 16;
    int bits = 4;
    for (; n_slots < count * 2; n_slots *= 2)
        bits++;
    model->merges = qr_calloc(QR_ARENA_ENGINE, n_slots, sizeof(*model->merges));
    if (model->merges == NULL)
        return QR_ERR_NOMEM;
    model->n_merge_slots = n_slots;
    model->merge_shift = 64 - bits;
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

static enum qr_status prepare_joins(struct qr_byte_level *model)
{
    model->joins = qr_calloc(QR_ARENA_ENGINE, QR_BYTE_PAIRS, sizeof(*model->joins));
    if (model->joins == NULL)
        return QR_ERR_NOMEM;
    for (int32_t pair = 0; pair < QR_BYTE_PAIRS; pair++) {
        const struct qr_merge_slot *merge = &model->merges[merge_slot(
            model, model->byte_ids[pair / 256], model->byte_ids[pair % 256])];
        model->joins[pair] = (struct qr_byte_join){.rank = merge->rank, .id = merge->id};
    }
    return QR_OK;
}

static enum qr_status add_token(struct qr_byte_level *model, const char *bytes, size_t n_bytes,
                                int32_t id)
{
    if (n_bytes == 0)
        return QR_OK;
    return qr_token_lookup_add(&model->tokens, bytes, n_bytes, id);
}

/* Tokens with a character outside the byte alphabet stand for no bytes, as an empty one does. */
static enum qr_status prepare_tokens(struct qr_byte_level *model)
{
    struct qr_buffer bytes = {.arena = QR_ARENA_ENGINE};
    enum qr_status status = qr_token_lookup_reserve(&model->tokens, (size_t)model->vocab.count);

    for (int32_t i = 0; i < model->vocab.count && status == QR_OK; i++) {
        size_t n_chars = qr_string_table_length(&model->vocab, i);
        const char *text = qr_string_table_text(&model->vocab, i);
        if (model->begins_with_chars) {
            status = add_token(model, text, n_chars, model->vocab_ids[i]);
            continue;
        }
        qr_buffer_clear(&bytes);
        status = qr_buffer_reserve(&bytes, n_chars);
        if (status != QR_OK)
            break;
        int64_t n_bytes = qr_chars_to_bytes(text, n_chars, bytes.data);
        if (n_bytes >= 0)
            status = add_token(model, bytes.data, (size_t)n_bytes, model->vocab_ids[i]);
    }
    qr_buffer_free(&bytes);
    return status;
}

static enum qr_status prepare(void *arg)
{
    struct qr_byte_level *model = arg;

    if (!model->begins_with_chars)
        QR_TRY(prepare_joins(model));
    return prepare_tokens(model);
}

static int32_t find_join(const void *arg, const char *text, const struct qr_bpe_symbol *left,
                         const struct qr_bpe_symbol *right, int32_t *rank)
{
    const struct qr_byte_level *model = arg;

    if (model->joins != NULL && left->length == 1 && right->length == 1) {
        const struct qr_byte_join *join =
            &model->joins[qr_byte_pair(text[left->begin], text[right->begin])];
        *rank = join->rank;
        return join->id;
    }
    const struct qr_merge_slot *merge = &model->merges[merge_slot(model, left->id, right->id)];
    *rank = merge->rank;
    return merge->id;
}

/* Bytes that the vocabulary lacks stay symbols without an id, which nothing joins. */
static enum qr_status begin_symbols(struct context *context, const char *text, size_t n_bytes)
{
    const struct qr_byte_level *model = context->model;

    QR_TRY(qr_bpe_begin(&context->scratch, n_bytes));
    for (size_t i = 0; i < n_bytes; i++) {
        int32_t id = model->byte_ids[(uint8_t)text[i]];
        if (id < 0 && model->unknown_id < 0)
            return qr_fail(context->err, QR_ERR_INVALID,
                           "the text holds the byte 0x%02x, for which the tokenizer has neither a "
                           "token nor an unknown token",
                           (uint8_t)text[i]);
        qr_bpe_add_symbol(&context->scratch, 1, id, id < 0);
    }
    return QR_OK;
}

static enum qr_status encode_by_merges(struct context *context, const char *text, size_t n_bytes)
{
    const struct qr_byte_level *model = context->model;
    const struct qr_bpe_symbol *symbols;
    bool was_unknown = false;

    QR_TRY(model->begins_with_chars
               ? qr_char_level_begin(model, text, n_bytes, &context->scratch, context->err)
               : begin_symbols(context, text, n_bytes));
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

/* Text that is a token becomes it if merging leads there, which is found out once. */
static enum qr_status encode_part(struct context *context, struct qr_token_entry *token,
                                  const char *text, size_t n_bytes)
{
    if (token == NULL)
        return encode_by_merges(context, text, n_bytes);
    uint8_t outcome = atomic_load_explicit(&token->outcome, memory_order_relaxed);
    if (outcome == QR_TOKEN_WHOLE)
        return qr_token_ids_append(context->ids, token->id);
    QR_TRY(encode_by_merges(context, text, n_bytes));
    if (outcome == QR_TOKEN_UNTRIED) {
        const struct qr_bpe_symbol *first = &context->scratch.symbols[0];
        bool is_whole = first->next < 0 && first->id == token->id;
        atomic_store_explicit(&token->outcome, is_whole ? QR_TOKEN_WHOLE : QR_TOKEN_PARTS,
                              memory_order_relaxed);
    }
    return QR_OK;
}

/* Cuts where no token holds the two bytes, so that no merge can join them. */
static enum qr_status encode_long(struct context *context, const char *text, size_t n_bytes)
{
    const struct qr_byte_level *model = context->model;
    size_t begin = 0;

    for (size_t i = 1; i <= n_bytes; i++) {
        if (i < n_bytes && qr_token_lookup_joins(&model->tokens, text[i - 1], text[i]))
            continue;
        QR_TRY(encode_part(context, qr_token_lookup_find(&model->tokens, text + begin, i - begin),
                           text + begin, i - begin));
        begin = i;
    }
    return QR_OK;
}

static enum qr_status encode_piece(void *arg, const char *text, size_t n_bytes)
{
    struct context *context = arg;
    const struct qr_byte_level *model = context->model;
    struct qr_token_entry *token = qr_token_lookup_find(&model->tokens, text, n_bytes);

    if (token != NULL && model->whole_piece_first)
        return qr_token_ids_append(context->ids, token->id);
    /* Unknown bytes become one token across a cut, and characters are not cut. */
    if (token == NULL && n_bytes >= MIN_CUT_PIECE && model->unknown_id < 0 &&
        !model->begins_with_chars)
        return encode_long(context, text, n_bytes);
    return encode_part(context, token, text, n_bytes);
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

    *out = context;
    if (context == NULL)
        return QR_ERR_NOMEM;
    context->model = model;
    return qr_pre_tokenizer_begin(&context->model->pre_tokenizer, &context->scans);
}

static enum qr_status encode(const void *model, void *arg, const struct qr_segment *segment,
                             struct qr_token_ids *ids, struct qr_error *err)
{
    struct context *context = arg;

    (void)model;
    context->ids = ids;
    context->err = err;
    return qr_pre_tokenizer_cut(&context->model->pre_tokenizer, &context->scans, segment->text,
                                segment->n_bytes, segment->at_start, encode_piece, context);
}

const struct qr_model_ops qr_byte_level_ops = {
    .kind = "byte-level-bpe",
    .prepare = prepare,
    .begin = begin,
    .encode = encode,
    .end = end,
    .destroy = destroy,
};

const struct qr_model_ops qr_char_level_ops = {
    .kind = "bpe",
    .prepare = prepare,
    .begin = begin,
    .encode = encode,
    .end = end,
    .destroy = destroy,
};
