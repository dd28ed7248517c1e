/* replay.c - see replay.h for the contract. */
#include "runtime/replay/replay.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/array.h"
#include "base/utf8.h"
#include "runtime/replay/plan_text.h"
#include "scheduler/force.h"

/* Clock values, either way: no difference of two of them overflows. */
#define MAX_CLOCK_NS (INT64_C(1) << 61)
/* Of tenants: with others, a share of virtual time is no number any more. */
#define MIN_WEIGHT 1e-6
#define MAX_WEIGHT 1e6
/* Far beyond any machine; the cost of a prompt of a million tokens is still a time. */
#define MAX_ROW_NS          1e11
#define MAX_ROW_POSITION_NS 1e6

struct qr_replay {
    struct qr_block_manager *blocks;
    struct qr_scheduler *sched;
    int32_t n_slots;
    struct qr_replay_seq *seqs; /* [n_slots] */
    int32_t max_transfers;
    bool *is_under_way; /* [max_transfers] */

    struct qr_replay_request *requests; /* [n_requests]; number 1 stands at 0 */
    int32_t n_requests;
    int32_t requests_capacity;
    int64_t *plan_ns; /* [n_plans] clock of each plan */
    int32_t n_plans;
    int32_t plans_capacity;

    struct qr_plan plan; /* the last one */
    bool is_asked;       /* it was made, and its record has not come yet */
    bool is_open;        /* it was neither launched nor completed */
    struct qr_plan launched;
    bool is_launched;
    struct qr_replay_stats stats;
    struct qr_buffer difference; /* empty: none */
};

enum qr_status qr_replay_create(const struct qr_record_header *header, struct qr_replay **out,
                                struct qr_error *err)
{
    enum qr_status status = QR_ERR_NOMEM;

    *out = NULL;
    struct qr_replay *replay = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*replay));
    if (replay == NULL)
        return qr_fail(err, status, "out of memory");
    replay->difference.arena = QR_ARENA_ENGINE;
    replay->n_slots = qr_scheduler_n_slots(&header->scheduler);
    replay->max_transfers = header->blocks.max_transfers;
    replay->seqs = qr_calloc(QR_ARENA_ENGINE, (size_t)replay->n_slots, sizeof(*replay->seqs));
    replay->is_under_way =
        qr_calloc(QR_ARENA_ENGINE, (size_t)replay->max_transfers, sizeof(*replay->is_under_way));
    if (replay->seqs == NULL || replay->is_under_way == NULL)
        goto fail;
    if ((status = qr_block_manager_create(&header->blocks, &replay->blocks)) != QR_OK)
        goto fail;
    if ((status = qr_scheduler_create(&header->scheduler, replay->blocks, &replay->sched)) != QR_OK)
        goto fail;
    *out = replay;
    return QR_OK;

fail:
    qr_replay_destroy(replay);
    return qr_fail(err, status,
                   "the recorded configuration cannot be run: %s (%d pages of %d "
                   "tokens, %d running)",
                   qr_status_name(status), header->blocks.page_count, header->blocks.page_size,
                   header->scheduler.max_running);
}

void qr_replay_destroy(struct qr_replay *replay)
{
    if (replay == NULL)
        return;
    qr_scheduler_destroy(replay->sched);
    qr_block_manager_destroy(replay->blocks);
    for (int32_t i = 0; replay->seqs != NULL && i < replay->n_slots; i++)
        qr_free(replay->seqs[i].tokens);
    for (int32_t i = 0; i < replay->n_requests; i++)
        qr_free(replay->requests[i].name);
    qr_buffer_free(&replay->difference);
    qr_free(replay->plan_ns);
    qr_free(replay->requests);
    qr_free(replay->is_under_way);
    qr_free(replay->seqs);
    qr_free(replay);
}

static enum qr_status refuse(const struct qr_record *record, struct qr_error *err, const char *fmt,
                             ...) QR_PRINTF(3, 4);

/* The recording says that a call was made that cannot have been. */
static enum qr_status refuse(const struct qr_record *record, struct qr_error *err, const char *fmt,
                             ...)
{
    char text[160];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return qr_fail(err, QR_ERR_INVALID,
                   "at byte %llu: %s; the file is damaged, or does not begin with the "
                   "scheduler's first call",
                   (unsigned long long)record->offset, text);
}

