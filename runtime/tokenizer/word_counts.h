/*
 * word_counts.h - how often each word occurs in a corpus: what a trainer reads instead of
 * the text.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_WORD_COUNTS_H
#define QUIRE_RUNTIME_TOKENIZER_WORD_COUNTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/string_table.h"
#include "runtime/tokenizer/trainer.h"

/* Zero-initialise; release with qr_word_counts_free. */
struct qr_word_counts {
    struct qr_string_table words; /* in an order that depends on the threads */
    int64_t *counts;              /* [capacity], one for each word */
    int32_t capacity;
};

/* A word's symbols are symbols[begin .. begin + length). */
struct qr_training_word {
    size_t begin;
    int32_t length;
    int64_t count;
};

/* What words are. `model` is shared by the threads, each of which has a state of its own. */
struct qr_word_cutter {
    const void *model;
    QR_MUST_CHECK enum qr_status (*begin)(const void *model, void **state);
    /* Adds the words of a line, which ends with its newline unless it is the file's last. */
    QR_MUST_CHECK enum qr_status (*cut)(void *state, const char *line, size_t n_bytes,
                                        struct qr_word_counts *counts);
    void (*end)(void *state); /* accepts NULL */
};

QR_BEGIN_DECLS

/* Adds `count` occurrences of the word. */
QR_MUST_CHECK enum qr_status qr_word_counts_add(struct qr_word_counts *counts, const char *text,
                                                size_t n_bytes, int64_t count);
/* Counts the words of the files. Errors name the file. Of config the threads and progress count. */
QR_MUST_CHECK enum qr_status qr_word_counts_read(struct qr_word_counts *counts,
                                                 const struct qr_word_cutter *cutter,
                                                 const struct qr_trainer_config *config,
                                                 const char *const *files, int32_t n_files,
                                                 struct qr_error *err);
void qr_word_counts_free(struct qr_word_counts *counts);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_WORD_COUNTS_H */
