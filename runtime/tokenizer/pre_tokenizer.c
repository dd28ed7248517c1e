/* pre_tokenizer.c - see pre_tokenizer.h for the contract. */
#include "runtime/tokenizer/pre_tokenizer.h"

#include "base/utf8.h"

struct cut {
    const struct qr_pre_tokenizer *pre_tokenizer;
    struct qr_pre_tokenizer_scans *scans;
    qr_piece_fn emit;
    void *arg;
};

static enum qr_status run_step(const struct cut *cut, int32_t step, const char *text,
                               size_t n_bytes);

static enum qr_status split(const struct cut *cut, int32_t i, const char *text, size_t n_bytes)
{
    const struct qr_pre_tokenizer_step *step = &cut->pre_tokenizer->steps[i];
    size_t done = 0;

    while (done < n_bytes) {
        bool found;
        size_t begin = n_bytes;
        size_t end = n_bytes;
        QR_TRY(
            qr_regex_scan_next(&cut->scans->scans[i], text, n_bytes, done, &found, &begin, &end));
        if (begin > done && !step->drops_gaps)
            QR_TRY(run_step(cut, i + 1, text + done, begin - done));
        if (found && !step->drops_matches)
            QR_TRY(run_step(cut, i + 1, text + begin, end - begin));
        done = end;
    }
    return QR_OK;
}

static enum qr_status run_step(const struct cut *cut, int32_t i, const char *text, size_t n_bytes)
{
    if (n_bytes == 0)
        return QR_OK;
    if (i == cut->pre_tokenizer->n_steps)
        return cut->emit(cut->arg, text, n_bytes);

    const struct qr_pre_tokenizer_step *step = &cut->pre_tokenizer->steps[i];
    struct qr_buffer with_space = {.arena = QR_ARENA_REQUEST};
    enum qr_status status = QR_OK;
    if (step->add_prefix_space && text[0] != ' ') {
        if ((status = qr_buffer_append(&with_space, " ", 1)) == QR_OK)
            status = qr_buffer_append(&with_space, text, n_bytes);
        text = with_space.data;
        n_bytes = with_space.length;
    }
    if (status == QR_OK)
        status = step->regex != NULL ? split(cut, i, text, n_bytes)
                                     : run_step(cut, i + 1, text, n_bytes);
    qr_buffer_free(&with_space);
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
                                    size_t n_bytes, qr_piece_fn emit, void *arg)
{
    const struct cut cut = {pre_tokenizer, scans, emit, arg};
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
