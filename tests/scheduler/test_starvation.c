/*
 * Everybody makes progress: the bound of docs/scheduling.md under a stream of higher
 * priorities, a flooding tenant and urgent arrivals; and a pool overcommitted ten times, with
 * beams that wait for each other and slow readers, in which every request finishes.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/block_trail.h"
#include "tests/support/scheduler_world.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

static const struct scheduler_world_config small_config = {
    .blocks = {.page_count = 24,
               .page_size = 8,
               .max_seq_tokens = 64,
               .tier_slots = {16, 0},
               .max_transfers = 4,
               .prefix_cache = true},
    .scheduler = {.max_batch_tokens = 32, .max_running = 6, .max_waiting = 16, .max_logit_rows = 6},
};

/* splitmix64: fixed seeds give the same run on every machine. */
static uint64_t next_random(uint64_t *rng)
{
    uint64_t z = (*rng += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void end_transfers(struct scheduler_world *world)
{
    for (int32_t id = 0; id < world->config.blocks.max_transfers; id++)
        if (block_shadow_is_under_way(world->shadow, id))
            scheduler_world_end_transfer(world, id, true);
}

/* Transfers end within their step, so that no step waits for one. */
static void step(struct scheduler_world *world)
{
    scheduler_world_plan(world);
    end_transfers(world);
    if (!world->is_planned)
        return;
    scheduler_world_complete(world);
    for (int32_t i = 0; i < world->plan.n_entries; i++) {
        qr_seq_id id = world->plan.entries[i].seq;
        if (world->seqs[id].in_use && world->seqs[id].awaits_token)
            scheduler_world_token(world, id);
    }
}

/* Requests of 40 tokens, all different. */
static struct scheduler_world_request make_request(int32_t number, int32_t tenant, int32_t priority)
{
    return (struct scheduler_world_request){.document = number,
                                            .cut = 30,
                                            .n_prompt = 30,
                                            .n_target = 40,
                                            .max_tokens = 40,
                                            .tenant = tenant,
                                            .priority = priority};
}

struct stream {
    struct scheduler_world *world;
    struct scheduler_world_request kind;
    int32_t n_added;
};

/* As many arrivals as the queue takes, but for `n_kept` places. */
static void flood(struct stream *stream, int32_t n_kept)
{
    struct qr_scheduler_stats stats;
    qr_seq_id id;

    qr_scheduler_get_stats(stream->world->sched, &stats);
    while (stats.n_waiting + n_kept < stream->world->config.scheduler.max_waiting) {
        stream->kind.document = 1000 + stream->n_added++;
        BLOCK_TRAIL_CHECK(scheduler_world_add(stream->world, &stream->kind, &id) == QR_OK);
        stats.n_waiting++;
    }
}

/* Tokens that the sequences which are there may still have computed. */
static int64_t tokens_ahead(const struct scheduler_world *world)
{
    int64_t n_tokens = 0;

    for (qr_seq_id id = 0; id < world->n_slots; id++)
        if (world->seqs[id].in_use)
            n_tokens += world->seqs[id].request.max_tokens;
    return n_tokens;
}

static bool is_there(const struct scheduler_world *world, qr_seq_id id, int32_t serial)
{
    return world->seqs[id].in_use && world->seqs[id].serial == serial;
}

struct wait {
    int64_t n_steps;             /* from arrival to the end */
    int64_t n_overtaking;        /* arrivals admitted between its arrival and its own admission */
    int64_t n_overtaking_tokens; /* that they asked for */
};

/* Runs the stream until the sequence has ended. */
static struct wait wait_for(struct stream *stream, qr_seq_id id)
{
    struct scheduler_world *world = stream->world;
    int32_t serial = world->seqs[id].serial;
    bool was_admitted = false;
    struct wait wait = {0};

    while (is_there(world, id, serial)) {
        flood(stream, 0);
        step(world);
        wait.n_steps++;
        for (int32_t i = 0; i < world->plan.n_admitted; i++) {
            const struct scheduler_world_seq *seq = &world->seqs[world->plan.admitted[i]];
            was_admitted = was_admitted || world->plan.admitted[i] == id;
            if (!was_admitted && seq->serial > serial) {
                wait.n_overtaking++;
                wait.n_overtaking_tokens += seq->request.max_tokens;
            }
        }
        BLOCK_TRAIL_CHECK(wait.n_steps < 1000 * 1000);
    }
    return wait;
}

static struct scheduler_world *make_world(enum qr_discipline discipline)
{
    struct scheduler_world_config config = small_config;

    config.scheduler.discipline = discipline;
    block_trail_start();
    return scheduler_world_create(&config);
}

/* docs/scheduling.md, "The bound", (1) to (3), of a request that arrives at a full house. */
static void a_stream_of_higher_priorities_delays_within_the_bound(void **state)
{
    (void)state;
    static const struct {
        int32_t priority;
        double weight;
        enum qr_discipline discipline;
    } streams[] = {{1, 1, QR_DISCIPLINE_COST},    {3, 1, QR_DISCIPLINE_SWAP},
                   {1, 4, QR_DISCIPLINE_COST},    {1, 1, QR_DISCIPLINE_RECOMPUTE},
                   {1, 1, QR_DISCIPLINE_RESERVE}, {10, 1, QR_DISCIPLINE_COST}};

    for (size_t i = 0; i < N_ELEMENTS(streams); i++) {
        struct scheduler_world *world = make_world(streams[i].discipline);
        struct stream stream = {.world = world, .kind = make_request(0, 1, streams[i].priority)};
        struct scheduler_world_request request = make_request(1, 0, 0);
        qr_seq_id id;

        qr_scheduler_set_tenant(world->sched, 1, streams[i].weight, 0);
        for (int n = 0; n < 50; n++) {
            flood(&stream, 1);
            step(world);
        }
        int64_t n_before = tokens_ahead(world);
        BLOCK_TRAIL_CHECK(scheduler_world_add(world, &request, &id) == QR_OK);
        struct wait wait = wait_for(&stream, id);
        double most = streams[i].weight * QR_PRIORITY_TOKENS * streams[i].priority;
        printf("priority %d, weight %g: overtaken by %" PRId64 " requests of %" PRId64
               " tokens (bound %.0f), %" PRId64 " steps to the end\n",
               streams[i].priority, streams[i].weight, wait.n_overtaking, wait.n_overtaking_tokens,
               most + stream.kind.max_tokens, wait.n_steps);
        assert_true(wait.n_overtaking > 0); /* the stream does what it is for */
        assert_true((double)wait.n_overtaking_tokens <= most + stream.kind.max_tokens);
        assert_true(wait.n_steps <= n_before + wait.n_overtaking_tokens + request.max_tokens);
        scheduler_world_destroy(world);
    }
}

/* Its next arrivals start where its backlog finishes: another tenant stands before them. */
static void a_flooding_tenant_is_overtaken_at_once(void **state)
{
    (void)state;
    struct scheduler_world *world = make_world(QR_DISCIPLINE_COST);
    struct stream stream = {.world = world, .kind = make_request(0, 1, 0)};

    for (int32_t n = 0; n < 40; n++) {
        for (int k = 0; k < 7; k++) {
            flood(&stream, 1);
            step(world);
        }
        struct scheduler_world_request request = make_request(n, 2, 0);
        qr_seq_id id;
        int64_t n_before = tokens_ahead(world);
        BLOCK_TRAIL_CHECK(scheduler_world_add(world, &request, &id) == QR_OK);
        struct wait wait = wait_for(&stream, id);
        assert_int_equal(wait.n_overtaking, 0);
        assert_true(wait.n_steps <= n_before + request.max_tokens);
    }
    scheduler_world_destroy(world);
}

/* Over a long time the rows are shared as the weights say. */
static void tenants_share_by_weight(void **state)
{
    (void)state;
    struct scheduler_world *world = make_world(QR_DISCIPLINE_COST);
    int64_t n_ended[3] = {0};
    int32_t n_added = 0;

    qr_scheduler_set_tenant(world->sched, 1, 1, 0);
    qr_scheduler_set_tenant(world->sched, 2, 3, 0);
    for (int n = 0; n < 20000; n++) {
        int32_t n_there[3] = {0};
        for (qr_seq_id id = 0; id < world->n_slots; id++)
            if (world->seqs[id].in_use)
                n_there[world->seqs[id].request.tenant]++;
        for (int32_t tenant = 1; tenant <= 2; tenant++) {
            struct scheduler_world_request request = make_request(++n_added, tenant, 0);
            qr_seq_id id;
            if (n_there[tenant] < 8)
                BLOCK_TRAIL_CHECK(scheduler_world_add(world, &request, &id) == QR_OK);
        }
        step(world);
        for (int32_t i = 0; i < world->plan.n_admitted; i++)
            n_ended[world->seqs[world->plan.admitted[i]].request.tenant]++;
    }
    double share = (double)n_ended[2] / (double)n_ended[1];
    printf("weights 1 and 3: %" PRId64 " and %" PRId64 " admissions\n", n_ended[1], n_ended[2]);
    assert_true(share > 2.7 && share < 3.3);
    scheduler_world_destroy(world);
}

/* After an urgent admission the next goes by rank. */
static void urgent_arrivals_never_go_twice_in_a_row(void **state)
{
    (void)state;
    struct scheduler_world *world = make_world(QR_DISCIPLINE_COST);
    struct stream stream = {.world = world, .kind = make_request(0, 1, 0)};

    stream.kind.first_token_ns = 1000 * 1000 * 1000;
    for (int n = 0; n < 100; n++) {
        flood(&stream, 1);
        world->now_ns += 100 * 1000 * 1000;
        step(world);
    }
    for (int32_t n = 0; n < 10; n++) {
        struct scheduler_world_request request = make_request(n, 0, 0);
        qr_seq_id id;
        BLOCK_TRAIL_CHECK(scheduler_world_add(world, &request, &id) == QR_OK);
        int32_t serial = world->seqs[id].serial;
        int64_t n_others = 0;
        bool was_admitted = false;
        while (!was_admitted) {
            world->now_ns += 100 * 1000 * 1000;
            flood(&stream, 0);
            step(world);
            for (int32_t i = 0; i < world->plan.n_admitted && !was_admitted; i++) {
                qr_seq_id admitted = world->plan.admitted[i];
                was_admitted = admitted == id && world->seqs[id].serial == serial;
                n_others += !was_admitted;
            }
        }
        assert_true(n_others <= 1);
        while (is_there(world, id, serial))
            step(world);
        flood(&stream, 1);
    }
    scheduler_world_destroy(world);
}

enum { FORKING_TOKENS = 12 }; /* of the output, within which a beam that ended is replaced */

struct overcommit {
    struct scheduler_world *world;
    uint64_t rng;
    int64_t n_resume[64]; /* by slot: the plan at which a slow reader reads again; 0: it reads */
    int64_t n_forks;
    int64_t n_pauses;
};

static int32_t below(struct overcommit *run, int32_t bound)
{
    return (int32_t)(next_random(&run->rng) % (uint64_t)bound);
}

/* All members of a beam have computed their last token, or have lost their pages. */
static bool group_is_ready(const struct scheduler_world *world, int32_t group)
{
    for (qr_seq_id id = 0; id < world->n_slots; id++)
        if (world->seqs[id].in_use && world->seqs[id].group == group &&
            !world->seqs[id].awaits_token)
            return false;
    return true;
}

static void take_tokens(struct overcommit *run)
{
    struct scheduler_world *world = run->world;
    bool is_ready[64];

    for (qr_seq_id id = 0; id < world->n_slots; id++)
        is_ready[id] = world->seqs[id].in_use && world->seqs[id].awaits_token &&
                       group_is_ready(world, world->seqs[id].group);
    for (qr_seq_id id = 0; id < world->n_slots; id++) {
        if (!is_ready[id])
            continue;
        const struct scheduler_world_seq *seq = &world->seqs[id];
        while (scheduler_world_can_fork(world, id) &&
               seq->n_known < seq->request.n_prompt + FORKING_TOKENS) {
            qr_seq_id child = scheduler_world_fork(world, id, 100 + below(run, 1000));
            run->n_forks++;
            run->n_resume[child] = 0;
            scheduler_world_token(world, child);
        }
        scheduler_world_token(world, id);
    }
}

static void let_readers_read(struct overcommit *run)
{
    struct scheduler_world *world = run->world;

    for (qr_seq_id id = 0; id < world->n_slots; id++) {
        if (!world->seqs[id].in_use) {
            run->n_resume[id] = 0;
        } else if (run->n_resume[id] > 0 && world->n_plans >= run->n_resume[id]) {
            run->n_resume[id] = 0;
            scheduler_world_pause(world, id, false);
        } else if (run->n_resume[id] == 0 && below(run, 60) == 0) {
            run->n_resume[id] = world->n_plans + 1 + below(run, 80);
            run->n_pauses++;
            scheduler_world_pause(world, id, true);
        }
    }
}

static void end_some_transfers(struct overcommit *run)
{
    for (int32_t id = 0; id < run->world->config.blocks.max_transfers; id++)
        if (block_shadow_is_under_way(run->world->shadow, id) && below(run, 3) == 0)
            scheduler_world_end_transfer(run->world, id,
                                         block_shadow_can_succeed(run->world->shadow, id) &&
                                             below(run, 20) > 0);
}

/* 30 requests, and those that they fork to, that may each grow to most of the pool. */
static void add_requests(struct overcommit *run)
{
    int32_t longest = run->world->config.blocks.max_seq_tokens;

    for (int32_t n = 0; n < 20; n++) {
        const struct scheduler_world_request request = {.document = n % 3,
                                                        .cut = longest,
                                                        .branch = n,
                                                        .n_prompt = 20 + below(run, longest / 4),
                                                        .n_target = longest - below(run, 40),
                                                        .max_tokens = longest,
                                                        .priority = below(run, 3) - 1,
                                                        .width = n % 4 == 0 ? 3 : 1};
        qr_seq_id id;
        BLOCK_TRAIL_CHECK(scheduler_world_add(run->world, &request, &id) == QR_OK);
    }
}

static bool is_empty(const struct scheduler_world *world)
{
    for (qr_seq_id id = 0; id < world->n_slots; id++)
        if (world->seqs[id].in_use)
            return false;
    return true;
}

static void overcommit(enum qr_discipline discipline, int32_t host, int32_t disk, bool prefix_cache)
{
    /* 24 pages of 8 tokens; 30 sequences of up to 192 tokens want up to 30 times as much. */
    const struct scheduler_world_config config = {
        .blocks = {.page_count = 24,
                   .page_size = 8,
                   .max_seq_tokens = 192,
                   .tier_slots = {host, disk},
                   .max_transfers = host + disk > 0 ? 4 : 0,
                   .prefix_cache = prefix_cache},
        .scheduler = {.max_batch_tokens = 64,
                      .max_running = 16,
                      .max_waiting = 32,
                      .max_parked = 16,
                      .max_logit_rows = 16,
                      .discipline = discipline},
    };
    struct overcommit run = {.rng = 7};

    block_trail_start();
    run.world = scheduler_world_create(&config);
    add_requests(&run);
    int64_t n_tokens = tokens_ahead(run.world) * 3;
    while (!is_empty(run.world) || qr_scheduler_transfers_pending(run.world->sched)) {
        let_readers_read(&run);
        scheduler_world_plan(run.world);
        if (run.world->is_planned)
            scheduler_world_complete(run.world);
        take_tokens(&run);
        end_some_transfers(&run);
        scheduler_world_check(run.world, run.world->n_plans % 16 == 0);
        BLOCK_TRAIL_CHECK(run.world->n_plans < 20 * n_tokens);
    }
    struct qr_scheduler_stats stats;
    qr_scheduler_get_stats(run.world->sched, &stats);
    printf("discipline %d, %d + %d slots, cache %d: %" PRId64 " finished in %" PRId64
           " plans, %" PRId64 " forks, %" PRId64 " pauses; preempted %" PRId64 " by swap, %" PRId64
           " to be recomputed, %" PRId64 " parked; %.1f %% of the rows computed again\n",
           (int)discipline, host, disk, prefix_cache, run.world->n_finished, run.world->n_plans,
           run.n_forks, run.n_pauses, stats.n_swapped, stats.n_recomputed, stats.n_parked,
           100.0 * (double)stats.n_recomputed_tokens / (double)stats.n_computed_rows);
    assert_true(run.world->n_finished >= 20);
    assert_true(stats.n_swapped + stats.n_recomputed > 0 || discipline == QR_DISCIPLINE_RESERVE);
    scheduler_world_check_rest(run.world);
    scheduler_world_destroy(run.world);
}

static void ten_times_too_many_long_beams_with_slow_readers_all_finish(void **state)
{
    (void)state;
    for (int discipline = QR_DISCIPLINE_COST; discipline <= QR_DISCIPLINE_RESERVE; discipline++) {
        overcommit((enum qr_discipline)discipline, 0, 0, true);
        overcommit((enum qr_discipline)discipline, 30, 60, true);
        overcommit((enum qr_discipline)discipline, 30, 0, false);
        overcommit((enum qr_discipline)discipline, 0, 10, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_of_higher_priorities_delays_within_the_bound),
        cmocka_unit_test(a_flooding_tenant_is_overtaken_at_once),
        cmocka_unit_test(tenants_share_by_weight),
        cmocka_unit_test(urgent_arrivals_never_go_twice_in_a_row),
        cmocka_unit_test(ten_times_too_many_long_beams_with_slow_readers_all_finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
