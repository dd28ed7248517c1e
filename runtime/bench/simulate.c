/* simulate.c - see simulate.h for the contract. */
#include "runtime/bench/simulate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/array.h"
#include "base/assert.h"
#include "base/clock.h"
#include "runtime/bench/cpu_time.h"

enum {
    VOCABULARY = 1 << 30, /* so many that two made-up prompts never share a page */
    MAX_TRANSFERS = 1024, /* under way at one time */
    NO_REQUEST = -1,
};

/* Transfers of one tier and direction, which end in the order in which they began. */
struct link {
    double page_ns;
    int64_t free_ns; /* when the last one ends */
    int32_t first;   /* ring of those under way */
    int32_t count;
    int32_t ids[MAX_TRANSFERS];
    int64_t end_ns[MAX_TRANSFERS];
};

struct simulator {
    const struct qr_simulation *in;
    const struct qr_trace *trace;
    struct qr_simulation_result *out;
    struct qr_request_result *requests;
    struct qr_block_manager *blocks;
    struct qr_scheduler *sched;
    struct link *links;  /* [QR_TIER_COUNT][2], in and out */
    int32_t *request_of; /* [n_slots] */
    int32_t **tokens;    /* [n_requests]: of those that have arrived and not ended */
    int32_t *n_generated;
    double *plan_ns; /* [out->n_steps] */
    int32_t plan_capacity;
    int32_t n_plans;
    int32_t n_arrived;
    int32_t n_ended;
    int64_t now_ns;
    int64_t last_end_ns;
    double wasted_slot_ns; /* over the time of the steps */
    double used_slot_ns;
    double n_entries;
    int64_t cpu_ns;
};

void qr_device_model_default(struct qr_device_model *device)
{
    *device = (struct qr_device_model){
        .weight_bytes = 16e9,
        .kv_bytes_per_token = 131072,
        .bytes_per_s = 4.8e12 * 0.8,
        .flops_per_s = 989e12 * 0.6,
        .flops_per_row = 16e9,
        .flops_per_score = 4.0 * 32 * 32 * 128,
        .step_s = 1e-3,
        .link_bytes_per_s = {[QR_TIER_HOST] = 50e9, [QR_TIER_DISK] = 5e9},
    };
}

void qr_device_model_costs(const struct qr_device_model *device, int32_t page_size,
                           struct qr_block_costs *costs)
{
    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        double page_ns =
            device->kv_bytes_per_token * page_size / device->link_bytes_per_s[tier] * 1e9;
        costs->page_out_ns[tier] = costs->page_in_ns[tier] = page_ns;
    }
    costs->row_ns = device->flops_per_row / device->flops_per_s * 1e9;
    costs->row_position_ns = device->flops_per_score / device->flops_per_s * 1e9;
}

const char *qr_discipline_name(enum qr_discipline discipline)
{
    static const char *const names[] = {
        [QR_DISCIPLINE_COST] = "cost",
        [QR_DISCIPLINE_SWAP] = "swap",
        [QR_DISCIPLINE_RECOMPUTE] = "recompute",
        [QR_DISCIPLINE_RESERVE] = "reserve",
    };
    return names[discipline];
}

static int compare_down(const void *a, const void *b)
{
    int32_t left = *(const int32_t *)a;
    int32_t right = *(const int32_t *)b;

    return (left < right) - (left > right);
}

int32_t qr_simulation_all_pages(const struct qr_simulation *simulation)
{
    const struct qr_trace *trace = simulation->trace;
    int32_t n_requests = trace->n_requests;
    int32_t *pages = qr_malloc(QR_ARENA_REQUEST, sizeof(*pages) * (size_t)n_requests);
    int64_t n_pages = 1;

    if (pages == NULL)
        return INT32_MAX;
    for (int32_t i = 0; i < n_requests; i++)
        pages[i] =
            (trace->requests[i].n_prompt + trace->requests[i].n_output) / simulation->page_size + 2;
    qsort(pages, (size_t)n_requests, sizeof(pages[0]), compare_down);
    for (int32_t i = 0; i < n_requests && i < simulation->max_running; i++)
        n_pages += pages[i];
    qr_free(pages);
    return n_pages < INT32_MAX ? (int32_t)n_pages : INT32_MAX;
}

