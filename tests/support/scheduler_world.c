/* scheduler_world.c - see scheduler_world.h. */
#include "tests/support/scheduler_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "scheduler/force.h"
#include "tests/support/block_index.h"
#include "tests/support/block_trail.h"
#include "tests/support/block_world.h"

static void *make(int32_t count, size_t size)
{
    void *block = qr_calloc(QR_ARENA_ENGINE, (size_t)count, size);
    assert_non_null(block);
    return block;
}

static void make_arrays(const struct scheduler_world *world, struct scheduler_world_seq *seq)
{
    seq->tokens = make(world->config.blocks.max_seq_tokens, sizeof(*seq->tokens));
    seq->keys = make(world->config.blocks.max_seq_tokens, sizeof(*seq->keys));
}

static void free_arrays(struct scheduler_world_seq *seq)
{
    qr_free(seq->tokens);
    qr_free(seq->keys);
}

struct scheduler_world *scheduler_world_create(const struct scheduler_world_config *config)
{
    struct scheduler_world *world = make(1, sizeof(*world));

    world->config = *config;
    world->n_slots = qr_scheduler_n_slots(&config->scheduler);
    world->config.blocks.max_sequences = world->n_slots;
    world->config.blocks.max_rows = qr_scheduler_max_rows(&config->scheduler);
    assert_int_equal(qr_block_manager_create(&world->config.blocks, &world->blocks), QR_OK);
    assert_int_equal(qr_scheduler_create(&config->scheduler, world->blocks, &world->sched), QR_OK);
    world->shadow = block_shadow_create(&world->config.blocks);
    world->max_blocks = qr_block_manager_max_blocks(world->blocks);
    world->seqs = make(world->n_slots, sizeof(*world->seqs));
    world->groups = make(world->n_slots, sizeof(*world->groups));
    world->steps = make(2 * world->n_slots, sizeof(*world->steps));
    world->launched_steps = make(2 * world->n_slots, sizeof(*world->launched_steps));
    make_arrays(world, &world->spare);
    for (int32_t i = 0; i < world->n_slots; i++)
        make_arrays(world, &world->seqs[i]);
    for (int32_t i = 0; i < 2 * world->n_slots; i++) {
        world->steps[i].pages = make(world->max_blocks, sizeof(int32_t));
        world->launched_steps[i].pages = make(world->max_blocks, sizeof(int32_t));
    }
    return world;
}

void scheduler_world_destroy(struct scheduler_world *world)
{
    for (int32_t i = 0; i < world->n_slots; i++) {
        if (world->seqs[i].in_use)
            scheduler_world_remove(world, i);
        free_arrays(&world->seqs[i]);
    }
    free_arrays(&world->spare);
    for (int32_t i = 0; i < 2 * world->n_slots; i++) {
        qr_free(world->steps[i].pages);
        qr_free(world->launched_steps[i].pages);
    }
    qr_scheduler_destroy(world->sched);
    qr_block_manager_destroy(world->blocks);
    block_shadow_destroy(world->shadow);
    qr_free(world->launched_steps);
    qr_free(world->steps);
    qr_free(world->groups);
    qr_free(world->seqs);
    qr_free(world);
}

static void set_token(struct scheduler_world_seq *seq, int32_t position, int32_t token)
{
    char letter = (char)('a' + seq->request.salt);
    uint64_t before = position > 0 ? seq->keys[position - 1] : block_shadow_first_key(&letter, 1);

    seq->tokens[position] = token;
    seq->keys[position] = block_shadow_next_key(before, token);
}

static struct scheduler_world_group *group_of(const struct scheduler_world *world, int32_t serial)
{
    for (int32_t i = 0; i < world->n_slots; i++)
        if (world->groups[i].n_members > 0 && world->groups[i].serial == serial)
            return &world->groups[i];
    return NULL;
}

