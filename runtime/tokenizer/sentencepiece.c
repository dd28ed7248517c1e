/* sentencepiece.c - see sentencepiece.h for the contract. */
#include "runtime/tokenizer/sentencepiece.h"

#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "runtime/tokenizer/bpe_merge.h"

/* Shorter words are not searched for places where no piece goes on. */
enum { MIN_CUT_WORD = 48 };

struct context {
    const struct qr_sentencepiece *model;
    struct qr_buffer text; /* a segment, normalised */
    struct qr_bpe_scratch scratch;
    struct qr_unigram_scratch unigram;
    uint32_t *cuts;   /* [texts.count] bytes of the left of the two that became an unused piece; */
                      /* NULL where no piece is unused */
    bool was_unknown; /* the last symbol that was encoded */
};

static void destroy(void *arg)
{
    struct qr_sentencepiece *model = arg;

    if (model == NULL)
        return;
    qr_string_table_free(&model->texts);
    qr_free(model->pieces);
    qr_free(model->pair_pieces);
    qr_trie_free(&model->user_defined);
    qr_charsmap_free(&model->charsmap);
    qr_unigram_destroy(&model->unigram);
    qr_token_lookup_free(&model->lookup);
    qr_free(model);
}

static void end(void *arg)
{
    struct context *context = arg;

    if (context == NULL)
        return;
    qr_buffer_free(&context->text);
    qr_bpe_scratch_free(&context->scratch);
    qr_unigram_scratch_free(&context->unigram);
    qr_free(context->cuts);
    qr_free(context);
}

static enum qr_status begin(const void *model, void **out)
{
    struct context *context = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*context));

    *out = context;
    if (context == NULL)
        return QR_ERR_NOMEM;
    context->model = model;
    context->text.arena = QR_ARENA_REQUEST;
    if (!context->model->has_unused)
        return QR_OK;
    context->cuts =
        qr_calloc(QR_ARENA_REQUEST, (size_t)context->model->texts.count, sizeof(*context->cuts));
    return context->cuts != NULL ? QR_OK : QR_ERR_NOMEM;
}

static bool is_space_symbol(const char *text, size_t n_bytes)
{
    return n_bytes >= QR_SPACE_SYMBOL_BYTES &&
           memcmp(text, QR_SPACE_SYMBOL, QR_SPACE_SYMBOL_BYTES) == 0;
}

/*
 * Where the word at `from` ends: before a space symbol that follows something else. A
 * character that joins with nothing, such as a newline, is a word by itself.
 */
static size_t end_of_word(const struct qr_sentencepiece *model, const char *text, size_t n_bytes,
                          size_t from)
{
    size_t i = from;

    while (is_space_symbol(text + i, n_bytes - i))
        i += QR_SPACE_SYMBOL_BYTES;
    for (; i < n_bytes; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (!model->ends_word[byte])
            continue;
        if (byte < 0x80)
            return i == from ? i + 1 : i;
        if (is_space_symbol(text + i, n_bytes - i))
            return i;
    }
    return n_bytes;
}

static enum qr_status prepare_lookup(struct qr_sentencepiece *model)
{
    QR_TRY(qr_token_lookup_reserve(&model->lookup, (size_t)model->texts.count));
    model->pair_pieces = qr_malloc(QR_ARENA_ENGINE, QR_BYTE_PAIRS * sizeof(*model->pair_pieces));
    if (model->pair_pieces == NULL)
        return QR_ERR_NOMEM;
    memset(model->pair_pieces, -1, QR_BYTE_PAIRS * sizeof(*model->pair_pieces));
    memset(model->byte_pieces, -1, sizeof(model->byte_pieces));
    for (int32_t i = 0; i < model->texts.count; i++) {
        const char *text = qr_string_table_text(&model->texts, i);
        size_t n_bytes = qr_string_table_length(&model->texts, i);
        QR_TRY(qr_token_lookup_add(&model->lookup, text, n_bytes, i));
        if (n_bytes == 1)
            model->byte_pieces[(uint8_t)text[0]] = i;
        if (n_bytes == 2)
            model->pair_pieces[qr_byte_pair(text[0], text[1])] = i;
    }
    return QR_OK;
}

static void prepare_words(struct qr_sentencepiece *model)
{
    for (int i = 0; i < 0x80; i++)
        model->ends_word[i] = true;
    model->ends_word[(uint8_t)QR_SPACE_SYMBOL[0]] = true;
    for (int32_t i = 0; i < model->texts.count; i++) {
        const char *text = qr_string_table_text(&model->texts, i);
        size_t n_bytes = qr_string_table_length(&model->texts, i);
        for (size_t k = 0; k < n_bytes && n_bytes > 1; k++)
            model->ends_word[(uint8_t)text[k]] &= (uint8_t)text[k] >= 0x80;
    }
    /* How an unused piece is cut again depends on the whole text. */
    model->words_stand_alone = model->escape_whitespaces && !model->has_unused;
    for (int32_t i = 0; i < model->texts.count && model->words_stand_alone; i++) {
        size_t n_bytes = qr_string_table_length(&model->texts, i);
        model->words_stand_alone =
            end_of_word(model, qr_string_table_text(&model->texts, i), n_bytes, 0) == n_bytes;
    }
}