static enum qr_status out_of_memory(struct qr_error *err)
{
    return qr_fail(err, QR_ERR_NOMEM, "out of memory");
}

static enum qr_status differ(struct qr_replay *replay, const struct qr_record *record,
                             struct qr_error *err, const char *fmt, ...) QR_PRINTF(4, 5);

/* The decision is not the recorded one. */
static enum qr_status differ(struct qr_replay *replay, const struct qr_record *record,
                             struct qr_error *err, const char *fmt, ...)
{
    char text[512];
    va_list args;
    double ms = 0;

    if (replay->n_plans > 0)
        ms = (double)(replay->plan_ns[replay->n_plans - 1] - replay->plan_ns[0]) / 1e6;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    enum qr_status status = qr_buffer_printf(
        &replay->difference, "difference in plan %d, %.3f ms after the first, at byte %llu\n%s",
        replay->n_plans, ms, (unsigned long long)record->offset, text);
    return status == QR_OK ? QR_OK : out_of_memory(err);
}

static enum qr_status check_in_use(const struct qr_replay *replay, const struct qr_record *record,
                                   qr_seq_id seq, struct qr_error *err)
{
    if (!replay->seqs[seq].in_use)
        return refuse(record, err, "slot %d is used and holds no sequence", seq);
    return QR_OK;
}

static struct qr_replay_request *request_of(const struct qr_replay *replay, qr_seq_id seq)
{
    return &replay->requests[replay->seqs[seq].request - 1];
}

static enum qr_status note_request(struct qr_replay *replay, const struct qr_record *record)
{
    const struct qr_seq_params *params = &record->add.params;
    struct qr_replay_request *requests =
        qr_array_grow(QR_ARENA_ENGINE, replay->requests, replay->n_requests,
                      &replay->requests_capacity, sizeof(*requests));

    if (requests == NULL)
        return QR_ERR_NOMEM;
    replay->requests = requests;
    requests[replay->n_requests++] = (struct qr_replay_request){
        .arrival_ns = params->arrival_ns,
        .n_prompt_tokens = params->n_prompt_tokens,
        .max_tokens = params->max_tokens,
        .width = params->width,
        .priority = params->priority,
        .tenant = params->tenant,
        .n_members = 1,
        .n_branches = 1,
        .n_set_aside = params->width - 1,
        .may_fork = params->width > 1,
        .admitted = QR_MOMENT_NONE,
        .first_token = QR_MOMENT_NONE,
        .finished = QR_MOMENT_NONE,
    };
    return QR_OK;
}

/* The slot holds a sequence from now on, with its first n_known tokens. */
static enum qr_status occupy(struct qr_replay *replay, qr_seq_id seq, int32_t request,
                             int32_t branch, const int32_t *tokens, int32_t n_known,
                             int32_t max_tokens)
{
    size_t n_bytes = (size_t)max_tokens * sizeof(*tokens);
    int32_t *copy = qr_malloc(QR_ARENA_ENGINE, n_bytes);

    if (copy == NULL)
        return QR_ERR_NOMEM;
    memcpy(copy, tokens, (size_t)n_known * sizeof(*tokens));
    replay->seqs[seq] = (struct qr_replay_seq){.in_use = true,
                                               .request = request,
                                               .branch = branch,
                                               .n_known = n_known,
                                               .max_tokens = max_tokens,
                                               .tokens = copy};
    return QR_OK;
}

static enum qr_status apply_add(struct qr_replay *replay, const struct qr_record *record,
                                struct qr_error *err)
{
    struct qr_seq_params params = record->add.params;
    bool accepted = record->add.status == QR_OK;
    qr_seq_id seq;

    if (accepted && replay->seqs[record->seq].in_use)
        return refuse(record, err, "slot %d gets a second sequence", record->seq);
    if (params.arrival_ns < -MAX_CLOCK_NS || params.arrival_ns > MAX_CLOCK_NS ||
        params.first_token_ns > MAX_CLOCK_NS)
        return refuse(record, err, "a sequence arrives at %lld ns", (long long)params.arrival_ns);
    replay->stats.n_refused += !accepted;
    if (accepted) {
        if (note_request(replay, record) != QR_OK ||
            occupy(replay, record->seq, replay->n_requests, 0, params.tokens,
                   params.n_prompt_tokens, params.max_tokens) != QR_OK)
            return out_of_memory(err);
        params.tokens = replay->seqs[record->seq].tokens;
    }
    enum qr_status status = qr_scheduler_add(replay->sched, &params, &seq);
    if (status != record->add.status || seq != record->seq)
        return differ(replay, record, err,
                      "  an addition of %d tokens, at most %d\n"
                      "    recorded: %s, slot %d\n"
                      "    replayed: %s, slot %d\n",
                      params.n_prompt_tokens, params.max_tokens, qr_status_name(record->add.status),
                      record->seq, qr_status_name(status), seq);
    return QR_OK;
}