static void open_group(struct scheduler_world *world, int32_t serial, int32_t width)
{
    struct scheduler_world_group *group = world->groups;

    while (group->n_members > 0)
        group++;
    *group = (struct scheduler_world_group){
        .serial = serial, .n_members = 1, .n_set_aside = width - 1, .may_fork = width > 1};
}

/* The spare's tokens and keys become those of slot `id`, whose old ones are the next spare. */
static struct scheduler_world_seq *occupy(struct scheduler_world *world, qr_seq_id id)
{
    struct scheduler_world_seq old = world->seqs[id];

    BLOCK_TRAIL_CHECK(id >= 0 && id < world->n_slots && !old.in_use);
    world->seqs[id] = world->spare;
    world->seqs[id].in_use = true;
    world->seqs[id].serial = world->n_serials++;
    world->spare = (struct scheduler_world_seq){.tokens = old.tokens, .keys = old.keys};
    return &world->seqs[id];
}

enum qr_status scheduler_world_add(struct scheduler_world *world,
                                   const struct scheduler_world_request *request, qr_seq_id *out)
{
    struct scheduler_world_seq *spare = &world->spare;
    char letter = (char)('a' + request->salt);
    int32_t width = request->width > 0 ? request->width : 1;

    spare->request = *request;
    spare->n_known = request->n_prompt;
    /* One that is too long, to be refused, is not read to its end. */
    for (int32_t p = 0; p < request->n_prompt && p < world->config.blocks.max_seq_tokens; p++)
        set_token(spare, p, block_world_token(request->document, request->cut, request->branch, p));
    const struct qr_seq_params params = {.tokens = spare->tokens,
                                         .n_prompt_tokens = request->n_prompt,
                                         .max_tokens = request->max_tokens,
                                         .width = width,
                                         .all_logits = request->all_logits,
                                         .priority = request->priority,
                                         .tenant = request->tenant,
                                         .arrival_ns = world->now_ns,
                                         .first_token_ns = request->first_token_ns,
                                         .salt = &letter,
                                         .n_salt_bytes = 1};
    enum qr_status st = qr_scheduler_add(world->sched, &params, out);
    BLOCK_TRAIL_CHECK((st == QR_OK) == (*out != QR_SEQ_NONE));
    if (st == QR_OK) {
        struct scheduler_world_seq *seq = occupy(world, *out);
        seq->group = seq->serial;
        open_group(world, seq->serial, width);
    }
    return st;
}

bool scheduler_world_can_fork(const struct scheduler_world *world, qr_seq_id id)
{
    const struct scheduler_world_seq *seq = &world->seqs[id];
    return seq->in_use && seq->awaits_token && group_of(world, seq->group)->n_set_aside > 0;
}

qr_seq_id scheduler_world_fork(struct scheduler_world *world, qr_seq_id parent, int32_t branch)
{
    const struct scheduler_world_seq *from = &world->seqs[parent];
    struct scheduler_world_group *group = group_of(world, from->group);
    struct scheduler_world_seq *spare = &world->spare;
    int32_t *tokens = spare->tokens;
    uint64_t *keys = spare->keys;

    memcpy(tokens, from->tokens, (size_t)from->n_known * sizeof(*tokens));
    memcpy(keys, from->keys, (size_t)from->n_known * sizeof(*keys));
    *spare = *from;
    spare->tokens = tokens;
    spare->keys = keys;
    spare->request.branch = branch;
    group->n_set_aside--;
    group->n_members++;
    qr_seq_id id = qr_scheduler_fork(world->sched, parent, tokens);
    occupy(world, id);
    return id;
}

void scheduler_world_end_forks(struct scheduler_world *world, qr_seq_id id)
{
    struct scheduler_world_group *group = group_of(world, world->seqs[id].group);

    group->n_set_aside = 0;
    group->may_fork = false;
    qr_scheduler_end_forks(world->sched, id);
}

/* The tokens that the scheduler counts. */
static int32_t n_counted(const struct scheduler_world_seq *seq)
{
    return seq->n_known + seq->token_ahead;
}

