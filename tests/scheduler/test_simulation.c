/*
 * A real trace through the shipped scheduler: Azure's conversation trace of 2023
 * (Patel et al., "Splitwise", ISCA 2024), its first requests with lengths divided by
 * 32, and a clock that a simple cost of a step drives. No model is needed.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/scheduler_rig.h"

enum {
    MAX_REQUESTS = 2000,
    LENGTH_DIVISOR = 32,
    N_PAGES = 40,
    MAX_RUNNING = 32,
    MAX_WAITING = 64,
};

/* A step costs 80 ms and 2 ms a row: slow enough that the trace fills the pool. */
static const int64_t step_ns = 80 * 1000 * 1000;
static const int64_t row_ns = 2000 * 1000;

struct trace_request {
    int64_t arrival_ns; /* since the first */
    int32_t n_prompt_tokens;
    int32_t n_output_tokens;
};

struct trace {
    int32_t n_requests;
    struct trace_request requests[MAX_REQUESTS];
};

struct simulation {
    struct scheduler_rig rig;
    const struct trace *trace;
    int32_t n_arrived;                             /* requests given to the scheduler */
    int32_t request_of[MAX_RUNNING + MAX_WAITING]; /* by sequence */
    int32_t n_sampled[MAX_REQUESTS];
    int32_t n_finished;
    int64_t n_steps;
    int64_t n_entries; /* over all steps */
    int64_t n_rows;
    int32_t peak_pages;
    int64_t now_ns; /* at the end */
    uint64_t hash;  /* FNV-1a over all plans */
};

static int32_t scaled(int32_t n_tokens)
{
    return n_tokens >= LENGTH_DIVISOR ? n_tokens / LENGTH_DIVISOR : 1;
}

static int64_t seconds_to_ns(int day, int hour, int minute, double second)
{
    int64_t minutes = ((int64_t)day * 24 + hour) * 60 + minute;
    return minutes * 60 * QR_NS_PER_SEC + (int64_t)(second * (double)QR_NS_PER_SEC);
}

/* False when the trace is not there. */
static bool read_trace(struct trace *trace)
{
    const char *folder = getenv("QUIRE_TESTDATA");
    char path[1024];
    char line[256];

    trace->n_requests = 0;
    snprintf(path, sizeof(path), "%s/traces/azure-2023/AzureLLMInferenceTrace_conv.csv",
             folder != NULL ? folder : ".");
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        printf("skipped: no %s\n", path);
        return false;
    }
    assert_non_null(fgets(line, sizeof(line), file)); /* the heading */
    while (trace->n_requests < MAX_REQUESTS && fgets(line, sizeof(line), file) != NULL) {
        int day, hour, minute, n_prompt, n_output;
        double second;
        assert_int_equal(sscanf(line, "%*d-%*d-%d %d:%d:%lf,%d,%d", &day, &hour, &minute, &second,
                                &n_prompt, &n_output),
                         6);
        trace->requests[trace->n_requests++] =
            (struct trace_request){.arrival_ns = seconds_to_ns(day, hour, minute, second),
                                   .n_prompt_tokens = scaled(n_prompt),
                                   .n_output_tokens = scaled(n_output)};
    }
    fclose(file);
    assert_int_equal(trace->n_requests, MAX_REQUESTS);
    int64_t first_ns = trace->requests[0].arrival_ns;
    for (int32_t i = 0; i < trace->n_requests; i++)
        trace->requests[i].arrival_ns -= first_ns;
    return true;
}

/* Those whose time has come, as far as the queue takes them; the rest come back later. */
static void add_arrivals(struct simulation *sim)
{
    while (sim->n_arrived < sim->trace->n_requests) {
        const struct trace_request *request = &sim->trace->requests[sim->n_arrived];
        int32_t n_tokens = request->n_prompt_tokens + request->n_output_tokens;
        const struct scheduler_world_request params = {.document = sim->n_arrived,
                                                       .cut = n_tokens,
                                                       .branch = sim->n_arrived,
                                                       .n_prompt = request->n_prompt_tokens,
                                                       .n_target = n_tokens - 1,
                                                       .max_tokens = n_tokens};
        qr_seq_id id;
        if (request->arrival_ns > sim->rig.world->now_ns)
            return;
        enum qr_status st = scheduler_world_add(sim->rig.world, &params, &id);
        if (st == QR_ERR_QUEUE_FULL)
            return;
        assert_int_equal(st, QR_OK);
        sim->request_of[id] = sim->n_arrived++;
    }
}

static void hash_value(struct simulation *sim, int32_t value)
{
    for (int shift = 0; shift < 32; shift += 8)
        sim->hash = (sim->hash ^ (((uint32_t)value >> shift) & 0xff)) * UINT64_C(0x100000001b3);
}

static void hash_plan(struct simulation *sim)
{
    const struct qr_plan *plan = &sim->rig.world->plan;

    hash_value(sim, plan->n_entries);
    for (int32_t i = 0; i < plan->n_entries; i++) {
        hash_value(sim, plan->entries[i].seq);
        hash_value(sim, plan->entries[i].first_position);
        hash_value(sim, plan->entries[i].n_tokens);
        hash_value(sim, plan->entries[i].samples);
    }
    hash_value(sim, plan->n_preempted);
    for (int32_t i = 0; i < plan->n_preempted; i++) {
        hash_value(sim, plan->preempted[i].seq);
        hash_value(sim, (int32_t)plan->preempted[i].how);
    }
    hash_value(sim, plan->n_admitted);
    for (int32_t i = 0; i < plan->n_admitted; i++)
        hash_value(sim, plan->admitted[i]);
}

