/*
 * token_counts.h - which tokens a sequence has had, and how often, kept from one token to the next:
 * penalties look at those, and not at the whole context each time.
 *
 * Memory is taken at create, 16 to 24 bytes for each of `capacity` tokens. One thread at a time.
 */
#ifndef QUIRE_RUNTIME_SAMPLING_TOKEN_COUNTS_H
#define QUIRE_RUNTIME_SAMPLING_TOKEN_COUNTS_H

#include <stdint.h>

#include "base/alloc.h"
#include "base/status.h"

struct qr_token_count {
    int32_t token_id;
    int32_t n_output; /* 0: it is in the prompt alone */
};

struct qr_token_counts;

QR_BEGIN_DECLS

/* capacity: different tokens, at least 1. */
QR_MUST_CHECK enum qr_status qr_token_counts_create(enum qr_arena arena, int32_t capacity,
                                                    struct qr_token_counts **out);
void qr_token_counts_destroy(struct qr_token_counts *counts); /* accepts NULL */

/* The same capacity on both sides. */
void qr_token_counts_copy(struct qr_token_counts *counts, const struct qr_token_counts *from);
/* Counts what has not been counted yet of a sequence's prompt [n_prompt] and output [n_output],
 * which begin as they did in the calls before. */
void qr_token_counts_update(struct qr_token_counts *counts, const int32_t *prompt, int32_t n_prompt,
                            const int32_t *output, int32_t n_output);
/* [returned] each token once, in the order in which they came first; valid until the next change.
 */
int32_t qr_token_counts_get(const struct qr_token_counts *counts,
                            const struct qr_token_count **items);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SAMPLING_TOKEN_COUNTS_H */