/* What a request asks for. */
static int32_t tokens_asked(const struct qr_simulation *in, const struct qr_trace_request *request)
{
    int32_t n_tokens = request->n_prompt + request->n_output;
    int32_t n_asked = request->n_prompt + in->output_limit;

    if (in->context > 0 && n_asked > in->context)
        n_asked = in->context;
    return n_asked > n_tokens ? n_asked : n_tokens;
}

static int32_t longest_asked(const struct qr_simulation *in)
{
    int32_t longest = 0;

    for (int32_t i = 0; i < in->trace->n_requests; i++) {
        int32_t n_tokens = tokens_asked(in, &in->trace->requests[i]);
        longest = n_tokens > longest ? n_tokens : longest;
    }
    return longest;
}

static bool swaps(enum qr_discipline discipline)
{
    return discipline == QR_DISCIPLINE_COST || discipline == QR_DISCIPLINE_SWAP;
}

static void set_links(struct simulator *sim)
{
    struct qr_block_costs costs;

    qr_device_model_costs(&sim->in->device, sim->in->page_size, &costs);
    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        sim->links[2 * tier].page_ns = costs.page_in_ns[tier];
        sim->links[2 * tier + 1].page_ns = costs.page_out_ns[tier];
    }
    qr_scheduler_set_costs(sim->sched, &costs);
}

/* The queue is as long as the trace: nothing is refused. */
static enum qr_status create_subject(struct simulator *sim, struct qr_error *err)
{
    const struct qr_simulation *in = sim->in;
    const struct qr_scheduler_config config = {
        .max_batch_tokens = in->max_batch_tokens,
        .max_running = in->max_running,
        .max_waiting = sim->trace->n_requests,
        .max_logit_rows = in->max_running,
        .discipline = in->discipline,
    };
    struct qr_block_manager_config blocks = {
        .page_count = in->page_count,
        .page_size = in->page_size,
        .max_sequences = qr_scheduler_n_slots(&config),
        .max_seq_tokens = longest_asked(in),
        .prefix_cache = true,
    };
    if (swaps(in->discipline)) {
        memcpy(blocks.tier_slots, in->tier_slots, sizeof(blocks.tier_slots));
        if (in->tier_slots[QR_TIER_HOST] > 0 || in->tier_slots[QR_TIER_DISK] > 0)
            blocks.max_transfers = MAX_TRANSFERS;
    }
    int32_t n_blocks = (blocks.max_seq_tokens + in->page_size - 1) / in->page_size;
    if (n_blocks > in->page_count)
        return qr_fail(err, QR_ERR_INVALID,
                       "%d KV pages do not hold the longest request of the trace, which needs %d",
                       in->page_count, n_blocks);
    QR_TRY(qr_block_manager_create(&blocks, &sim->blocks));
    return qr_scheduler_create(&config, sim->blocks, &sim->sched);
}

static enum qr_status create(struct simulator *sim, struct qr_error *err)
{
    size_t n_requests = (size_t)sim->trace->n_requests;
    size_t n_slots = n_requests + (size_t)sim->in->max_running;

    QR_TRY(create_subject(sim, err));
    sim->links = qr_calloc(QR_ARENA_REQUEST, 2 * QR_TIER_COUNT, sizeof(*sim->links));
    sim->request_of = qr_calloc(QR_ARENA_REQUEST, n_slots, sizeof(*sim->request_of));
    sim->tokens = qr_calloc(QR_ARENA_REQUEST, n_requests, sizeof(*sim->tokens));
    sim->n_generated = qr_calloc(QR_ARENA_REQUEST, n_requests, sizeof(*sim->n_generated));
    sim->requests = qr_calloc(QR_ARENA_REQUEST, n_requests, sizeof(*sim->requests));
    if (sim->links == NULL || sim->request_of == NULL || sim->tokens == NULL ||
        sim->n_generated == NULL || sim->requests == NULL)
        return QR_ERR_NOMEM;
    set_links(sim);
    return QR_OK;
}