/* Rows of a removed sequence may still be written, and then hold nothing that anybody wants. */
static void forget_planned(struct scheduler_world *world, int32_t serial)
{
    for (int32_t i = 0; world->is_planned && i < world->plan.n_entries; i++)
        if (world->steps[i].serial == serial)
            world->steps[i].serial = -1;
    for (int32_t i = 0; world->is_launched && i < world->launched.n_entries; i++)
        if (world->launched_steps[i].serial == serial)
            world->launched_steps[i].serial = -1;
}

void scheduler_world_remove(struct scheduler_world *world, qr_seq_id id)
{
    struct scheduler_world_seq *seq = &world->seqs[id];
    struct scheduler_world_group *group = group_of(world, seq->group);

    forget_planned(world, seq->serial);
    group->n_members--;
    group->n_set_aside += group->may_fork;
    seq->in_use = false;
    qr_scheduler_remove(world->sched, id);
}

void scheduler_world_pause(struct scheduler_world *world, qr_seq_id id, bool paused)
{
    world->seqs[id].paused = paused;
    qr_scheduler_set_paused(world->sched, id, paused);
}

void scheduler_world_preempt(struct scheduler_world *world, qr_seq_id id, enum qr_release how)
{
    struct qr_seq_info info;

    qr_scheduler_force_preempt(world->sched, id, how);
    qr_scheduler_get_info(world->sched, id, &info);
    BLOCK_TRAIL_CHECK(info.state == QR_SEQ_WAITING && info.n_computed == 0);
}

void scheduler_world_token(struct scheduler_world *world, qr_seq_id id)
{
    struct scheduler_world_seq *seq = &world->seqs[id];

    BLOCK_TRAIL_CHECK(seq->in_use && seq->awaits_token);
    if (seq->n_known >= seq->request.n_target) {
        world->n_finished++;
        scheduler_world_remove(world, id);
        return;
    }
    set_token(seq, seq->n_known, block_world_token(0, 0, seq->request.branch, seq->n_known));
    seq->n_known++;
    seq->awaits_token = seq->token_ahead = false;
    world->n_tokens++;
    qr_scheduler_append_token(world->sched, id);
}

static int32_t logit_rows(const struct scheduler_world_seq *seq, const struct qr_plan_entry *entry)
{
    int32_t n = 0;

    for (int32_t p = entry->first_position; p < entry->first_position + entry->n_tokens; p++)
        n += p == n_counted(seq) - 1 || (seq->request.all_logits && p < seq->request.n_prompt);
    return n;
}

static void check_entry(const struct scheduler_world *world, const struct qr_plan_entry *entry)
{
    const struct scheduler_world_seq *seq = &world->seqs[entry->seq];
    int32_t end = entry->first_position + entry->n_tokens;
    int32_t chunk = world->config.scheduler.max_prefill_chunk;
    struct qr_seq_info info;

    BLOCK_TRAIL_CHECK(seq->in_use && !seq->paused && (!seq->awaits_token || seq->token_ahead));
    qr_scheduler_get_info(world->sched, entry->seq, &info);
    BLOCK_TRAIL_CHECK(info.state == QR_SEQ_RUNNING);
    BLOCK_TRAIL_CHECK(entry->first_position == info.n_computed + info.n_under_way);
    BLOCK_TRAIL_CHECK(entry->n_tokens > 0);
    BLOCK_TRAIL_CHECK(chunk == 0 || entry->n_tokens <= chunk);
    BLOCK_TRAIL_CHECK(end <= n_counted(seq) && entry->samples == (end == n_counted(seq)));
    BLOCK_TRAIL_CHECK(end <= qr_block_manager_n_blocks(world->blocks, entry->seq) *
                                 world->config.blocks.page_size);
}