/* Such a byte begins neither a user-defined piece nor a rule of the map. */
static enum qr_status prepare_plain(void *arg)
{
    struct qr_sentencepiece *model = arg;
    bool has_map = model->charsmap.n_units > 0;

    for (int i = 0; i < 0x80; i++)
        model->is_plain[i] = i != ' ' && !has_map && model->user_defined.begins[i] == 0;
    return QR_OK;
}

static enum qr_status prepare(void *arg)
{
    QR_TRY(prepare_plain(arg));
    QR_TRY(prepare_lookup(arg));
    prepare_words(arg);
    return QR_OK;
}

static const struct qr_piece *find_piece(const struct qr_sentencepiece *model, const char *text,
                                         size_t n_bytes)
{
    int32_t index;

    if (n_bytes == 1) {
        index = model->byte_pieces[(uint8_t)text[0]];
    } else if (n_bytes == 2) {
        index = model->pair_pieces[qr_byte_pair(text[0], text[1])];
    } else {
        const struct qr_token_entry *entry = qr_token_lookup_find(&model->lookup, text, n_bytes);
        index = entry == NULL ? -1 : entry->id;
    }
    return index < 0 ? NULL : &model->pieces[index];
}

/* An unused piece is a step on the way to others; where it is left over it is cut again. */
static int32_t find_join(const void *arg, const char *text, const struct qr_bpe_symbol *left,
                         const struct qr_bpe_symbol *right, int32_t *rank)
{
    const struct context *context = arg;
    const struct qr_piece *piece =
        find_piece(context->model, text + left->begin, (size_t)left->length + right->length);
    if (piece == NULL)
        return -1;
    if (piece->is_unused)
        context->cuts[piece - context->model->pieces] = left->length;
    *rank = piece->rank;
    return piece->id;
}

/* One symbol a character, or a user-defined piece; a byte that is not UTF-8 is one, too. */
static enum qr_status begin_symbols(const struct qr_sentencepiece *model, const char *text,
                                    size_t n_bytes, struct qr_bpe_scratch *scratch)
{
    QR_TRY(qr_bpe_begin(scratch, n_bytes));
    for (size_t i = 0; i < n_bytes;) {
        size_t length;
        int32_t id = -1;
        if (model->user_defined.begins[(uint8_t)text[i]] != 0)
            id = qr_trie_longest(&model->user_defined, text + i, n_bytes - i, &length);
        bool is_frozen = id >= 0;
        if (!is_frozen) {
            int char_length = qr_utf8_char_length(text + i, n_bytes - i);
            length = char_length > 0 ? (size_t)char_length : 1;
            const struct qr_piece *piece = find_piece(model, text + i, length);
            id = piece != NULL ? piece->id : -1;
        }
        qr_bpe_add_symbol(scratch, (uint32_t)length, id, is_frozen);
        i += length;
    }
    return QR_OK;
}

/* What one symbol, text[n_bytes], adds to the ids. */
static enum qr_status append_symbol(struct context *context, const char *text, size_t n_bytes,
                                    struct qr_token_ids *ids)
{
    const struct qr_sentencepiece *model = context->model;
    const struct qr_piece *piece = find_piece(model, text, n_bytes);

    if (piece != NULL && !piece->is_unused) {
        context->was_unknown = false;
        return qr_token_ids_append(ids, piece->id);
    }
    size_t cut = piece != NULL ? context->cuts[piece - model->pieces] : 0;
    if (cut > 0) {
        QR_TRY(append_symbol(context, text, cut, ids));
        return append_symbol(context, text + cut, n_bytes - cut, ids);
    }
    for (size_t i = 0; i < n_bytes && model->has_byte_fallback; i++)
        QR_TRY(qr_token_ids_append(ids, model->byte_ids[(uint8_t)text[i]]));
    if (!model->has_byte_fallback && !context->was_unknown)
        QR_TRY(qr_token_ids_append(ids, model->unknown_id)); /* one for a whole run */
    context->was_unknown = true;
    return QR_OK;
}

static enum qr_status append_ids(struct context *context, const char *text,
                                 struct qr_token_ids *ids)
{
    const struct qr_bpe_symbol *symbols = context->scratch.symbols;

    for (int32_t i = 0; i >= 0; i = symbols[i].next) {
        if (symbols[i].id >= 0 && context->cuts == NULL) {
            QR_TRY(qr_token_ids_append(ids, symbols[i].id));
            context->was_unknown = false;
        } else {
            QR_TRY(append_symbol(context, text + symbols[i].begin, symbols[i].length, ids));
        }
    }
    return QR_OK;
}

