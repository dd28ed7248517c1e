/*
 * word_counts.h - how often each pre-token occurs in a corpus: what a trainer reads
 * instead of the text.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_WORD_COUNTS_H
#define QUIRE_RUNTIME_TOKENIZER_WORD_COUNTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/bpe_trainer.h"
#include "runtime/tokenizer/regex.h"
#include "runtime/tokenizer/string_table.h"

/* Zero-initialise; release with qr_word_counts_free. */
struct qr_word_counts {
    struct qr_string_table words; /* bytes of each pre-token */
    int64_t *counts;              /* [capacity], one for each word */
    int32_t capacity;
};

QR_BEGIN_DECLS

/*
 * Cuts the files into words with `regex`, each line (with its newline) by itself, as
 * HF's train(files) does. Bytes that are not UTF-8 are words of their own. Errors
 * name the file.
 */
QR_MUST_CHECK enum qr_status qr_word_counts_read(struct qr_word_counts *counts,
                                                 const struct qr_regex *regex,
                                                 const char *const *files, int32_t n_files,
                                                 qr_progress_fn progress, void *progress_arg,
                                                 struct qr_error *err);
void qr_word_counts_free(struct qr_word_counts *counts);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_WORD_COUNTS_H */
