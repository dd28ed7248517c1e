/* pre_tokenizer.c - see pre_tokenizer.h for the contract. */
#include "runtime/tokenizer/pre_tokenizer.h"

#include <string.h>

#include "base/assert.h"
#include "base/utf8.h"
#include "runtime/tokenizer/byte_alphabet.h"

struct cut {
    const struct qr_pre_tokenizer *pre_tokenizer;
    struct qr_pre_tokenizer_scans *scans;
    const char *text;
    bool at_start;  /* a whole text begins with `text` */
    bool is_mapped; /* pieces are in the byte alphabet */
    qr_piece_fn emit;
    void *arg;
};

static enum qr_status run_step(const struct cut *cut, int32_t step, const char *text,
                               size_t n_bytes);

static enum qr_status split(const struct cut *cut, int32_t i, const char *text, size_t n_bytes)
{
    const struct qr_pre_tokenizer_step *step = &cut->pre_tokenizer->steps[i];
    struct qr_regex_scan *scan = &cut->scans->scans[i];
    const char *seen;
    size_t done = 0;

    QR_TRY(qr_regex_scan_see(scan, text, n_bytes, &seen));
    while (done < n_bytes) {
        bool found;
        size_t begin = n_bytes;
        size_t end = n_bytes;
        QR_TRY(qr_regex_scan_next(scan, seen, n_bytes, done, &found, &begin, &end));
        if (begin > done && !step->drops_gaps)
            QR_TRY(run_step(cut, i + 1, text + done, begin - done));
        if (found && !step->drops_matches)
            QR_TRY(run_step(cut, i + 1, text + begin, end - begin));
        done = end;
    }
    return QR_OK;
}

struct part {
    size_t begin;
    size_t end;
    bool is_match;
};

/*
 * Whether `next` is one piece with what has been gathered, whose last part is `last`. A match
 * that follows a match stands alone where matches belong to gaps.
 */
static bool joins(enum qr_joins how, const struct part *last, const struct part *next)
{
    switch (how) {
    case QR_JOINS_WITH_PREVIOUS:
        return next->is_match && !last->is_match;
    case QR_JOINS_WITH_NEXT:
        return last->is_match && !next->is_match;
    case QR_JOINS_MATCHES:
        return last->is_match == next->is_match;
    case QR_JOINS_NONE:
        break;
    }
    return false;
}

/* As split(), for steps that join parts; those drop nothing. */
static enum qr_status split_and_join(const struct cut *cut, int32_t i, const char *text,
                                     size_t n_bytes)
{
    const struct qr_pre_tokenizer_step *step = &cut->pre_tokenizer->steps[i];
    struct qr_regex_scan *scan = &cut->scans->scans[i];
    const char *seen;
    size_t piece = 0; /* where what has been gathered begins */
    struct part last = {0};

    QR_TRY(qr_regex_scan_see(scan, text, n_bytes, &seen));

    while (last.end < n_bytes) {
        bool found;
        size_t begin = n_bytes;
        size_t end = n_bytes;
        QR_TRY(qr_regex_scan_next(scan, seen, n_bytes, last.end, &found, &begin, &end));
        const struct part parts[] = {{last.end, begin, step->inverts},
                                     {begin, end, !step->inverts}};
        for (int k = 0; k < 2; k++) {
            if (parts[k].begin == parts[k].end)
                continue;
            if (parts[k].begin > piece && !joins(step->joins, &last, &parts[k])) {
                QR_TRY(run_step(cut, i + 1, text + piece, parts[k].begin - piece));
                piece = parts[k].begin;
            }
            last = parts[k];
        }
    }
    return run_step(cut, i + 1, text + piece, n_bytes - piece);
}

/* The text with its spaces written as the step wants them, and with one more before it. */
static enum qr_status write_spaces(const struct cut *cut, const struct qr_pre_tokenizer_step *step,
                                   const char *text, size_t n_bytes, struct qr_buffer *out)
{
    const char *space = step->space[0] != '\0' ? step->space : " ";
    size_t length = strlen(space);
    bool wants_prefix = step->add_prefix_space || step->prepends == QR_PREPENDS_ALWAYS ||
                        (step->prepends == QR_PREPENDS_FIRST && cut->at_start && text == cut->text);
    bool has_prefix = text[0] == ' ' || (n_bytes >= length && memcmp(text, space, length) == 0);

    QR_TRY(qr_buffer_reserve(out, n_bytes + length));
    if (wants_prefix && !has_prefix)
        QR_TRY(qr_buffer_append(out, space, length));
    for (size_t i = 0; i < n_bytes; i++)
        QR_TRY(text[i] == ' ' ? qr_buffer_append(out, space, length)
                              : qr_buffer_append(out, &text[i], 1));
    return QR_OK;
}

