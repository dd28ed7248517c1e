/*
 * block_map.h - from the hash of a token sequence to the blocks that have it.
 *
 * Open addressing with linear probing (Knuth, The Art of Computer Programming 3, 6.4), at most
 * half full, each place with the lower half of its member's hash: a member with another hash
 * is passed without touching its block, so that finding one block, or none, takes one or two
 * accesses to memory in a table of any size. Removing closes the gap; nothing is marked as
 * deleted.
 *
 * Private to blockmgr/. Never allocates after init.
 */
#ifndef QUIRE_BLOCKMGR_BLOCK_MAP_H
#define QUIRE_BLOCKMGR_BLOCK_MAP_H

#include <stdint.h>

#include "base/status.h"

struct qr_block_place {
    uint32_t hash; /* lower half */
    int32_t id;    /* of a block or root; < 0: the place is empty */
};

struct qr_block_map {
    uint32_t mask;
    struct qr_block_place *places; /* [mask + 1] */
};

QR_BEGIN_DECLS

/* For at most n_members (1 to 2^30) at one time. */
QR_MUST_CHECK enum qr_status qr_block_map_init(struct qr_block_map *map, int64_t n_members);
void qr_block_map_free(struct qr_block_map *map); /* of a zeroed map: nothing */

/* Of members with the same hash, the last that was added is found first. */
void qr_block_map_add(struct qr_block_map *map, uint64_t hash, int32_t id);
/* `id` was added with this hash. */
void qr_block_map_remove(struct qr_block_map *map, uint64_t hash, int32_t id);
/*
 * The next member whose hash has the same lower half, or -1. *at begins as (uint32_t)hash; nothing
 * may be added or removed between two calls.
 */
int32_t qr_block_map_next(const struct qr_block_map *map, uint64_t hash, uint32_t *at);

/* The memory that a search for the hash begins with is on its way. */
static inline void qr_block_map_prefetch(const struct qr_block_map *map, uint64_t hash)
{
    __builtin_prefetch(&map->places[(uint32_t)hash & map->mask], 1);
}

QR_END_DECLS

#endif /* QUIRE_BLOCKMGR_BLOCK_MAP_H */