static void sample(struct simulation *sim, qr_seq_id id)
{
    int64_t n_finished = sim->rig.world->n_finished;

    sim->n_sampled[sim->request_of[id]]++;
    scheduler_world_token(sim->rig.world, id);
    sim->n_finished += sim->rig.world->n_finished > n_finished;
}

static void run_step(struct simulation *sim)
{
    struct qr_block_stats blocks;
    const struct qr_plan *plan = &sim->rig.world->plan;

    scheduler_world_plan(sim->rig.world);
    hash_plan(sim);
    scheduler_rig_end_transfers(&sim->rig, true);
    if (plan->n_entries == 0 && plan->n_transfers > 0)
        return;                 /* they have ended */
    if (plan->n_entries == 0) { /* idle: on to the next arrival */
        assert_true(sim->n_arrived < sim->trace->n_requests);
        sim->rig.world->now_ns = sim->trace->requests[sim->n_arrived].arrival_ns;
        return;
    }
    qr_block_manager_stats(sim->rig.blocks, &blocks);
    if (blocks.used_pages > sim->peak_pages)
        sim->peak_pages = blocks.used_pages;
    sim->n_steps++;
    sim->n_entries += plan->n_entries;
    sim->n_rows += plan->n_rows;
    sim->rig.world->now_ns += step_ns + plan->n_rows * row_ns;
    scheduler_world_complete(sim->rig.world);
    for (int32_t i = 0; i < plan->n_entries; i++)
        if (plan->entries[i].samples)
            sample(sim, plan->entries[i].seq);
}

static void simulate(struct simulation *sim, const struct trace *trace,
                     struct qr_scheduler_stats *stats)
{
    static const struct scheduler_rig_config config = {
        .page_count = N_PAGES,
        .host_slots = N_PAGES,
        .scheduler = {.max_batch_tokens = 64,
                      .max_running = MAX_RUNNING,
                      .max_waiting = MAX_WAITING,
                      .max_logit_rows = MAX_RUNNING},
    };

    *sim = (struct simulation){.trace = trace, .hash = UINT64_C(0xcbf29ce484222325)};
    scheduler_rig_open(&sim->rig, &config);
    while (sim->n_finished < trace->n_requests) {
        add_arrivals(sim);
        run_step(sim);
    }
    qr_scheduler_get_stats(sim->rig.sched, stats);
    sim->now_ns = sim->rig.world->now_ns;
    scheduler_rig_close(&sim->rig);
}

static int64_t total_rows(const struct trace *trace)
{
    int64_t n_rows = 0;
    for (int32_t i = 0; i < trace->n_requests; i++) /* the last output token is not computed */
        n_rows += trace->requests[i].n_prompt_tokens + trace->requests[i].n_output_tokens - 1;
    return n_rows;
}

static void a_real_trace_runs_through_a_small_pool(void **state)
{
    (void)state;
    static struct trace trace;
    static struct simulation sim;
    static struct simulation again;
    struct qr_scheduler_stats stats;
    struct qr_scheduler_stats stats_again;

    if (!read_trace(&trace))
        return;
    simulate(&sim, &trace, &stats);
    printf("%d requests: %" PRId64 " steps in %.0f simulated seconds, mean batch %.2f sequences "
           "and %.2f rows, %" PRId64 " preemptions (%" PRId64 " by swap), %" PRId64
           " recomputed tokens (%.1f %%), "
           "peak %d of %d pages, plans %016" PRIx64 "\n",
           trace.n_requests, sim.n_steps, (double)sim.now_ns / (double)QR_NS_PER_SEC,
           (double)sim.n_entries / (double)sim.n_steps, (double)sim.n_rows / (double)sim.n_steps,
           stats.n_swapped + stats.n_recomputed, stats.n_swapped, stats.n_recomputed_tokens,
           100.0 * (double)stats.n_recomputed_tokens / (double)sim.n_rows, sim.peak_pages, N_PAGES,
           sim.hash);

    assert_true(stats.n_swapped + stats.n_recomputed > 0);
    assert_true(sim.peak_pages > N_PAGES / 2);
    assert_int_equal(stats.n_running + stats.n_waiting, 0);
    for (int32_t i = 0; i < trace.n_requests; i++)
        assert_int_equal(sim.n_sampled[i], trace.requests[i].n_output_tokens);
    /* Nothing is computed twice but what preemption threw away. */
    assert_int_equal(sim.n_rows, total_rows(&trace) + stats.n_recomputed_tokens);

    simulate(&again, &trace, &stats_again);
    assert_true(again.hash == sim.hash);
    assert_int_equal(again.n_steps, sim.n_steps);
    assert_int_equal(stats_again.n_swapped, stats.n_swapped);
    assert_int_equal(stats_again.n_recomputed, stats.n_recomputed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_trace_runs_through_a_small_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