/* Gives a piece to the caller, as bytes. */
static enum qr_status emit_piece(const struct cut *cut, const char *text, size_t n_bytes)
{
    struct qr_buffer bytes = {.arena = QR_ARENA_REQUEST};

    if (!cut->is_mapped)
        return cut->emit(cut->arg, text, n_bytes);
    enum qr_status status = qr_buffer_reserve(&bytes, n_bytes);
    if (status == QR_OK) {
        int64_t n = qr_chars_to_bytes(text, n_bytes, bytes.data);
        QR_ASSERT(n >= 0); /* steps cut between characters */
        status = cut->emit(cut->arg, bytes.data, (size_t)n);
    }
    qr_buffer_free(&bytes);
    return status;
}

/* Goes on with the steps from `i` on, with the piece in the byte alphabet. */
static enum qr_status run_mapped(const struct cut *outer, int32_t i, const char *text,
                                 size_t n_bytes)
{
    struct qr_buffer mapped = {.arena = QR_ARENA_REQUEST};
    struct cut cut = *outer;
    enum qr_status status = qr_buffer_reserve(&mapped, n_bytes * QR_BYTE_CHAR_MAX);

    if (status == QR_OK) {
        for (size_t k = 0; k < n_bytes; k++)
            mapped.length += qr_byte_to_char((uint8_t)text[k], mapped.data + mapped.length);
        cut.is_mapped = true;
        status = run_step(&cut, i, mapped.data, mapped.length);
    }
    qr_buffer_free(&mapped);
    return status;
}

static enum qr_status run_step(const struct cut *outer, int32_t i, const char *text, size_t n_bytes)
{
    if (n_bytes == 0)
        return QR_OK;
    if (i == outer->pre_tokenizer->n_steps)
        return emit_piece(outer, text, n_bytes);
    if (i > 0 && outer->pre_tokenizer->steps[i - 1].maps_bytes && !outer->is_mapped)
        return run_mapped(outer, i, text, n_bytes);

    const struct qr_pre_tokenizer_step *step = &outer->pre_tokenizer->steps[i];
    struct qr_buffer spaced = {.arena = QR_ARENA_REQUEST};
    struct cut cut = *outer;
    enum qr_status status = QR_OK;
    if (step->space[0] != '\0' || (step->add_prefix_space && text[0] != ' ')) {
        status = write_spaces(outer, step, text, n_bytes, &spaced);
        cut.at_start = outer->at_start && text == outer->text;
        cut.text = text = spaced.data;
        n_bytes = spaced.length;
    }
    if (status == QR_OK && step->regex == NULL)
        status = run_step(&cut, i + 1, text, n_bytes);
    else if (status == QR_OK && step->joins != QR_JOINS_NONE)
        status = split_and_join(&cut, i, text, n_bytes);
    else if (status == QR_OK)
        status = split(&cut, i, text, n_bytes);
    qr_buffer_free(&spaced);
    return status;
}

enum qr_status qr_pre_tokenizer_begin(const struct qr_pre_tokenizer *pre_tokenizer,
                                      struct qr_pre_tokenizer_scans *scans)
{
    for (int32_t i = 0; i < pre_tokenizer->n_steps; i++) {
        if (pre_tokenizer->steps[i].regex != NULL)
            QR_TRY(qr_regex_scan_begin(pre_tokenizer->steps[i].regex, &scans->scans[i]));
    }
    return QR_OK;
}

enum qr_status qr_pre_tokenizer_cut(const struct qr_pre_tokenizer *pre_tokenizer,
                                    struct qr_pre_tokenizer_scans *scans, const char *text,
                                    size_t n_bytes, bool at_start, qr_piece_fn emit, void *arg)
{
    const struct cut cut = {pre_tokenizer, scans, text, at_start, false, emit, arg};
    size_t done = 0;

    while (done < n_bytes) {
        size_t n_valid = qr_utf8_valid_prefix(text + done, n_bytes - done);
        QR_TRY(run_step(&cut, 0, text + done, n_valid));
        done += n_valid;
        if (done < n_bytes)
            QR_TRY(emit(arg, text + done++, 1));
    }
    return QR_OK;
}

void qr_pre_tokenizer_end(struct qr_pre_tokenizer_scans *scans)
{
    for (int32_t i = 0; i < QR_MAX_PRE_TOKENIZER_STEPS; i++)
        qr_regex_scan_end(&scans->scans[i]);
}

void qr_pre_tokenizer_free(struct qr_pre_tokenizer *pre_tokenizer)
{
    for (int32_t i = 0; i < pre_tokenizer->n_steps; i++)
        qr_regex_free(pre_tokenizer->steps[i].regex);
    *pre_tokenizer = (struct qr_pre_tokenizer){0};
}
