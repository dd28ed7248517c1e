/*
 * block_shadow.c - see block_shadow.h.
 *
 * A transfer may move its bytes at any time between its start and its end. Here they
 * move at the end, and nothing may change them before; the two together cover all times.
 */
#include "tests/support/block_shadow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "tests/support/block_trail.h"

struct tier {
    uint64_t *keys;     /* [n_slots][page_size] */
    int32_t *n_readers; /* [n_slots]: transfers under way from it */
    bool *is_written;   /* [n_slots]: a transfer to it is under way */
    bool *is_spoiled;
};

struct block_shadow {
    struct qr_block_manager_config config;
    uint64_t *keys;      /* [page_count][page_size] */
    int32_t *n_leaving;  /* [page_count]: transfers under way from it */
    bool *is_loading;    /* [page_count]: a transfer to it is under way */
    int64_t *written_at; /* [page_count][page_size]: the step of the last write */
    int64_t step;
    struct tier tiers[QR_TIER_COUNT];
    struct qr_transfer *transfers; /* [max_transfers] */
    bool *is_under_way;
    int32_t n_under_way;
};

static void *make(int32_t count, size_t size)
{
    void *block = qr_calloc(QR_ARENA_ENGINE, (size_t)count, size);
    assert_non_null(block);
    return block;
}

struct block_shadow *block_shadow_create(const struct qr_block_manager_config *config)
{
    struct block_shadow *shadow = make(1, sizeof(*shadow));
    int32_t n_page_slots = config->page_count * config->page_size;

    shadow->config = *config;
    shadow->keys = make(n_page_slots, sizeof(*shadow->keys));
    shadow->n_leaving = make(config->page_count, sizeof(*shadow->n_leaving));
    shadow->is_loading = make(config->page_count, sizeof(*shadow->is_loading));
    shadow->written_at = make(n_page_slots, sizeof(*shadow->written_at));
    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        int32_t n = config->tier_slots[tier];
        shadow->tiers[tier] = (struct tier){.keys = make(n * config->page_size, sizeof(uint64_t)),
                                            .n_readers = make(n, sizeof(int32_t)),
                                            .is_written = make(n, sizeof(bool)),
                                            .is_spoiled = make(n, sizeof(bool))};
    }
    shadow->transfers = make(config->max_transfers, sizeof(*shadow->transfers));
    shadow->is_under_way = make(config->max_transfers, sizeof(*shadow->is_under_way));
    return shadow;
}

void block_shadow_destroy(struct block_shadow *shadow)
{
    qr_free(shadow->keys);
    qr_free(shadow->n_leaving);
    qr_free(shadow->is_loading);
    qr_free(shadow->written_at);
    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        qr_free(shadow->tiers[tier].keys);
        qr_free(shadow->tiers[tier].n_readers);
        qr_free(shadow->tiers[tier].is_written);
        qr_free(shadow->tiers[tier].is_spoiled);
    }
    qr_free(shadow->transfers);
    qr_free(shadow->is_under_way);
    qr_free(shadow);
}

/* The finaliser of splitmix64. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) | 1;
}

uint64_t block_shadow_first_key(const char *salt, size_t n_salt_bytes)
{
    uint64_t key = 1;

    for (size_t i = 0; i < n_salt_bytes; i++)
        key = mix(key * 257 + (unsigned char)salt[i]);
    return key;
}

uint64_t block_shadow_next_key(uint64_t before, int32_t token)
{
    return mix(before * UINT64_C(0x9e3779b97f4a7c15) + (uint32_t)token);
}

static bool is_page(const struct block_shadow *shadow, qr_page_id page)
{
    return page >= 0 && page < shadow->config.page_count;
}

static uint64_t *page_keys(const struct block_shadow *shadow, qr_page_id page)
{
    return shadow->keys + (size_t)page * (size_t)shadow->config.page_size;
}

static size_t page_bytes(const struct block_shadow *shadow)
{
    return (size_t)shadow->config.page_size * sizeof(uint64_t);
}

void block_shadow_begin_step(struct block_shadow *shadow)
{
    shadow->step++;
}

/* Nothing may write to a page while it is read by a transfer, or written by one. */
static void check_writable(const struct block_shadow *shadow, qr_page_id page)
{
    BLOCK_TRAIL_CHECK(is_page(shadow, page));
    BLOCK_TRAIL_CHECK(!shadow->is_loading[page]);
    BLOCK_TRAIL_CHECK(shadow->n_leaving[page] == 0);
}

void block_shadow_copy(struct block_shadow *shadow, struct qr_page_copy copy)
{
    check_writable(shadow, copy.to);
    BLOCK_TRAIL_CHECK(is_page(shadow, copy.from) && copy.from != copy.to);
    BLOCK_TRAIL_CHECK(!shadow->is_loading[copy.from]);
    memcpy(page_keys(shadow, copy.to), page_keys(shadow, copy.from), page_bytes(shadow));
}