/* n_entries is 0 only when all wait for a token, for a resume or for a transfer. */
static void check_idle(const struct scheduler_world *world)
{
    bool one_wants = false;
    bool one_awaits = false;

    for (qr_seq_id id = 0; id < world->n_slots; id++) {
        const struct scheduler_world_seq *seq = &world->seqs[id];
        one_wants = one_wants || (seq->in_use && !seq->paused && !seq->awaits_token);
        one_awaits = one_awaits || (seq->in_use && seq->awaits_token);
    }
    if (world->plan.n_entries == 0 && !world->is_launched &&
        !qr_scheduler_transfers_pending(world->sched))
        BLOCK_TRAIL_CHECK(!one_wants || one_awaits);
}

static void check_plan(const struct scheduler_world *world)
{
    const struct qr_plan *plan = &world->plan;
    int32_t n_rows = 0;
    int32_t n_logits = 0;

    for (int32_t i = 0; i < plan->n_entries; i++) {
        const struct qr_plan_entry *entry = &plan->entries[i];
        BLOCK_TRAIL_CHECK(entry->seq >= 0 && entry->seq < world->n_slots);
        check_entry(world, entry);
        n_rows += entry->n_tokens;
        n_logits += logit_rows(&world->seqs[entry->seq], entry);
        for (int32_t j = 0; j < i; j++)
            BLOCK_TRAIL_CHECK(plan->entries[j].seq != entry->seq);
    }
    BLOCK_TRAIL_CHECK(n_rows == plan->n_rows);
    BLOCK_TRAIL_CHECK(n_rows <= world->config.scheduler.max_batch_tokens);
    BLOCK_TRAIL_CHECK(n_logits <= world->config.scheduler.max_logit_rows);
    for (int32_t i = 0; i < plan->n_preempted; i++) {
        const struct qr_preemption *preemption = &plan->preempted[i];
        BLOCK_TRAIL_CHECK(world->seqs[preemption->seq].in_use && preemption->n_pages >= 0);
        if (preemption->how == QR_RELEASE_PARKED)
            BLOCK_TRAIL_CHECK(world->seqs[preemption->seq].paused);
    }
    for (int32_t i = 0; i < plan->n_admitted; i++)
        BLOCK_TRAIL_CHECK(world->seqs[plan->admitted[i]].in_use);
    check_idle(world);
}

static void carry_out(const struct scheduler_world *world)
{
    const struct qr_plan *plan = &world->plan;

    for (int32_t i = 0; i < plan->n_copies; i++)
        block_shadow_copy(world->shadow, plan->copies[i]);
    for (int32_t i = 0; i < plan->n_transfers; i++)
        block_shadow_start(world->shadow, &plan->transfers[i]);
}

void scheduler_world_plan(struct scheduler_world *world)
{
    struct qr_plan *plan = &world->plan;

    BLOCK_TRAIL_CHECK(!world->is_launched || !world->is_ahead);
    qr_scheduler_plan(world->sched, world->now_ns, plan);
    world->is_ahead = world->is_launched;
    if (!world->is_ahead)
        carry_out(world);
    check_plan(world);
    for (int32_t i = 0; i < plan->n_entries; i++) {
        qr_seq_id id = plan->entries[i].seq;
        memcpy(world->steps[i].pages, qr_block_manager_block_table(world->blocks, id),
               (size_t)qr_block_manager_n_blocks(world->blocks, id) * sizeof(int32_t));
        world->steps[i].serial = world->seqs[id].serial;
    }
    world->is_planned = plan->n_entries > 0;
    world->n_plans++;
    world->n_rows += plan->n_rows;
}

static void write_rows(const struct scheduler_world *world, const struct qr_plan_entry *entry,
                       const struct scheduler_world_step *step)
{
    const uint64_t *keys = world->seqs[entry->seq].keys;
    int32_t page_size = world->config.blocks.page_size;

    for (int32_t p = entry->first_position; p < entry->first_position + entry->n_tokens; p++)
        block_shadow_write(world->shadow, step->pages[p / page_size], p % page_size,
                           step->serial < 0 ? 0 : keys[p]);
}

/*
 * Of the first n_tokens tokens of a sequence, through its table, those that rows from `first` on
 * read are its own.
 */
