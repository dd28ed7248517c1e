/*
 * nfc_runs.h - which parts of a text form NFC may change: most have none, and composing is
 * far slower than encoding.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_NFC_RUNS_H
#define QUIRE_RUNTIME_TOKENIZER_NFC_RUNS_H

#include <stddef.h>

#include "base/status.h"

QR_BEGIN_DECLS

/*
 * The next run of text[from .. n_bytes), which must be valid UTF-8, that may not be in form
 * NFC: *begin to *end, both n_bytes when there is none. Text between runs stays as it is, and
 * a run composes by itself: it begins with a character that joins with nothing before it, and
 * so does what follows it.
 */
void qr_nfc_next_run(const char *text, size_t n_bytes, size_t from, size_t *begin, size_t *end);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_NFC_RUNS_H */