static void destroy(struct simulator *sim)
{
    qr_scheduler_destroy(sim->sched);
    qr_block_manager_destroy(sim->blocks);
    for (int32_t i = 0; sim->tokens != NULL && i < sim->trace->n_requests; i++)
        qr_free(sim->tokens[i]);
    qr_free(sim->links);
    qr_free(sim->request_of);
    qr_free(sim->tokens);
    qr_free(sim->n_generated);
    qr_free(sim->plan_ns);
}

static int64_t arrival_ns(const struct simulator *sim, int32_t request)
{
    return sim->trace->requests[request].arrival_ns;
}

static enum qr_status arrive(struct simulator *sim)
{
    int32_t request = sim->n_arrived++;
    const struct qr_trace_request *self = &sim->trace->requests[request];
    size_t n_tokens = (size_t)self->n_prompt + (size_t)self->n_output;
    int32_t *tokens = qr_malloc(QR_ARENA_REQUEST, sizeof(*tokens) * n_tokens);
    qr_seq_id seq;

    if (tokens == NULL)
        return QR_ERR_NOMEM;
    sim->tokens[request] = tokens;
    qr_trace_prompt(sim->trace, request, 0, VOCABULARY, tokens);
    const struct qr_seq_params params = {
        .tokens = tokens,
        .n_prompt_tokens = self->n_prompt,
        .max_tokens = tokens_asked(sim->in, self),
        .width = 1,
        .arrival_ns = self->arrival_ns,
        .salt = "",
    };
    QR_TRY(qr_scheduler_add(sim->sched, &params, &seq));
    sim->request_of[seq] = request;
    return QR_OK;
}

static enum qr_status arrive_until_now(struct simulator *sim)
{
    while (sim->n_arrived < sim->trace->n_requests &&
           arrival_ns(sim, sim->n_arrived) <= sim->now_ns)
        QR_TRY(arrive(sim));
    return QR_OK;
}

static void end_transfers(struct simulator *sim)
{
    for (int i = 0; i < 2 * QR_TIER_COUNT; i++) {
        struct link *link = &sim->links[i];
        while (link->count > 0 && link->end_ns[link->first] <= sim->now_ns) {
            qr_scheduler_transfer_done(sim->sched, link->ids[link->first], true);
            link->first = (link->first + 1) % MAX_TRANSFERS;
            link->count--;
        }
    }
}

static void start_transfers(struct simulator *sim, const struct qr_plan *plan)
{
    for (int32_t i = 0; i < plan->n_transfers; i++) {
        const struct qr_transfer *transfer = &plan->transfers[i];
        struct link *link = &sim->links[2 * (int)transfer->tier + transfer->out];
        int64_t start_ns = link->free_ns > sim->now_ns ? link->free_ns : sim->now_ns;
        int32_t at = (link->first + link->count++) % MAX_TRANSFERS;
        QR_ASSERT(link->count <= MAX_TRANSFERS);
        link->free_ns = start_ns + (int64_t)llround(link->page_ns);
        link->ids[at] = transfer->id;
        link->end_ns[at] = link->free_ns;
    }
}

/* Of one kernel: reading and computing go on side by side. */
static double kernel_s(const struct qr_device_model *device, double n_bytes, double n_flops)
{
    return fmax(n_bytes / device->bytes_per_s, n_flops / device->flops_per_s);
}

