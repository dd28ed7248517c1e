/* block_world.c - see block_world.h. */
#include "tests/support/block_world.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "tests/support/block_index.h"
#include "tests/support/block_trail.h"

static struct block_world_seq *seq_of(const struct block_world *world, int32_t seq)
{
    return &world->seqs[seq];
}

struct block_world *block_world_create(const struct qr_block_manager_config *config)
{
    struct block_world *world = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*world));
    size_t n_seqs = (size_t)config->max_sequences;
    size_t n_tokens = (size_t)config->max_seq_tokens;

    assert_non_null(world);
    world->config = *config;
    assert_int_equal(qr_block_manager_create(config, &world->blocks), QR_OK);
    world->shadow = block_shadow_create(config);
    world->seqs = qr_calloc(QR_ARENA_ENGINE, n_seqs, sizeof(*world->seqs));
    assert_non_null(world->seqs);
    for (size_t i = 0; i < n_seqs; i++) {
        world->seqs[i].tokens = qr_calloc(QR_ARENA_ENGINE, n_tokens, sizeof(int32_t));
        world->seqs[i].keys = qr_calloc(QR_ARENA_ENGINE, n_tokens, sizeof(uint64_t));
        assert_non_null(world->seqs[i].tokens);
        assert_non_null(world->seqs[i].keys);
    }
    return world;
}

void block_world_destroy(struct block_world *world)
{
    for (int32_t i = 0; i < world->config.max_sequences; i++) {
        if (world->seqs[i].holds)
            block_world_release(world, i, QR_RELEASE_FINISHED);
        if (world->seqs[i].is_open)
            block_world_close(world, i);
        qr_free(world->seqs[i].tokens);
        qr_free(world->seqs[i].keys);
    }
    qr_block_manager_destroy(world->blocks);
    block_shadow_destroy(world->shadow);
    qr_free(world->seqs);
    qr_free(world);
}

int32_t block_world_token(int32_t document, int32_t cut, int32_t branch, int32_t position)
{
    int32_t source = position < cut ? document : 1000 + branch;
    return (source * 7919 + position * 31) % 50021;
}

static char salt_letter(int32_t salt)
{
    return (char)('a' + salt);
}

static void set_token(struct block_world_seq *seq, int32_t position, int32_t token)
{
    char letter = salt_letter(seq->salt);
    uint64_t before = position > 0 ? seq->keys[position - 1] : block_shadow_first_key(&letter, 1);

    seq->tokens[position] = token;
    seq->keys[position] = block_shadow_next_key(before, token);
}

void block_world_open(struct block_world *world, int32_t id, int32_t document, int32_t cut,
                      int32_t branch, int32_t n_prompt, int32_t salt)
{
    struct block_world_seq *seq = seq_of(world, id);
    char letter = salt_letter(salt);

    seq->is_open = true;
    seq->holds = seq->is_loading = false;
    seq->n_known = n_prompt;
    seq->n_computed = 0;
    seq->salt = salt;
    seq->branch = branch;
    for (int32_t p = 0; p < n_prompt; p++)
        set_token(seq, p, block_world_token(document, cut, branch, p));
    qr_block_manager_open(world->blocks, id, seq->tokens, &letter, 1);
}

void block_world_append(struct block_world *world, int32_t id)
{
    struct block_world_seq *seq = seq_of(world, id);

    set_token(seq, seq->n_known, block_world_token(0, 0, seq->branch, seq->n_known));
    seq->n_known++;
}

/* Carries out the copies handed out and forgets them; transfers are left to start. */
static void carry_out_copies(struct block_world *world)
{
    int32_t n_copies;
    int32_t n_transfers;
    const struct qr_page_copy *copies = qr_block_manager_copies(world->blocks, &n_copies);

    for (int32_t i = 0; i < n_copies; i++)
        block_shadow_copy(world->shadow, copies[i]);
    qr_block_manager_transfers(world->blocks, &n_transfers);
    BLOCK_TRAIL_CHECK(n_transfers == 0);
    qr_block_manager_clear_lists(world->blocks);
}

