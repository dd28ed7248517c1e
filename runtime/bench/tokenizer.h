/* tokenizer.h - how fast a tokenizer turns texts into ids, on one thread. */
#ifndef QUIRE_RUNTIME_BENCH_TOKENIZER_H
#define QUIRE_RUNTIME_BENCH_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/status.h"
#include "runtime/tokenizer/tokenizer.h"

/* Texts to encode, one after the other in `bytes`. Zero-initialise; qr_bench_texts_free. */
struct qr_bench_texts {
    struct qr_buffer bytes;
    size_t *ends;  /* [count]: where each ends in bytes */
    int32_t count; /* at least 1 after reading */
    int32_t capacity;
};

struct qr_encode_run {
    double seconds; /* CPU time of the calling thread, for all texts */
    size_t n_tokens;
};

QR_BEGIN_DECLS

/*
 * The file as one text, or, with `is_jsonl`, a text from the JSON string on each of its
 * lines. Errors name the file and the line.
 */
QR_MUST_CHECK enum qr_status qr_bench_texts_read(struct qr_bench_texts *texts, const char *path,
                                                 bool is_jsonl, struct qr_error *err);
void qr_bench_texts_free(struct qr_bench_texts *texts);
/* Encodes each text with a call of its own, without BOS; special tokens are plain text. */
QR_MUST_CHECK enum qr_status qr_measure_encode(const struct qr_tokenizer *tok,
                                               const struct qr_bench_texts *texts,
                                               struct qr_encode_run *run, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_TOKENIZER_H */