static enum qr_status encode_by_joining(struct context *context, const char *text, size_t n_bytes,
                                        struct qr_token_ids *ids)
{
    QR_TRY(begin_symbols(context->model, text, n_bytes, &context->scratch));
    QR_TRY(qr_bpe_merge(&context->scratch, find_join, context, text));
    return append_ids(context, text, ids);
}

/* Text that is a piece becomes it if joining leads there, which is found out once. */
static enum qr_status encode_part(struct context *context, struct qr_token_entry *entry,
                                  const char *text, size_t n_bytes, struct qr_token_ids *ids)
{
    const struct qr_sentencepiece *model = context->model;

    if (entry == NULL || model->has_unused)
        return encode_by_joining(context, text, n_bytes, ids);
    int32_t id = model->pieces[entry->id].id;
    uint8_t outcome = atomic_load_explicit(&entry->outcome, memory_order_relaxed);
    if (outcome == QR_TOKEN_WHOLE) {
        context->was_unknown = false;
        return qr_token_ids_append(ids, id);
    }
    QR_TRY(encode_by_joining(context, text, n_bytes, ids));
    if (outcome == QR_TOKEN_UNTRIED) {
        const struct qr_bpe_symbol *first = &context->scratch.symbols[0];
        bool is_whole = first->next < 0 && first->id == id;
        atomic_store_explicit(&entry->outcome, is_whole ? QR_TOKEN_WHOLE : QR_TOKEN_PARTS,
                              memory_order_relaxed);
    }
    return QR_OK;
}

static bool can_cut(const struct qr_sentencepiece *model, const char *text, size_t at)
{
    return !qr_utf8_is_continuation(text[at]) &&
           !qr_token_lookup_joins(&model->lookup, text[at - 1], text[at]);
}

/* Cuts between characters that stand side by side in no piece, so that nothing joins them. */
static enum qr_status encode_long(struct context *context, const char *text, size_t n_bytes,
                                  struct qr_token_ids *ids)
{
    const struct qr_sentencepiece *model = context->model;
    size_t begin = 0;

    for (size_t i = 1; i <= n_bytes; i++) {
        if (i < n_bytes && !can_cut(model, text, i))
            continue;
        QR_TRY(encode_part(context, qr_token_lookup_find(&model->lookup, text + begin, i - begin),
                           text + begin, i - begin, ids));
        begin = i;
    }
    return QR_OK;
}

/* Most words are a piece. How an unused piece is cut again depends on the whole text. */
static enum qr_status encode_word(struct context *context, const char *text, size_t n_bytes,
                                  struct qr_token_ids *ids)
{
    const struct qr_sentencepiece *model = context->model;
    struct qr_token_entry *entry = qr_token_lookup_find(&model->lookup, text, n_bytes);

    if (entry == NULL && n_bytes >= MIN_CUT_WORD && !model->has_unused)
        return encode_long(context, text, n_bytes, ids);
    return encode_part(context, entry, text, n_bytes, ids);
}

static enum qr_status normalize(struct context *context, const struct qr_segment *segment,
                                struct qr_error *err)
{
    enum qr_status status = qr_sentencepiece_normalize(context->model, segment, &context->text);

    if (status == QR_ERR_INVALID)
        return qr_fail(err, status, "the tokenizer's map makes %zu bytes of text too long",
                       segment->n_bytes);
    return status;
}

static enum qr_status encode(const void *arg, void *context_arg, const struct qr_segment *segment,
                             struct qr_token_ids *ids, struct qr_error *err)
{
    const struct qr_sentencepiece *model = arg;
    struct context *context = context_arg;

    QR_TRY(normalize(context, segment, err));
    context->was_unknown = false;
    const char *text = context->text.data;
    size_t n_bytes = context->text.length;
    for (size_t begin = 0; begin < n_bytes;) {
        size_t end = model->words_stand_alone ? end_of_word(model, text, n_bytes, begin) : n_bytes;
        QR_TRY(encode_word(context, text + begin, end - begin, ids));
        begin = end;
    }
    return QR_OK;
}

const struct qr_model_ops qr_sentencepiece_ops = {
    .kind = "sentencepiece-bpe",
    .prepare = prepare,
    .begin = begin,
    .encode = encode,
    .end = end,
    .destroy = destroy,
};

static enum qr_status encode_unigram(const void *arg, void *context_arg,
                                     const struct qr_segment *segment, struct qr_token_ids *ids,
                                     struct qr_error *err)
{
    const struct qr_sentencepiece *model = arg;
    struct context *context = context_arg;

    QR_TRY(normalize(context, segment, err));
    if (context->text.length == 0)
        return QR_OK;
    return qr_unigram_encode(&model->unigram, &context->unigram, context->text.data,
                             context->text.length, ids, err);
}

const struct qr_model_ops qr_sentencepiece_unigram_ops = {
    .kind = "sentencepiece-unigram",
    .prepare = prepare_plain,
    .begin = begin,
    .encode = encode_unigram,
    .end = end,
    .destroy = destroy,
};