bool block_world_acquire(struct block_world *world, int32_t id, int32_t n_promised)
{
    struct block_world_seq *seq = seq_of(world, id);
    struct qr_acquired acquired;
    enum qr_status st =
        qr_block_manager_acquire(world->blocks, id, seq->n_known, n_promised, 0, &acquired);

    carry_out_copies(world);
    if (st != QR_OK) {
        BLOCK_TRAIL_CHECK(st == QR_ERR_NO_PAGES);
        BLOCK_TRAIL_CHECK(qr_block_manager_n_blocks(world->blocks, id) == 0);
        return false;
    }
    BLOCK_TRAIL_CHECK(acquired.n_cached >= 0 && acquired.n_cached < seq->n_known);
    BLOCK_TRAIL_CHECK(acquired.n_loads >= 0);
    seq->holds = true;
    seq->is_loading = acquired.n_loads > 0;
    seq->n_computed = acquired.n_cached;
    return true;
}

int32_t block_world_first_seen(const struct qr_block_manager_config *config, int32_t position)
{
    return config->window == 0 || position < config->window ? 0 : position - config->window + 1;
}

/*
 * What a row at position `first` and those after it read of the first n_tokens tokens is the KV of
 * the sequence's own tokens.
 */
static void check_reads(const struct block_world *world, int32_t id, int32_t first,
                        int32_t n_tokens)
{
    const struct block_world_seq *seq = seq_of(world, id);
    const int32_t *table = qr_block_manager_block_table(world->blocks, id);
    int32_t page_size = world->config.page_size;

    BLOCK_TRAIL_CHECK(n_tokens <= qr_block_manager_n_blocks(world->blocks, id) * page_size);
    for (int32_t p = block_world_first_seen(&world->config, first); p < n_tokens; p++) {
        qr_page_id page = table[p / page_size];
        if (p % page_size == 0)
            BLOCK_TRAIL_CHECK(!block_shadow_is_loading(world->shadow, page));
        if (block_shadow_read(world->shadow, page, p % page_size) != seq->keys[p])
            block_trail_fail("sequence %d, token %d: page %d holds other KV", id, p, page);
    }
}

static bool has_transfers(const struct block_world *world)
{
    struct qr_block_stats stats;

    qr_block_manager_stats(world->blocks, &stats);
    return stats.n_in_transfer > 0;
}

/* For some of the calls: what is fetched may show in nothing, and may stay while growing fails. */
static void fetch_ahead(struct block_world *world, int32_t id, int32_t first, int32_t n_tokens)
{
    if ((first + id) % 2 == 0)
        return;
    qr_block_manager_prefetch(world->blocks, id, first, n_tokens, QR_FETCH_TABLE);
    qr_block_manager_prefetch(world->blocks, id, first, n_tokens, QR_FETCH_BLOCKS);
    qr_block_manager_prefetch(world->blocks, id, first, n_tokens, QR_FETCH_INDEX);
}

bool block_world_compute(struct block_world *world, int32_t id, int32_t n_tokens)
{
    struct block_world_seq *seq = seq_of(world, id);
    int32_t page_size = world->config.page_size;
    int32_t first = seq->n_computed;
    int32_t n_blocks = qr_block_manager_n_blocks(world->blocks, id);
    int32_t n_needed = qr_block_manager_pages_needed(world->blocks, id, first, n_tokens);
    int32_t n_available = qr_block_manager_available_pages(world->blocks);
    fetch_ahead(world, id, first, n_tokens);
    enum qr_status st = qr_block_manager_grow(world->blocks, id, first, n_tokens);

    carry_out_copies(world);
    /* A cached page may have to wait for one below it that is on its way. */
    BLOCK_TRAIL_CHECK(st == QR_OK || n_needed > n_available || has_transfers(world));
    if (st != QR_OK) {
        BLOCK_TRAIL_CHECK(st == QR_ERR_NO_PAGES);
        BLOCK_TRAIL_CHECK(qr_block_manager_n_blocks(world->blocks, id) == n_blocks);
        check_reads(world, id, first, first);
        return false;
    }
    const int32_t *table = qr_block_manager_block_table(world->blocks, id);
    block_shadow_begin_step(world->shadow);
    for (int32_t p = first; p < n_tokens; p++)
        block_shadow_write(world->shadow, table[p / page_size], p % page_size, seq->keys[p]);
    check_reads(world, id, first, n_tokens);
    qr_block_manager_commit(world->blocks, id, n_tokens);
    seq->n_computed = n_tokens;
    return true;
}