/* How long the device takes for the plan's rows and copies. */
static int64_t step_ns(const struct qr_simulation *in, const struct qr_plan *plan)
{
    const struct qr_device_model *device = &in->device;
    double page_bytes = in->page_size * device->kv_bytes_per_token;
    double busy_s = device->step_s + 2 * plan->n_copies * page_bytes / device->bytes_per_s;

    busy_s += kernel_s(device, device->weight_bytes, plan->n_rows * device->flops_per_row);
    for (int32_t i = 0; i < plan->n_entries; i++) {
        double first = plan->entries[i].first_position;
        double n_rows = plan->entries[i].n_tokens;
        busy_s += kernel_s(device, (first + n_rows) * device->kv_bytes_per_token,
                           n_rows * (first + (n_rows + 1) / 2) * device->flops_per_score);
    }
    return (int64_t)llround(busy_s * 1e9);
}

static void measure_memory(struct simulator *sim, int64_t duration_ns)
{
    struct qr_block_stats stats;

    qr_block_manager_stats(sim->blocks, &stats);
    sim->wasted_slot_ns += (double)duration_ns * (double)stats.wasted_slots;
    sim->used_slot_ns += (double)duration_ns * (double)(stats.used_slots + stats.wasted_slots);
    if (stats.used_pages > sim->out->peak_pages)
        sim->out->peak_pages = stats.used_pages;
}

/* Made up, but another one for each request and place. */
static int32_t output_id(int32_t request, int32_t place)
{
    uint32_t mixed = (uint32_t)request * 2654435761u + (uint32_t)place * 40503u;

    return (int32_t)(mixed & (VOCABULARY - 1));
}

static void sampled(struct simulator *sim, qr_seq_id seq)
{
    int32_t request = sim->request_of[seq];
    const struct qr_trace_request *self = &sim->trace->requests[request];
    struct qr_request_result *result = &sim->requests[request];
    double since_arrival_s = (double)(sim->now_ns - self->arrival_ns) / 1e9;
    int32_t place = sim->n_generated[request]++;

    if (place == 0)
        result->ttft_s = since_arrival_s;
    if (sim->n_generated[request] < self->n_output) {
        sim->tokens[request][self->n_prompt + place] = output_id(request, place);
        qr_scheduler_append_token(sim->sched, seq);
        return;
    }
    result->e2e_s = since_arrival_s;
    result->n_output = self->n_output;
    sim->last_end_ns = sim->now_ns;
    sim->n_ended++;
    qr_scheduler_remove(sim->sched, seq);
    qr_free(sim->tokens[request]);
    sim->tokens[request] = NULL;
}

/* The clock moves on to what happens next. */
static void wait_for_event(struct simulator *sim)
{
    int64_t next_ns = QR_TIME_NEVER;

    for (int i = 0; i < 2 * QR_TIER_COUNT; i++) {
        const struct link *link = &sim->links[i];
        if (link->count > 0 && link->end_ns[link->first] < next_ns)
            next_ns = link->end_ns[link->first];
    }
    if (sim->n_arrived < sim->trace->n_requests && arrival_ns(sim, sim->n_arrived) < next_ns)
        next_ns = arrival_ns(sim, sim->n_arrived);
    QR_ASSERT(next_ns != QR_TIME_NEVER); /* else nothing would ever happen again */
    if (next_ns > sim->now_ns) {
        sim->out->idle_s += (double)(next_ns - sim->now_ns) / 1e9;
        sim->now_ns = next_ns;
    }
}

static enum qr_status keep_plan_time(struct simulator *sim, int64_t plan_ns)
{
    double *times = qr_array_grow(QR_ARENA_REQUEST, sim->plan_ns, sim->n_plans, &sim->plan_capacity,
                                  sizeof(*times));

    if (times == NULL)
        return QR_ERR_NOMEM;
    sim->plan_ns = times;
    times[sim->n_plans++] = (double)plan_ns;
    return QR_OK;
}