static struct qr_seq_info info_of(const struct qr_replay *replay, qr_seq_id seq)
{
    struct qr_seq_info info;

    qr_scheduler_get_info(replay->sched, seq, &info);
    return info;
}

static enum qr_status apply_fork(struct qr_replay *replay, const struct qr_record *record,
                                 struct qr_error *err)
{
    QR_TRY(check_in_use(replay, record, record->parent, err));
    const struct qr_replay_seq *parent = &replay->seqs[record->parent];
    struct qr_replay_request *request = request_of(replay, record->parent);

    if (!parent->awaits_token || info_of(replay, record->parent).n_under_way > 0 ||
        request->n_set_aside == 0)
        return refuse(record, err, "slot %d is forked, which it cannot be now", record->parent);
    if (replay->seqs[record->seq].in_use)
        return refuse(record, err, "slot %d gets a second sequence", record->seq);
    if (occupy(replay, record->seq, parent->request, request->n_branches, parent->tokens,
               parent->n_known, parent->max_tokens) != QR_OK)
        return out_of_memory(err);
    struct qr_replay_seq *child = &replay->seqs[record->seq];
    child->awaits_token = true;
    child->is_paused = parent->is_paused;
    request->n_branches++;
    request->n_members++;
    request->n_set_aside--;
    replay->stats.n_forks++;
    qr_seq_id seq = qr_scheduler_fork(replay->sched, record->parent, child->tokens);
    if (seq != record->seq)
        return differ(replay, record, err,
                      "  a fork of request %d\n    recorded: slot %d\n    replayed: slot %d\n",
                      parent->request, record->seq, seq);
    return QR_OK;
}

static enum qr_status apply_remove(struct qr_replay *replay, const struct qr_record *record,
                                   struct qr_error *err)
{
    QR_TRY(check_in_use(replay, record, record->seq, err));
    struct qr_replay_request *request = request_of(replay, record->seq);

    qr_scheduler_remove(replay->sched, record->seq);
    qr_free(replay->seqs[record->seq].tokens);
    replay->seqs[record->seq] = (struct qr_replay_seq){0};
    if (--request->n_members > 0)
        request->n_set_aside += request->may_fork;
    else
        request->finished = replay->n_plans;
    return QR_OK;
}

static enum qr_status apply_end_forks(struct qr_replay *replay, const struct qr_record *record,
                                      struct qr_error *err)
{
    QR_TRY(check_in_use(replay, record, record->seq, err));
    struct qr_replay_request *request = request_of(replay, record->seq);

    qr_scheduler_end_forks(replay->sched, record->seq);
    request->n_set_aside = 0;
    request->may_fork = false;
    return QR_OK;
}

static enum qr_status apply_paused(struct qr_replay *replay, const struct qr_record *record,
                                   struct qr_error *err)
{
    QR_TRY(check_in_use(replay, record, record->seq, err));
    qr_scheduler_set_paused(replay->sched, record->seq, record->paused);
    replay->seqs[record->seq].is_paused = record->paused;
    return QR_OK;
}

static enum qr_status apply_tenant(struct qr_replay *replay, const struct qr_record *record,
                                   struct qr_error *err)
{
    double weight = record->tenant.weight;

    if (!(weight >= MIN_WEIGHT && weight <= MAX_WEIGHT))
        return refuse(record, err, "tenant %d has the weight %g", record->tenant.tenant, weight);
    qr_scheduler_set_tenant(replay->sched, record->tenant.tenant, weight, record->tenant.max_pages);
    return QR_OK;
}

static enum qr_status apply_costs(struct qr_replay *replay, const struct qr_record *record,
                                  struct qr_error *err)
{
    const struct qr_block_costs *costs = &record->costs;