void block_world_fork(struct block_world *world, int32_t parent, int32_t id, int32_t branch)
{
    const struct block_world_seq *from = seq_of(world, parent);
    struct block_world_seq *seq = seq_of(world, id);

    memcpy(seq->tokens, from->tokens, (size_t)from->n_known * sizeof(*seq->tokens));
    memcpy(seq->keys, from->keys, (size_t)from->n_known * sizeof(*seq->keys));
    seq->is_open = seq->holds = true;
    seq->is_loading = false;
    seq->n_known = from->n_known;
    seq->n_computed = from->n_computed;
    seq->salt = from->salt;
    seq->branch = branch;
    qr_block_manager_open_fork(world->blocks, id, seq->tokens, parent);
    qr_block_manager_fork(world->blocks, parent, id, from->n_computed);
}

void block_world_release(struct block_world *world, int32_t id, enum qr_release how)
{
    struct block_world_seq *seq = seq_of(world, id);

    qr_block_manager_release(world->blocks, id, seq->n_computed, how);
    BLOCK_TRAIL_CHECK(qr_block_manager_n_blocks(world->blocks, id) == 0);
    carry_out_copies(world);
    seq->holds = seq->is_loading = false;
    seq->n_computed = 0;
}

void block_world_close(struct block_world *world, int32_t id)
{
    qr_block_manager_close(world->blocks, id);
    seq_of(world, id)->is_open = false;
}

enum qr_load block_world_poll(struct block_world *world, int32_t id)
{
    struct block_world_seq *seq = seq_of(world, id);
    enum qr_load load = qr_block_manager_load_state(world->blocks, id);

    if (load == QR_LOAD_DONE)
        seq->is_loading = false;
    else if (load == QR_LOAD_FAILED)
        block_world_release(world, id, QR_RELEASE_RESUMES);
    return load;
}

void block_world_start_transfers(struct block_world *world)
{
    int32_t n_transfers;

    qr_block_manager_start_transfers(world->blocks);
    const struct qr_transfer *transfers = qr_block_manager_transfers(world->blocks, &n_transfers);
    for (int32_t i = 0; i < n_transfers; i++)
        block_shadow_start(world->shadow, &transfers[i]);
    qr_block_manager_clear_lists(world->blocks);
}

void block_world_end_transfer(struct block_world *world, int32_t id, bool ok)
{
    block_shadow_end(world->shadow, id, ok);
    qr_block_manager_transfer_done(world->blocks, id, ok);
}

/* Pages in tables, each counted once: what "used" means. */
void block_world_move_all(struct block_world *world, bool ok)
{
    for (block_world_start_transfers(world); block_shadow_n_under_way(world->shadow) > 0;
         block_world_start_transfers(world))
        for (int32_t id = 0; id < world->config.max_transfers; id++)
            if (block_shadow_is_under_way(world->shadow, id))
                block_world_end_transfer(world, id, ok);
}

void block_world_finish(struct block_world *world, int32_t id)
{
    block_world_release(world, id, QR_RELEASE_FINISHED);
    block_world_close(world, id);
}