static void run_step(struct simulator *sim, const struct qr_plan *plan)
{
    int64_t duration_ns = step_ns(sim->in, plan);

    measure_memory(sim, duration_ns);
    sim->now_ns += duration_ns;
    sim->out->n_steps++;
    sim->n_entries += plan->n_entries;
    int64_t begin_ns = qr_cpu_ns();
    qr_scheduler_complete(sim->sched, plan);
    for (int32_t i = 0; i < plan->n_entries; i++) {
        if (plan->entries[i].samples)
            sampled(sim, plan->entries[i].seq);
    }
    sim->cpu_ns += qr_cpu_ns() - begin_ns;
}

static enum qr_status step(struct simulator *sim)
{
    struct qr_plan plan;

    QR_TRY(arrive_until_now(sim));
    end_transfers(sim);
    int64_t begin_ns = qr_cpu_ns();
    qr_scheduler_plan(sim->sched, sim->now_ns, &plan);
    int64_t plan_ns = qr_cpu_ns() - begin_ns;
    sim->cpu_ns += plan_ns;
    QR_TRY(keep_plan_time(sim, plan_ns));
    start_transfers(sim, &plan);
    if (plan.n_entries > 0)
        run_step(sim, &plan);
    else
        wait_for_event(sim);
    return QR_OK;
}

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

static void fill_run(struct simulator *sim)
{
    struct qr_scheduler_stats stats;
    struct qr_block_stats blocks;

    qr_scheduler_get_stats(sim->sched, &stats);
    qr_block_manager_stats(sim->blocks, &blocks);
    sim->out->run = (struct qr_run_result){
        .discipline = qr_discipline_name(sim->in->discipline),
        .overcommit = sim->in->overcommit,
        .kv_pages = sim->in->page_count,
        .seconds = (double)(sim->last_end_ns - arrival_ns(sim, 0)) / 1e9,
        .n_requests = sim->trace->n_requests,
        .requests = sim->requests,
        .n_swapped = stats.n_swapped,
        .n_recomputed = stats.n_recomputed,
        .n_parked = stats.n_parked,
        .n_rows = stats.n_computed_rows,
        .n_recomputed_rows = stats.n_recomputed_tokens,
        .n_hit_tokens = blocks.n_hit_tokens,
        .n_lookup_tokens = blocks.n_lookup_tokens,
        .kv_waste = sim->used_slot_ns > 0 ? sim->wasted_slot_ns / sim->used_slot_ns : 0,
    };
    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        sim->out->run.n_pages_out += blocks.n_pages_out[tier];
        sim->out->run.n_pages_in += blocks.n_pages_in[tier];
    }
}

static void fill_result(struct simulator *sim)
{
    struct qr_simulation_result *out = sim->out;

    fill_run(sim);
    out->mean_sequences = sim->n_entries / (double)out->n_steps;
    out->cpu_s = (double)sim->cpu_ns / 1e9;
    qsort(sim->plan_ns, (size_t)sim->n_plans, sizeof(sim->plan_ns[0]), compare_doubles);
    out->plan_p50_ns = qr_percentile(sim->plan_ns, sim->n_plans, 50);
    out->plan_p99_ns = qr_percentile(sim->plan_ns, sim->n_plans, 99);
}

enum qr_status qr_simulate(const struct qr_simulation *simulation,
                           struct qr_simulation_result *result, struct qr_error *err)
{
    struct simulator sim = {.in = simulation, .trace = simulation->trace, .out = result};

    *result = (struct qr_simulation_result){0};
    enum qr_status status = create(&sim, err);
    while (status == QR_OK && sim.n_ended < sim.trace->n_requests)
        status = step(&sim);
    if (status == QR_OK) {
        fill_result(&sim);
    } else {
        qr_free(sim.requests);
        if (status != QR_ERR_INVALID)
            status = qr_fail(err, status, "the simulation of %d requests stopped: %s",
                             sim.trace->n_requests, qr_status_name(status));
    }
    destroy(&sim);
    return status;
}

void qr_simulation_result_free(struct qr_simulation_result *result)
{
    qr_free((struct qr_request_result *)result->run.requests);
    *result = (struct qr_simulation_result){0};
}
