/* unigram.c - see unigram.h for the contract. */
#include "runtime/tokenizer/unigram.h"

#include "base/alloc.h"
#include "base/utf8.h"

enum { NO_PIECE = -1, NO_CUT = -2 };

void qr_unigram_init(struct qr_unigram *model)
{
    *model = (struct qr_unigram){.unknown_id = -1};
    for (int i = 0; i < 256; i++)
        model->byte_ids[i] = -1;
}

void qr_unigram_destroy(struct qr_unigram *model)
{
    qr_trie_free(&model->pieces);
    qr_free(model->scores);
    model->scores = NULL;
}

static enum qr_status begin_nodes(struct qr_unigram_scratch *scratch, size_t n_bytes)
{
    if (n_bytes + 1 > scratch->capacity) {
        size_t capacity = (n_bytes + 1) * 2;
        struct qr_unigram_node *nodes =
            qr_realloc(QR_ARENA_REQUEST, scratch->nodes, capacity * sizeof(*nodes));
        if (nodes == NULL)
            return QR_ERR_NOMEM;
        scratch->nodes = nodes;
        scratch->capacity = capacity;
    }
    for (size_t i = 0; i <= n_bytes; i++)
        scratch->nodes[i].id = NO_CUT;
    scratch->nodes[0].score = 0;
    return QR_OK;
}

/* The unknown piece, where its text stands, counts as what it is for. */
static void consider(const struct qr_unigram *model, struct qr_unigram_node *node, double sum,
                     int32_t id, size_t begin)
{
    double score = model->is_single ? (double)(float)sum : sum;

    if (node->id != NO_CUT && !(score > node->score))
        return;
    *node = (struct qr_unigram_node){
        .score = score,
        .id = id == model->unknown_id ? NO_PIECE : id,
        .begin = (uint32_t)begin,
    };
}

/* The cuts that go on from text + begin, by each piece that stands there. */
static void extend(const struct qr_unigram *model, struct qr_unigram_node *nodes, const char *text,
                   size_t n_bytes, size_t begin, size_t char_length)
{
    double so_far = nodes[begin].score;
    bool has_single = false;
    int32_t at = 0;

    for (size_t end = begin; end < n_bytes;) {
        at = qr_trie_step(&model->pieces, at, (uint8_t)text[end++]);
        if (at == 0)
            break;
        int32_t id = qr_trie_value(&model->pieces, at);
        if (id < 0)
            continue;
        consider(model, &nodes[end], so_far + model->scores[id], id, begin);
        has_single = has_single || end - begin == char_length;
    }
    if (!has_single)
        consider(model, &nodes[begin + char_length], so_far + model->unknown_score, NO_PIECE,
                 begin);
}

static enum qr_status append_unknown(const struct qr_unigram *model, const char *text,
                                     size_t n_bytes, struct qr_token_ids *ids, struct qr_error *err)
{
    size_t n_found = 0;
    size_t length;

    int32_t id = qr_trie_longest(&model->pieces, text, n_bytes, &length);
    if (id >= 0 && length == n_bytes) /* the unknown piece's own text */
        return qr_token_ids_append(ids, id);
    while (model->has_byte_fallback && n_found < n_bytes &&
           model->byte_ids[(uint8_t)text[n_found]] >= 0)
        n_found++;
    if (n_found == n_bytes) {
        for (size_t i = 0; i < n_bytes; i++)
            QR_TRY(qr_token_ids_append(ids, model->byte_ids[(uint8_t)text[i]]));
        return QR_OK;
    }
    if (model->unknown_id < 0)
        return qr_fail(err, QR_ERR_INVALID,
                       "the text holds \"%.*s\", for which the tokenizer has neither a token nor "
                       "an unknown token",
                       n_bytes < 16 ? (int)n_bytes : 16, text);
    return qr_token_ids_append(ids, model->unknown_id);
}

/* Turns the links of the best cut around: from then on `begin` is where the next piece begins. */
static void turn_links(struct qr_unigram_node *nodes, size_t n_bytes)
{
    int32_t id = NO_CUT;

    for (size_t end = n_bytes, next = n_bytes;;) {
        size_t begin = nodes[end].begin;
        int32_t own = nodes[end].id;
        nodes[end].begin = (uint32_t)next;
        nodes[end].id = id; /* of the piece that begins here */
        id = own;
        next = end;
        if (end == 0)
            break;
        end = begin;
    }
}

enum qr_status qr_unigram_encode(const struct qr_unigram *model, struct qr_unigram_scratch *scratch,
                                 const char *text, size_t n_bytes, struct qr_token_ids *ids,
                                 struct qr_error *err)
{
    QR_TRY(begin_nodes(scratch, n_bytes));
    struct qr_unigram_node *nodes = scratch->nodes;
    for (size_t begin = 0; begin < n_bytes;) {
        int length = qr_utf8_char_length(text + begin, n_bytes - begin);
        size_t char_length = length > 0 ? (size_t)length : 1;
        if (begin == 0 || nodes[begin].id != NO_CUT)
            extend(model, nodes, text, n_bytes, begin, char_length);
        begin += char_length;
    }
    nodes[0].begin = 0;
    turn_links(nodes, n_bytes);
    for (size_t at = 0; at < n_bytes;) {
        size_t end = nodes[at].begin;
        if (nodes[at].id >= 0) {
            QR_TRY(qr_token_ids_append(ids, nodes[at].id));
        } else {
            while (end < n_bytes && nodes[end].id == NO_PIECE)
                end = nodes[end].begin;
            QR_TRY(append_unknown(model, text + at, end - at, ids, err));
        }
        at = end;
    }
    return QR_OK;
}

void qr_unigram_scratch_free(struct qr_unigram_scratch *scratch)
{
    qr_free(scratch->nodes);
    *scratch = (struct qr_unigram_scratch){0};
}