    if (costs->row_ns > MAX_ROW_NS || costs->row_position_ns > MAX_ROW_POSITION_NS)
        return refuse(record, err, "a row costs %g ns, and %g more a position", costs->row_ns,
                      costs->row_position_ns);
    qr_scheduler_set_costs(replay->sched, costs);
    return QR_OK;
}

static enum qr_status apply_token(struct qr_replay *replay, const struct qr_record *record,
                                  struct qr_error *err)
{
    QR_TRY(check_in_use(replay, record, record->seq, err));
    struct qr_replay_seq *seq = &replay->seqs[record->seq];
    struct qr_replay_request *request = request_of(replay, record->seq);

    if (!(seq->awaits_token || info_of(replay, record->seq).token_ahead) ||
        seq->n_known == seq->max_tokens)
        return refuse(record, err, "slot %d gets a token that it does not wait for", record->seq);
    seq->tokens[seq->n_known++] = record->token;
    seq->awaits_token = false;
    qr_scheduler_append_token(replay->sched, record->seq);
    replay->stats.n_output_tokens++;
    request->n_output_tokens++;
    if (request->first_token == QR_MOMENT_NONE)
        request->first_token = replay->n_plans;
    return QR_OK;
}

static enum qr_status apply_transfer_done(struct qr_replay *replay, const struct qr_record *record,
                                          struct qr_error *err)
{
    if (!replay->is_under_way[record->transfer.id])
        return refuse(record, err, "transfer %d ends and was not under way", record->transfer.id);
    replay->is_under_way[record->transfer.id] = false;
    replay->stats.n_failed += !record->transfer.ok;
    qr_scheduler_transfer_done(replay->sched, record->transfer.id, record->transfer.ok);
    return QR_OK;
}

/* The rows of the open plan can be computed. */
static enum qr_status check_open(const struct qr_replay *replay, const struct qr_record *record,
                                 struct qr_error *err)
{
    if (!replay->is_open || replay->is_asked)
        return refuse(record, err, "a plan is completed, and there is none");
    for (int32_t i = 0; i < replay->plan.n_entries; i++) {
        qr_seq_id seq = replay->plan.entries[i].seq;
        if (replay->seqs[seq].is_planned && info_of(replay, seq).token_ahead)
            return refuse(record, err, "slot %d has a row for a token that has not come", seq);
    }
    return QR_OK;
}

/* The scheduler knows that they are, or have begun to be. */
static void close_plan(struct qr_replay *replay)
{
    for (int32_t i = 0; i < replay->plan.n_entries; i++) {
        const struct qr_plan_entry *entry = &replay->plan.entries[i];
        struct qr_replay_seq *seq = &replay->seqs[entry->seq];
        if (seq->is_planned && entry->samples)
            seq->awaits_token = !info_of(replay, entry->seq).token_ahead;
        seq->is_planned = false;
    }
    replay->is_open = false;
    replay->stats.n_steps += replay->plan.n_entries > 0;
}

static enum qr_status apply_launch(struct qr_replay *replay, const struct qr_record *record,
                                   struct qr_error *err)
{
    if (replay->is_launched || replay->plan.n_entries == 0 ||
        qr_block_manager_has_window(replay->blocks))
        return refuse(record, err,
                      "a plan is launched that has no rows, or beside another, or with a window");
    QR_TRY(check_open(replay, record, err));
    replay->launched = replay->plan;
    replay->is_launched = true;
    qr_scheduler_launch(replay->sched, &replay->launched);
    close_plan(replay);
    return QR_OK;
}

static enum qr_status apply_complete(struct qr_replay *replay, const struct qr_record *record,
                                     struct qr_error *err)
{
    if (!replay->is_launched) {
        QR_TRY(check_open(replay, record, err));
        qr_scheduler_complete(replay->sched, &replay->plan);
        close_plan(replay);
        return QR_OK;
    }
    replay->is_launched = false;
    qr_scheduler_complete(replay->sched, &replay->launched);
    return QR_OK;
}

static enum qr_status apply_abandon(struct qr_replay *replay, const struct qr_record *record,
                                    struct qr_error *err)
{
    for (int32_t i = 0; replay->is_launched && i < replay->launched.n_entries; i++) {
        qr_seq_id seq = replay->launched.entries[i].seq;
        if (replay->seqs[seq].in_use && info_of(replay, seq).n_under_way > 0)
            return refuse(record, err, "slot %d has failed and is there", seq);
    }
    if (!replay->is_launched)
        return refuse(record, err, "a plan has failed that was not launched");
    replay->is_launched = false;
    qr_scheduler_abandon(replay->sched, &replay->launched);
    return QR_OK;
}