static void check_reads(const struct scheduler_world *world, qr_seq_id id, const int32_t *pages,
                        int32_t first, int32_t n_tokens)
{
    const uint64_t *keys = world->seqs[id].keys;
    int32_t page_size = world->config.blocks.page_size;

    for (int32_t p = block_world_first_seen(&world->config.blocks, first); p < n_tokens; p++) {
        qr_page_id page = pages[p / page_size];
        if (p % page_size == 0)
            BLOCK_TRAIL_CHECK(!block_shadow_is_loading(world->shadow, page));
        if (block_shadow_read(world->shadow, page, p % page_size) != keys[p])
            block_trail_fail("sequence %d, token %d: page %d holds other KV", id, p, page);
    }
}

static void compute(const struct scheduler_world *world, const struct qr_plan *plan,
                    const struct scheduler_world_step *steps)
{
    block_shadow_begin_step(world->shadow);
    for (int32_t i = 0; i < plan->n_entries; i++)
        write_rows(world, &plan->entries[i], &steps[i]);
    for (int32_t i = 0; i < plan->n_entries; i++) {
        const struct qr_plan_entry *entry = &plan->entries[i];
        if (steps[i].serial < 0)
            continue;
        check_reads(world, entry->seq, steps[i].pages, entry->first_position,
                    entry->first_position + entry->n_tokens);
        world->seqs[entry->seq].awaits_token = entry->samples;
    }
}

bool scheduler_world_token_is_due(const struct scheduler_world *world)
{
    for (int32_t i = 0; world->is_planned && i < world->plan.n_entries; i++)
        if (world->steps[i].serial >= 0 && world->seqs[world->plan.entries[i].seq].token_ahead)
            return true;
    return false;
}

void scheduler_world_launch(struct scheduler_world *world)
{
    struct scheduler_world_step *steps = world->steps;

    world->steps = world->launched_steps;
    world->launched_steps = steps;
    world->launched = world->plan;
    world->is_launched = true;
    world->is_planned = world->is_ahead = false;
    for (int32_t i = 0; i < world->launched.n_entries; i++) {
        const struct qr_plan_entry *entry = &world->launched.entries[i];
        struct scheduler_world_seq *seq = &world->seqs[entry->seq];
        if (steps[i].serial >= 0 && entry->samples)
            seq->token_ahead =
                seq->n_known < seq->request.max_tokens && !group_of(world, seq->group)->may_fork;
    }
    qr_scheduler_launch(world->sched, &world->launched);
}

void scheduler_world_complete(struct scheduler_world *world)
{
    if (!world->is_launched) {
        compute(world, &world->plan, world->steps);
        world->is_planned = false;
        qr_scheduler_complete(world->sched, &world->plan);
        return;
    }
    compute(world, &world->launched, world->launched_steps);
    world->is_launched = false;
    qr_scheduler_complete(world->sched, &world->launched);
    if (world->is_ahead)
        carry_out(world);
    world->is_ahead = false;
}

void scheduler_world_end_transfer(struct scheduler_world *world, int32_t id, bool ok)
{
    block_shadow_end(world->shadow, id, ok);
    qr_scheduler_transfer_done(world->sched, id, ok);
}

static void check_sequence(const struct scheduler_world *world, qr_seq_id id,
                           const struct qr_seq_info *info)
{
    const struct scheduler_world_seq *seq = &world->seqs[id];
    int32_t n_blocks = qr_block_manager_n_blocks(world->blocks, id);

    BLOCK_TRAIL_CHECK(info->n_computed >= 0 && info->n_computed <= seq->n_known);
    BLOCK_TRAIL_CHECK(info->n_cached_prompt_tokens >= 0 &&
                      info->n_cached_prompt_tokens < seq->request.n_prompt);
    if (info->state == QR_SEQ_WAITING)
        BLOCK_TRAIL_CHECK(n_blocks == 0 && info->n_computed == 0);
    else
        BLOCK_TRAIL_CHECK(info->n_computed <= n_blocks * world->config.blocks.page_size);
    /* Copies of a plan made beside a launched one are carried out when that one is complete. */
    if (info->state == QR_SEQ_RUNNING && !world->is_ahead)
        check_reads(world, id, qr_block_manager_block_table(world->blocks, id), info->n_computed,
                    info->n_computed);
}

