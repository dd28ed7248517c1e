/* block_map.c - see block_map.h for the contract. */
#include "blockmgr/block_map.h"

#include "base/alloc.h"
#include "base/assert.h"

enum { EMPTY = -1 };

static struct qr_block_place *place_at(const struct qr_block_map *map, uint32_t at)
{
    return &map->places[at & map->mask];
}

enum qr_status qr_block_map_init(struct qr_block_map *map, int64_t n_members)
{
    uint32_t mask = 15;

    while (mask < 2 * n_members)
        mask = mask * 2 + 1;
    size_t n_places = (size_t)mask + 1;
    *map = (struct qr_block_map){
        .mask = mask, .places = qr_calloc_huge(QR_ARENA_ENGINE, n_places, sizeof(*map->places))};
    if (map->places == NULL)
        return QR_ERR_NOMEM;
    for (size_t i = 0; i < n_places; i++)
        map->places[i].id = EMPTY;
    return QR_OK;
}

void qr_block_map_free(struct qr_block_map *map)
{
    qr_free(map->places);
}

/*
 * The new member takes the first place of its hash, and those from there to the next empty
 * place move on by one: none of them loses the unbroken row of places from its own.
 */
void qr_block_map_add(struct qr_block_map *map, uint64_t hash, int32_t id)
{
    struct qr_block_place moving = {.hash = (uint32_t)hash, .id = id};

    for (uint32_t at = (uint32_t)hash; moving.id != EMPTY; at++) {
        struct qr_block_place *place = place_at(map, at);
        struct qr_block_place displaced = *place;
        *place = moving;
        moving = displaced;
    }
}

/* Those behind the gap that may stand in it move up, until nothing follows the gap. */
void qr_block_map_remove(struct qr_block_map *map, uint64_t hash, int32_t id)
{
    uint32_t gap = (uint32_t)hash;

    for (; place_at(map, gap)->id != id; gap++)
        QR_ASSERT(place_at(map, gap)->id != EMPTY);
    for (uint32_t at = gap + 1; place_at(map, at)->id != EMPTY; at++) {
        uint32_t from_home = (at - place_at(map, at)->hash) & map->mask;
        uint32_t from_gap = (at - gap) & map->mask;
        if (from_home >= from_gap) {
            *place_at(map, gap) = *place_at(map, at);
            gap = at;
        }
    }
    place_at(map, gap)->id = EMPTY;
}

int32_t qr_block_map_next(const struct qr_block_map *map, uint64_t hash, uint32_t *at)
{
    for (;;) {
        const struct qr_block_place *place = place_at(map, (*at)++);
        if (place->id == EMPTY || place->hash == (uint32_t)hash)
            return place->id;
    }
}