void block_shadow_write(struct block_shadow *shadow, qr_page_id page, int32_t slot, uint64_t key)
{
    check_writable(shadow, page);
    int64_t *written_at = &shadow->written_at[page * shadow->config.page_size + slot];
    BLOCK_TRAIL_CHECK(*written_at < shadow->step);
    *written_at = shadow->step;
    page_keys(shadow, page)[slot] = key;
}

uint64_t block_shadow_read(const struct block_shadow *shadow, qr_page_id page, int32_t slot)
{
    BLOCK_TRAIL_CHECK(is_page(shadow, page));
    return page_keys(shadow, page)[slot];
}

uint64_t block_shadow_read_tier(const struct block_shadow *shadow, enum qr_tier tier, int32_t slot,
                                int32_t index)
{
    BLOCK_TRAIL_CHECK(slot >= 0 && slot < shadow->config.tier_slots[tier]);
    return shadow->tiers[tier].keys[slot * shadow->config.page_size + index];
}

bool block_shadow_is_spoiled(const struct block_shadow *shadow, enum qr_tier tier, int32_t slot)
{
    return shadow->tiers[tier].is_spoiled[slot];
}

bool block_shadow_is_loading(const struct block_shadow *shadow, qr_page_id page)
{
    return shadow->is_loading[page];
}

void block_shadow_start(struct block_shadow *shadow, const struct qr_transfer *transfer)
{
    struct tier *tier = &shadow->tiers[transfer->tier];
    int32_t slot = transfer->slot;

    BLOCK_TRAIL_CHECK(transfer->id >= 0 && transfer->id < shadow->config.max_transfers);
    BLOCK_TRAIL_CHECK(!shadow->is_under_way[transfer->id]);
    BLOCK_TRAIL_CHECK(slot >= 0 && slot < shadow->config.tier_slots[transfer->tier]);
    BLOCK_TRAIL_CHECK(is_page(shadow, transfer->page) && !shadow->is_loading[transfer->page]);
    BLOCK_TRAIL_CHECK(!tier->is_written[slot]);
    if (transfer->out) {
        BLOCK_TRAIL_CHECK(tier->n_readers[slot] == 0);
        tier->is_written[slot] = true;
        shadow->n_leaving[transfer->page]++;
    } else {
        BLOCK_TRAIL_CHECK(shadow->n_leaving[transfer->page] == 0);
        tier->n_readers[slot]++;
        shadow->is_loading[transfer->page] = true;
    }
    shadow->transfers[transfer->id] = *transfer;
    shadow->is_under_way[transfer->id] = true;
    shadow->n_under_way++;
}

void block_shadow_end(struct block_shadow *shadow, int32_t id, bool ok)
{
    const struct qr_transfer *transfer = block_shadow_transfer(shadow, id);
    struct tier *tier = &shadow->tiers[transfer->tier];
    uint64_t *in_page = page_keys(shadow, transfer->page);
    uint64_t *in_slot = tier->keys + (size_t)transfer->slot * (size_t)shadow->config.page_size;

    BLOCK_TRAIL_CHECK(!ok || block_shadow_can_succeed(shadow, id));
    if (transfer->out) {
        tier->is_written[transfer->slot] = false;
        tier->is_spoiled[transfer->slot] = !ok;
        shadow->n_leaving[transfer->page]--;
    } else {
        tier->n_readers[transfer->slot]--;
        shadow->is_loading[transfer->page] = false;
    }
    uint64_t *destination = transfer->out ? in_slot : in_page;
    if (ok)
        memcpy(destination, transfer->out ? in_page : in_slot, page_bytes(shadow));
    else
        memset(destination, 0, page_bytes(shadow));
    shadow->is_under_way[id] = false;
    shadow->n_under_way--;
}

bool block_shadow_is_under_way(const struct block_shadow *shadow, int32_t id)
{
    return shadow->is_under_way[id];
}

int32_t block_shadow_n_under_way(const struct block_shadow *shadow)
{
    return shadow->n_under_way;
}

const struct qr_transfer *block_shadow_transfer(const struct block_shadow *shadow, int32_t id)
{
    BLOCK_TRAIL_CHECK(id >= 0 && id < shadow->config.max_transfers && shadow->is_under_way[id]);
    return &shadow->transfers[id];
}

void block_shadow_spoil(struct block_shadow *shadow, enum qr_tier tier, int32_t slot)
{
    shadow->tiers[tier].is_spoiled[slot] = true;
}

bool block_shadow_can_succeed(const struct block_shadow *shadow, int32_t id)
{
    const struct qr_transfer *transfer = block_shadow_transfer(shadow, id);
    return transfer->out || !shadow->tiers[transfer->tier].is_spoiled[transfer->slot];
}
