/*
 * block_manager.h - who holds which KV page: the page pool and one block table a
 * sequence.
 *
 * A block table maps logical page i of a sequence (tokens [i * page_size, (i + 1) *
 * page_size)) to a physical page. Host-only. Engine thread only. Nothing allocates
 * after create. Method: PagedAttention, Kwon et al., SOSP 2023, section 4.
 */
#ifndef QUIRE_BLOCKMGR_BLOCK_MANAGER_H
#define QUIRE_BLOCKMGR_BLOCK_MANAGER_H

#include <stdint.h>

#include "base/status.h"
#include "blockmgr/page_pool.h"

struct qr_block_manager;

struct qr_block_manager_config {
    int32_t page_count;     /* physical pages of the pool, at least 1 */
    int32_t page_size;      /* tokens a page: a power of two in [8, 256] */
    int32_t max_sequences;  /* slots: sequences that may hold pages at one time, at least 1 */
    int32_t max_seq_tokens; /* the longest sequence, in tokens, at least 1 */
};

struct qr_block_stats {
    int32_t page_count;
    int32_t used_pages; /* held by at least one sequence */
    int32_t free_pages;
    int64_t used_slots;   /* token slots that hold a written or reserved token */
    int64_t wasted_slots; /* slots of used pages beyond the reserved tokens */
};

QR_BEGIN_DECLS

/*
 * On QR_OK the caller owns *out. On error *out is NULL: QR_ERR_INVALID when a field of
 * the configuration is out of its range, QR_ERR_NOMEM. The longest sequence may need
 * more pages than the pool has; who relies on it fitting checks that.
 */
QR_MUST_CHECK enum qr_status qr_block_manager_create(const struct qr_block_manager_config *config,
                                                     struct qr_block_manager **out);
void qr_block_manager_destroy(struct qr_block_manager *mgr); /* accepts NULL */

/*
 * Makes room for tokens [0, n_tokens) of sequence slot `seq` (in [0, max_sequences)).
 * n_tokens is in [0, max_seq_tokens]. All or nothing: QR_ERR_NO_PAGES leaves everything
 * untouched. Never shrinks.
 */
QR_MUST_CHECK enum qr_status qr_block_manager_reserve(struct qr_block_manager *mgr, int32_t seq,
                                                      int32_t n_tokens);
/* Pages that qr_block_manager_reserve would have to take from the pool. */
int32_t qr_block_manager_pages_needed(const struct qr_block_manager *mgr, int32_t seq,
                                      int32_t n_tokens);
/* Gives back all pages of the sequence; harmless when it has none. */
void qr_block_manager_release(struct qr_block_manager *mgr, int32_t seq);

/* block_table[qr_block_manager_n_blocks()]: physical pages, valid until the next change of seq. */
const int32_t *qr_block_manager_block_table(const struct qr_block_manager *mgr, int32_t seq);
int32_t qr_block_manager_n_blocks(const struct qr_block_manager *mgr, int32_t seq);
int32_t qr_block_manager_free_pages(const struct qr_block_manager *mgr);
int32_t qr_block_manager_page_size(const struct qr_block_manager *mgr);
int32_t qr_block_manager_max_blocks(const struct qr_block_manager *mgr); /* a sequence */
int32_t qr_block_manager_max_sequences(const struct qr_block_manager *mgr);
int32_t qr_block_manager_max_seq_tokens(const struct qr_block_manager *mgr);
int32_t qr_block_manager_page_count(const struct qr_block_manager *mgr);
void qr_block_manager_stats(const struct qr_block_manager *mgr, struct qr_block_stats *stats);

QR_END_DECLS

#endif /* QUIRE_BLOCKMGR_BLOCK_MANAGER_H */