static enum qr_status apply_forced(struct qr_replay *replay, const struct qr_record *record,
                                   struct qr_error *err)
{
    QR_TRY(check_in_use(replay, record, record->seq, err));
    qr_scheduler_force_preempt(replay->sched, record->seq, record->how);
    replay->seqs[record->seq].is_planned = false;
    replay->stats.n_forced++;
    return QR_OK;
}

/* Asks the scheduler; what it answers is compared when the recorded answer comes. */
static enum qr_status apply_plan_begin(struct qr_replay *replay, const struct qr_record *record,
                                       struct qr_error *err)
{
    if (replay->is_asked)
        return refuse(record, err, "a plan is asked for before the last one was given");
    if (record->now_ns < -MAX_CLOCK_NS || record->now_ns > MAX_CLOCK_NS)
        return refuse(record, err, "the clock is at %lld ns", (long long)record->now_ns);
    int64_t *plan_ns = qr_array_grow(QR_ARENA_ENGINE, replay->plan_ns, replay->n_plans,
                                     &replay->plans_capacity, sizeof(*plan_ns));
    if (plan_ns == NULL)
        return out_of_memory(err);
    replay->plan_ns = plan_ns;
    plan_ns[replay->n_plans++] = record->now_ns;
    for (int32_t i = 0; i < replay->plan.n_entries && replay->is_open; i++)
        replay->seqs[replay->plan.entries[i].seq].is_planned = false; /* it was dropped */
    qr_scheduler_plan(replay->sched, record->now_ns, &replay->plan);
    for (int32_t i = 0; i < replay->plan.n_entries; i++)
        replay->seqs[replay->plan.entries[i].seq].is_planned = true;
    replay->is_asked = replay->is_open = true;
    return QR_OK;
}

static void note_admitted(struct qr_replay *replay, qr_seq_id seq)
{
    struct qr_replay_request *request = request_of(replay, seq);

    if (request->admitted != QR_MOMENT_NONE)
        return;
    request->admitted = qr_replay_plan_moment(replay);
    request->n_cached_tokens = info_of(replay, seq).n_cached_prompt_tokens;
}

static void count_plan(struct qr_replay *replay)
{
    const struct qr_plan *plan = &replay->plan;
    struct qr_replay_stats *stats = &replay->stats;

    stats->n_rows += plan->n_rows;
    stats->n_copied += plan->n_copies;
    for (int32_t i = 0; i < plan->n_admitted; i++)
        note_admitted(replay, plan->admitted[i]);
    for (int32_t i = 0; i < plan->n_preempted; i++) {
        stats->n_preempted[plan->preempted[i].how]++;
        request_of(replay, plan->preempted[i].seq)->n_preempted[plan->preempted[i].how]++;
    }
    for (int32_t i = 0; i < plan->n_transfers; i++) {
        const struct qr_transfer *transfer = &plan->transfers[i];
        replay->is_under_way[transfer->id] = true;
        stats->n_out[transfer->tier] += transfer->out;
        stats->n_in[transfer->tier] += !transfer->out;
    }
}

static enum qr_status apply_plan(struct qr_replay *replay, const struct qr_record *record,
                                 struct qr_error *err)
{
    struct qr_buffer text = {.arena = QR_ARENA_ENGINE};
    bool is_different;

    if (!replay->is_asked)
        return refuse(record, err, "a plan that was not asked for");
    replay->is_asked = false;
    count_plan(replay);
    enum qr_status status =
        qr_replay_compare_plans(replay, &record->plan, &replay->plan, &is_different, &text);
    if (status == QR_OK && is_different)
        status = differ(replay, record, err, "");
    if (status == QR_OK && is_different)
        status = qr_buffer_append(&replay->difference, text.data, text.length);
    qr_buffer_free(&text);
    return status == QR_OK ? QR_OK : out_of_memory(err);
}

static enum qr_status apply_name(struct qr_replay *replay, const struct qr_record *record,
                                 struct qr_error *err)
{
    QR_TRY(check_in_use(replay, record, record->seq, err));
    struct qr_replay_request *request = request_of(replay, record->seq);

