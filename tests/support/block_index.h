/*
 * block_index.h - looks inside the block manager: whether all that it could hand out is
 * in the shadow memory as it believes, and a fingerprint of its state.
 */
#ifndef QUIRE_TESTS_SUPPORT_BLOCK_INDEX_H
#define QUIRE_TESTS_SUPPORT_BLOCK_INDEX_H

#include <stdint.h>

#include "blockmgr/block_manager.h"
#include "tests/support/block_shadow.h"

QR_BEGIN_DECLS

/*
 * Every indexed block, held or not: its page, if it is readable, and its slot hold the KV
 * of the tokens that it is found by.
 */
void block_index_check(const struct qr_block_manager *mgr, const struct block_shadow *shadow);

/*
 * Of all that decides what the manager does next: tree, tables, transfers and the orders
 * of eviction, with blocks named by their place in the tree. Pages and slots have no
 * names, as none is better than another. Left out: counters, and use counts and ages
 * beyond the order and class of weight that they have led to. order [max_sequences] names
 * the sequences, none of which is better than another either.
 */
uint64_t block_index_fingerprint(const struct qr_block_manager *mgr, const int32_t *order);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_BLOCK_INDEX_H */