static void check_counts(const struct block_world *world)
{
    struct qr_block_stats stats;
    int32_t page_size = world->config.page_size;
    uint8_t is_used[4096] = {0};
    int32_t n_used = 0;
    int64_t n_slots = 0;

    for (int32_t id = 0; id < world->config.max_sequences; id++) {
        const int32_t *table = qr_block_manager_block_table(world->blocks, id);
        int32_t n_blocks = qr_block_manager_n_blocks(world->blocks, id);
        BLOCK_TRAIL_CHECK(n_blocks == 0 || world->seqs[id].holds);
        int32_t first_block = qr_block_manager_first_block(world->blocks, id);
        for (int32_t i = 0; i < first_block; i++)
            BLOCK_TRAIL_CHECK(table[i] == -1);
        BLOCK_TRAIL_CHECK(n_blocks - first_block <=
                          qr_block_manager_pages_for(world->blocks, n_blocks * page_size));
        for (int32_t i = first_block; i < n_blocks; i++) {
            BLOCK_TRAIL_CHECK(table[i] >= 0 && table[i] < world->config.page_count);
            n_used += !is_used[table[i]];
            is_used[table[i]] = 1;
        }
    }
    qr_block_manager_stats(world->blocks, &stats);
    n_slots = (int64_t)stats.used_pages * page_size;
    BLOCK_TRAIL_CHECK(stats.page_count == world->config.page_count);
    BLOCK_TRAIL_CHECK(stats.used_pages == n_used);
    BLOCK_TRAIL_CHECK(stats.used_pages + stats.cached_pages + stats.free_pages == stats.page_count);
    BLOCK_TRAIL_CHECK(stats.cached_pages >= 0 && stats.free_pages >= 0);
    BLOCK_TRAIL_CHECK(stats.used_slots >= 0 && stats.used_slots + stats.wasted_slots == n_slots);
    BLOCK_TRAIL_CHECK(stats.n_in_transfer >= block_shadow_n_under_way(world->shadow));
    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        BLOCK_TRAIL_CHECK(stats.tier_slots[tier] == world->config.tier_slots[tier]);
        BLOCK_TRAIL_CHECK(stats.tier_used[tier] >= 0 &&
                          stats.tier_used[tier] <= stats.tier_slots[tier]);
    }
    BLOCK_TRAIL_CHECK(qr_block_manager_leaving_pages(world->blocks) >= 0);
    BLOCK_TRAIL_CHECK(qr_block_manager_available_pages(world->blocks) >= 0);
    BLOCK_TRAIL_CHECK(qr_block_manager_available_pages(world->blocks) <=
                      stats.cached_pages + stats.free_pages);
}

static void check_estimate(const struct block_world *world, int32_t id)
{
    struct qr_release_estimate estimate;
    int32_t n_blocks = qr_block_manager_n_blocks(world->blocks, id);

    qr_block_manager_estimate(world->blocks, id, seq_of(world, id)->n_computed, &estimate);
    BLOCK_TRAIL_CHECK(estimate.n_freed >= 0 && estimate.n_freed <= n_blocks);
    BLOCK_TRAIL_CHECK(estimate.n_dirty >= 0 && estimate.n_dirty <= estimate.n_freed);
    BLOCK_TRAIL_CHECK(estimate.swap_ns >= 0 && estimate.recompute_ns >= 0);
    BLOCK_TRAIL_CHECK(!isnan(estimate.swap_ns) && isfinite(estimate.recompute_ns));
}

void block_world_check(const struct block_world *world, bool deep)
{
    check_counts(world);
    for (int32_t id = 0; id < world->config.max_sequences; id++) {
        const struct block_world_seq *seq = seq_of(world, id);
        if (!seq->is_open || !seq->holds)
            continue;
        if (!seq->is_loading)
            check_reads(world, id, seq->n_computed, seq->n_computed);
        check_estimate(world, id);
    }
    if (deep) {
        qr_block_manager_check(world->blocks);
        block_index_check(world->blocks, world->shadow);
    }
}

struct qr_block_stats block_world_stats(const struct block_world *world)
{
    struct qr_block_stats stats;

    block_world_check(world, true);
    qr_block_manager_stats(world->blocks, &stats);
    return stats;
}