    size_t n_bytes = qr_utf8_valid_prefix(record->name, strlen(record->name));
    qr_free(request->name);
    request->name = qr_strndup(QR_ARENA_ENGINE, record->name, n_bytes);
    return request->name != NULL ? QR_OK : out_of_memory(err);
}

enum qr_status qr_replay_apply(struct qr_replay *replay, const struct qr_record *record,
                               struct qr_error *err)
{
    if (replay->is_asked && record->kind != QR_RECORD_PLAN && record->kind != QR_RECORD_END)
        return refuse(record, err, "a call within another");
    replay->stats.n_records++;
    switch (record->kind) {
    case QR_RECORD_ADD:
        return apply_add(replay, record, err);
    case QR_RECORD_FORK:
        return apply_fork(replay, record, err);
    case QR_RECORD_REMOVE:
        return apply_remove(replay, record, err);
    case QR_RECORD_END_FORKS:
        return apply_end_forks(replay, record, err);
    case QR_RECORD_SET_PAUSED:
        return apply_paused(replay, record, err);
    case QR_RECORD_SET_TENANT:
        return apply_tenant(replay, record, err);
    case QR_RECORD_SET_COSTS:
        return apply_costs(replay, record, err);
    case QR_RECORD_APPEND_TOKEN:
        return apply_token(replay, record, err);
    case QR_RECORD_TRANSFER_DONE:
        return apply_transfer_done(replay, record, err);
    case QR_RECORD_CLOSE_TIER:
        qr_scheduler_close_tier(replay->sched, record->tier);
        return QR_OK;
    case QR_RECORD_LAUNCH:
        return apply_launch(replay, record, err);
    case QR_RECORD_COMPLETE:
        return apply_complete(replay, record, err);
    case QR_RECORD_ABANDON:
        return apply_abandon(replay, record, err);
    case QR_RECORD_PLAN_BEGIN:
        return apply_plan_begin(replay, record, err);
    case QR_RECORD_PLAN:
        return apply_plan(replay, record, err);
    case QR_RECORD_NAME:
        return apply_name(replay, record, err);
    case QR_RECORD_FORCED:
        return apply_forced(replay, record, err);
    case QR_RECORD_END:
        return QR_OK;
    }
    return QR_ERR_INVALID;
}

const char *qr_replay_difference(const struct qr_replay *replay)
{
    return replay->difference.length > 0 ? replay->difference.data : NULL;
}

void qr_replay_get_stats(const struct qr_replay *replay, struct qr_replay_stats *stats)
{
    *stats = replay->stats;
    stats->n_plans = replay->n_plans;
    stats->n_requests = replay->n_requests;
    if (replay->n_plans > 0) {
        stats->first_ns = replay->plan_ns[0];
        stats->last_ns = replay->plan_ns[replay->n_plans - 1];
    }
}

const struct qr_replay_seq *qr_replay_seq(const struct qr_replay *replay, qr_seq_id seq)
{
    return &replay->seqs[seq];
}

const struct qr_replay_request *qr_replay_request(const struct qr_replay *replay, int32_t number)
{
    return &replay->requests[number - 1];
}

qr_moment qr_replay_plan_moment(const struct qr_replay *replay)
{
    return replay->n_plans - 1;
}

int64_t qr_replay_clock_ns(const struct qr_replay *replay, qr_moment moment)
{
    if (replay->n_plans == 0)
        return 0;
    return replay->plan_ns[moment < replay->n_plans ? moment : replay->n_plans - 1];
}

const struct qr_plan *qr_replay_plan(const struct qr_replay *replay)
{
    return &replay->plan;
}

const struct qr_scheduler *qr_replay_scheduler(const struct qr_replay *replay)
{
    return replay->sched;
}

const struct qr_block_manager *qr_replay_blocks(const struct qr_replay *replay)
{
    return replay->blocks;
}

const char *qr_replay_name(const struct qr_replay *replay, qr_seq_id seq,
                           char out[QR_REPLAY_NAME_BYTES])
{
    const struct qr_replay_seq *known = &replay->seqs[seq];

    if (!known->in_use)
        snprintf(out, QR_REPLAY_NAME_BYTES, "unused slot %d", seq);
    else if (known->branch == 0)
        snprintf(out, QR_REPLAY_NAME_BYTES, "%d", known->request);
    else
        snprintf(out, QR_REPLAY_NAME_BYTES, "%d.%d", known->request, known->branch);
    return out;
}