static void check_counts(const struct scheduler_world *world)
{
    struct qr_block_stats stats;
    uint8_t is_used[1 << 12] = {0};
    int32_t n_used = 0;

    for (qr_seq_id id = 0; id < world->n_slots; id++) {
        const int32_t *table = qr_block_manager_block_table(world->blocks, id);
        int32_t n_blocks = qr_block_manager_n_blocks(world->blocks, id);
        BLOCK_TRAIL_CHECK(n_blocks == 0 || world->seqs[id].in_use);
        for (int32_t i = qr_block_manager_first_block(world->blocks, id); i < n_blocks; i++) {
            n_used += !is_used[table[i]];
            is_used[table[i]] = 1;
        }
    }
    qr_block_manager_stats(world->blocks, &stats);
    BLOCK_TRAIL_CHECK(stats.used_pages == n_used);
    BLOCK_TRAIL_CHECK(stats.used_pages + stats.cached_pages + stats.free_pages ==
                      world->config.blocks.page_count);
    BLOCK_TRAIL_CHECK(stats.used_slots >= 0 && stats.wasted_slots >= 0);
    BLOCK_TRAIL_CHECK(stats.n_in_transfer >= block_shadow_n_under_way(world->shadow));
    BLOCK_TRAIL_CHECK(qr_block_manager_available_pages(world->blocks) >= 0);
}

void scheduler_world_check(const struct scheduler_world *world, bool deep)
{
    struct qr_scheduler_stats stats;
    struct qr_scheduler_stats expected = {0};

    for (qr_seq_id id = 0; id < world->n_slots; id++) {
        struct qr_seq_info info;
        if (!world->seqs[id].in_use)
            continue;
        qr_scheduler_get_info(world->sched, id, &info);
        check_sequence(world, id, &info);
        expected.n_running += info.state != QR_SEQ_WAITING;
        expected.n_loading += info.state == QR_SEQ_LOADING;
        expected.n_waiting += info.state == QR_SEQ_WAITING;
        expected.n_paused += world->seqs[id].paused;
    }
    qr_scheduler_get_stats(world->sched, &stats);
    BLOCK_TRAIL_CHECK(stats.n_running == expected.n_running);
    BLOCK_TRAIL_CHECK(stats.n_running <= world->config.scheduler.max_running);
    BLOCK_TRAIL_CHECK(stats.n_loading == expected.n_loading);
    BLOCK_TRAIL_CHECK(stats.n_waiting == expected.n_waiting);
    BLOCK_TRAIL_CHECK(stats.n_paused == expected.n_paused);
    if (deep) {
        check_counts(world);
        qr_block_manager_check(world->blocks);
        if (!world->is_ahead)
            block_index_check(world->blocks, world->shadow);
    }
}

void scheduler_world_check_rest(const struct scheduler_world *world)
{
    struct qr_block_stats stats;

    qr_block_manager_stats(world->blocks, &stats);
    BLOCK_TRAIL_CHECK(stats.used_pages == 0 && stats.used_slots == 0 && stats.n_in_transfer == 0);
    BLOCK_TRAIL_CHECK(qr_block_manager_leaving_pages(world->blocks) == 0);
    BLOCK_TRAIL_CHECK(qr_block_manager_available_pages(world->blocks) == stats.page_count);
    if (!world->config.blocks.prefix_cache)
        BLOCK_TRAIL_CHECK(stats.cached_pages == 0 && stats.tier_used[QR_TIER_HOST] == 0 &&
                          stats.tier_used[QR_TIER_DISK] == 0);
}
