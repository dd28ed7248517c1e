/* tokenizer_json_unigram.c - a "model" of type Unigram; see tokenizer_json.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/tokenizer_json.h"

static const double unknown_penalty = 10; /* below the least score */

struct reader {
    struct qr_json_place place;
    struct qr_unigram *model;
    struct qr_token_table *tokens;
};

/*
 * The shortest digits that stand for number >= 0: digits * 10^*exponent. 15 of them are those of
 * any number that was written with so few, 17 are enough for every number.
 */
static uint64_t shortest_digits(double number, long *exponent)
{
    char text[32] = "";

    for (int precision = 14; precision <= 16; precision++) {
        snprintf(text, sizeof(text), "%.*e", precision, number); /* 1.234e+05 */
        *exponent = -precision;
        if (strtod(text, NULL) == number)
            break;
    }
    *exponent += strtol(strchr(text, 'e') + 1, NULL, 10);
    text[1] = text[0]; /* where the point was */
    uint64_t digits = strtoull(text + 1, NULL, 10);
    for (; digits > 0 && digits % 10 == 0; digits /= 10)
        ++*exponent;
    return digits;
}

/*
 * The number as the reference implementation's JSON reader (serde_json) understands its usual text,
 * the shortest: all digits as one integer, and a power of ten. That rounds twice and is sometimes
 * the neighbour of the number that is meant, which decides between cuts into the same pieces in
 * another order.
 */
static double as_reference_reads(double number)
{
    char power_text[32];
    long exponent;
    double digits = (double)shortest_digits(fabs(number), &exponent);

    snprintf(power_text, sizeof(power_text), "1e%ld", labs(exponent));
    double power = strtod(power_text, NULL);
    return copysign(exponent < 0 ? digits / power : digits * power, number);
}

/* ["piece", score]; its place is its id. Of pieces that are there twice the last one counts. */
static enum qr_status read_piece(struct reader *reader, int32_t id, const json_t *item,
                                 double *least)
{
    const json_t *piece = json_array_get(item, 0);
    const json_t *score = json_array_get(item, 1);
    const char *text = json_string_value(piece);
    size_t n_bytes = json_string_length(piece);

    if (text == NULL || !json_is_number(score) || !isfinite(json_number_value(score)))
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "vocab",
                            "item %d must be [\"piece\", score]", id);
    reader->model->scores[id] = as_reference_reads(json_number_value(score));
    *least = fmin(*least, reader->model->scores[id]);
    int byte = qr_parse_byte_name(text, n_bytes);
    if (byte >= 0)
        reader->model->byte_ids[byte] = id;
    if (n_bytes > 0)
        QR_TRY(qr_trie_add(&reader->model->pieces, text, n_bytes, id));
    return qr_token_table_set(reader->tokens, id, text, n_bytes, 0);
}

static enum qr_status read_unknown(struct reader *reader, const json_t *object, size_t n)
{
    const json_t *id = json_object_get(object, "unk_id");

    if (id == NULL || json_is_null(id))
        return QR_OK;
    if (!json_is_integer(id) || json_integer_value(id) < 0 || (size_t)json_integer_value(id) >= n)
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "unk_id",
                            "must be a whole number in [0, %zu), the vocabulary's size", n);
    reader->model->unknown_id = (int32_t)json_integer_value(id);
    return QR_OK;
}

enum qr_status qr_json_read_unigram(const char *name, const json_t *object,
                                    struct qr_unigram *model, struct qr_token_table *tokens,
                                    struct qr_error *err)
{
    struct reader reader = {{name, "model", err}, model, tokens};
    const json_t *vocab = NULL;
    const json_t *item;
    double least = INFINITY;
    size_t i;

    QR_TRY(qr_json_array(&reader.place, object, "vocab", &vocab));
    size_t n = json_array_size(vocab);
    if (n == 0 || n > QR_MAX_VOCAB)
        return qr_json_fail(&reader.place, QR_ERR_INVALID, "vocab",
                            "must be an array of 1 to %d pieces", QR_MAX_VOCAB);
    model->scores = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*model->scores));
    if (model->scores == NULL)
        return QR_ERR_NOMEM;
    json_array_foreach(vocab, i, item) QR_TRY(read_piece(&reader, (int32_t)i, item, &least));
    model->unknown_score = least - unknown_penalty;
    QR_TRY(qr_json_bool(&reader.place, object, "byte_fallback", &model->has_byte_fallback));
    return read_unknown(&reader, object, n);
}
