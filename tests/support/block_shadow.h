/*
 * block_shadow.h - the oracle of what lies in KV memory: a stand-in for device pages and
 * tier slots that stores, for every token slot, from which tokens its KV was computed.
 *
 * A key stands for the KV of one token: a hash of the salt, of the token and of all
 * tokens before it. Copies and transfers move keys as the real ones move bytes, rows
 * write them. A key that is not the one of the reader's own tokens is a wrong page, a
 * stale table, a use after free, a missing copy, or somebody else's prompt. Knows nothing
 * of the block manager but its lists. Broken rules end the test (block_trail.h).
 */
#ifndef QUIRE_TESTS_SUPPORT_BLOCK_SHADOW_H
#define QUIRE_TESTS_SUPPORT_BLOCK_SHADOW_H

#include <stdbool.h>
#include <stdint.h>

#include "blockmgr/block_manager.h"

struct block_shadow;

QR_BEGIN_DECLS

struct block_shadow *block_shadow_create(const struct qr_block_manager_config *config);
void block_shadow_destroy(struct block_shadow *shadow);

/* The key before any token, and the one of a token after those of `before`; never 0. */
uint64_t block_shadow_first_key(const char *salt, size_t n_salt_bytes);
uint64_t block_shadow_next_key(uint64_t before, int32_t token);

/* A new step: rows of one step may not write the same slot twice. */
void block_shadow_begin_step(struct block_shadow *shadow);
void block_shadow_copy(struct block_shadow *shadow, struct qr_page_copy copy);
void block_shadow_write(struct block_shadow *shadow, qr_page_id page, int32_t slot, uint64_t key);
/* 0: never written, or lost. */
uint64_t block_shadow_read(const struct block_shadow *shadow, qr_page_id page, int32_t slot);
/* The same of a tier's slot. */
uint64_t block_shadow_read_tier(const struct block_shadow *shadow, enum qr_tier tier, int32_t slot,
                                int32_t index);
bool block_shadow_is_spoiled(const struct block_shadow *shadow, enum qr_tier tier, int32_t slot);
/* Whether a transfer into the page is under way, so that nobody may read it. */
bool block_shadow_is_loading(const struct block_shadow *shadow, qr_page_id page);

void block_shadow_start(struct block_shadow *shadow, const struct qr_transfer *transfer);
/* Ends a transfer: what it moved is there if `ok`, otherwise its destination holds nothing. */
void block_shadow_end(struct block_shadow *shadow, int32_t id, bool ok);
bool block_shadow_is_under_way(const struct block_shadow *shadow, int32_t id);
int32_t block_shadow_n_under_way(const struct block_shadow *shadow);
/* The transfer `id`, which is under way. */
const struct qr_transfer *block_shadow_transfer(const struct block_shadow *shadow, int32_t id);

/*
 * The bytes of a slot rot: a transfer from it can only fail from then on, as its checksum
 * is wrong.
 */
void block_shadow_spoil(struct block_shadow *shadow, enum qr_tier tier, int32_t slot);
/* Whether the transfer, which is under way, can end well. */
bool block_shadow_can_succeed(const struct block_shadow *shadow, int32_t id);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_BLOCK_SHADOW_H */
