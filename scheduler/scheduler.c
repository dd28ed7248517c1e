/*
 * scheduler.c - the life of a sequence around the plans: added, forked, paused, computed,
 * grown, removed. plan.c makes the plans.
 */
#include "scheduler/scheduler.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "scheduler/recorder.h"
#include "scheduler/state.h"

/* Every running sequence may want a row and a logit row in one step. */
static bool config_is_valid(const struct qr_scheduler_config *config)
{
    return config->max_running > 0 && config->max_waiting > 0 && config->max_parked >= 0 &&
           (int64_t)config->max_running + config->max_waiting + config->max_parked <
               INT32_MAX / 2 &&
           config->max_batch_tokens >= config->max_running &&
           config->max_logit_rows >= config->max_running && config->max_prefill_chunk >= 0 &&
           config->max_stall_ms >= 0 && (unsigned)config->discipline <= QR_DISCIPLINE_RESERVE;
}

static bool blocks_suffice(const struct qr_block_manager *blocks,
                           const struct qr_scheduler_config *config)
{
    int32_t longest = qr_block_manager_max_seq_tokens(blocks);

    return qr_block_manager_max_sequences(blocks) >= qr_scheduler_n_slots(config) &&
           qr_block_manager_max_rows(blocks) >=
               qr_min_i32(qr_scheduler_max_rows(config), longest) &&
           qr_block_manager_page_count(blocks) >= qr_block_manager_pages_for(blocks, longest);
}

int32_t qr_scheduler_n_slots(const struct qr_scheduler_config *config)
{
    return config->max_running + config->max_waiting + config->max_parked;
}

int32_t qr_scheduler_max_rows(const struct qr_scheduler_config *config)
{
    return config->max_prefill_chunk > 0
               ? qr_min_i32(config->max_prefill_chunk, config->max_batch_tokens)
               : config->max_batch_tokens;
}

static enum qr_status allocate_arrays(struct qr_scheduler *sched)
{
    size_t n_slots = (size_t)sched->n_slots;
    size_t n_listed = QR_PLAN_PASSES * 2 * n_slots;
    const enum qr_arena arena = QR_ARENA_ENGINE;

    sched->seqs = qr_calloc(arena, n_slots, sizeof(*sched->seqs));
    sched->free_slots = qr_calloc(arena, n_slots, sizeof(*sched->free_slots));
    sched->groups = qr_calloc(arena, n_slots, sizeof(*sched->groups));
    sched->free_groups = qr_calloc(arena, n_slots, sizeof(*sched->free_groups));
    sched->entries = qr_calloc(arena, n_listed, sizeof(*sched->entries));
    sched->launched = qr_calloc(arena, n_listed, sizeof(*sched->launched));
    sched->preempted = qr_calloc(arena, n_listed, sizeof(*sched->preempted));
    sched->admitted = qr_calloc(arena, n_listed, sizeof(*sched->admitted));
    bool ok = sched->seqs != NULL && sched->free_slots != NULL && sched->groups != NULL &&
              sched->free_groups != NULL && sched->entries != NULL && sched->launched != NULL &&
              sched->preempted != NULL && sched->admitted != NULL;
    return ok ? QR_OK : QR_ERR_NOMEM;
}

enum qr_status qr_scheduler_create(const struct qr_scheduler_config *config,
                                   struct qr_block_manager *blocks, struct qr_scheduler **out)
{
    struct qr_scheduler *sched = NULL;

    *out = NULL;
    if (!config_is_valid(config))
        return QR_ERR_INVALID;
    int32_t n_slots = qr_scheduler_n_slots(config);
    if (!blocks_suffice(blocks, config))
        return QR_ERR_INVALID;

    if ((sched = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*sched))) == NULL)
        goto fail;
    sched->config = *config;
    sched->blocks = blocks;
    sched->max_seq_tokens = qr_block_manager_max_seq_tokens(blocks);
    sched->n_slots = sched->n_free_slots = sched->n_free_groups = n_slots;
    if (allocate_arrays(sched) != QR_OK)
        goto fail;

    for (int32_t i = 0; i < n_slots; i++) /* slot 0 is taken first */
        sched->free_slots[i] = sched->free_groups[i] = n_slots - 1 - i;
    for (int32_t i = 0; i < QR_MAX_TENANTS; i++)
        sched->tenants[i].weight = 1;
    sched->kept_waiting = QR_SEQ_NONE;
    qr_seq_list_init(&sched->running);
    qr_seq_list_init(&sched->waiting);

    *out = sched;
    return QR_OK;

fail:
    qr_scheduler_destroy(sched);
    return QR_ERR_NOMEM;
}

void qr_scheduler_destroy(struct qr_scheduler *sched)
{
    if (sched == NULL)
        return;
    for (int32_t id = 0; sched->seqs != NULL && id < sched->n_slots; id++) {
        if (!sched->seqs[id].in_use)
            continue;
        qr_block_manager_release(sched->blocks, id, 0, QR_RELEASE_FINISHED);
        qr_block_manager_close(sched->blocks, id);
    }
    qr_free(sched->admitted);
    qr_free(sched->preempted);
    qr_free(sched->launched);
    qr_free(sched->entries);
    qr_free(sched->free_groups);
    qr_free(sched->groups);
    qr_free(sched->free_slots);
    qr_free(sched->seqs);
    qr_free(sched);
}

void qr_scheduler_set_recorder(struct qr_scheduler *sched, struct qr_recorder *recorder)
{
    sched->recorder = recorder;
}

void qr_scheduler_set_tenant(struct qr_scheduler *sched, int32_t tenant, double weight,
                             int32_t max_pages)
{
    QR_ASSERT(tenant >= 0 && tenant < QR_MAX_TENANTS && max_pages >= 0);
    QR_ASSERT(weight >= QR_MIN_WEIGHT && weight <= QR_MAX_WEIGHT);
    qr_recorder_set_tenant(sched->recorder, tenant, weight, max_pages);
    sched->n_bounded += (max_pages > 0) - (sched->tenants[tenant].max_pages > 0);
    sched->tenants[tenant].weight = weight;
    sched->tenants[tenant].max_pages = max_pages;
    sched->tenants[tenant].n_pages = 0;
}

void qr_scheduler_set_costs(struct qr_scheduler *sched, const struct qr_block_costs *costs)
{
    qr_recorder_set_costs(sched->recorder, costs);
    qr_block_manager_set_costs(sched->blocks, costs);
}

static struct qr_sequence *sequence_of(const struct qr_scheduler *sched, qr_seq_id id)
{
    QR_ASSERT(id >= 0 && id < sched->n_slots && sched->seqs[id].in_use);
    return &sched->seqs[id];
}

static bool params_are_valid(const struct qr_scheduler *sched, const struct qr_seq_params *params)
{
    return params->tokens != NULL && params->n_prompt_tokens >= 1 &&
           params->max_tokens >= params->n_prompt_tokens &&
           params->max_tokens <= sched->max_seq_tokens && params->width >= 1 &&
           params->width <= sched->config.max_running && params->priority >= -QR_MAX_PRIORITY &&
           params->priority <= QR_MAX_PRIORITY && params->tenant >= 0 &&
           params->tenant < QR_MAX_TENANTS && params->first_token_ns >= 0 &&
           params->n_salt_bytes <= QR_MAX_SALT_BYTES;
}

static bool ever_fits(const struct qr_scheduler *sched, const struct qr_seq_params *params)
{
    int32_t max_pages = sched->tenants[params->tenant].max_pages;

    return max_pages == 0 ||
           qr_block_manager_pages_for(sched->blocks, params->max_tokens) <= max_pages;
}

/* A group of one, with slots set aside for those to come. */
static int32_t open_group(struct qr_scheduler *sched, int32_t width)
{
    int32_t group = sched->free_groups[--sched->n_free_groups];

    sched->groups[group] =
        (struct qr_seq_group){.n_members = 1, .n_set_aside = width - 1, .may_fork = width > 1};
    sched->n_set_aside += width - 1;
    return group;
}

static enum qr_status add(struct qr_scheduler *sched, const struct qr_seq_params *params,
                          qr_seq_id *out)
{
    *out = QR_SEQ_NONE;
    if (!params_are_valid(sched, params))
        return QR_ERR_INVALID;
    if (!ever_fits(sched, params))
        return QR_ERR_UNSUPPORTED;
    if (sched->n_new + params->width > sched->config.max_waiting ||
        sched->n_free_slots - sched->n_set_aside < params->width)
        return QR_ERR_QUEUE_FULL;

    qr_seq_id id = sched->free_slots[--sched->n_free_slots];
    sched->seqs[id] = (struct qr_sequence){
        .tokens = params->tokens,
        .arrival_ns = params->arrival_ns,
        .first_token_ns = params->first_token_ns,
        .n_prompt_tokens = params->n_prompt_tokens,
        .max_tokens = params->max_tokens,
        .n_known = params->n_prompt_tokens,
        .priority = params->priority,
        .tenant = params->tenant,
        .group = open_group(sched, params->width),
        .width = params->width,
        .state = QR_SEQ_WAITING,
        .all_logits = params->all_logits,
        .in_use = true,
    };
    qr_order_arrive(sched, &sched->seqs[id]);
    qr_block_manager_open(sched->blocks, id, params->tokens, params->salt, params->n_salt_bytes);
    qr_seq_list_insert(&sched->waiting, sched->seqs, id);
    sched->n_new += params->width;
    sched->n_objectives += params->first_token_ns > 0;
    *out = id;
    return QR_OK;
}

enum qr_status qr_scheduler_add(struct qr_scheduler *sched, const struct qr_seq_params *params,
                                qr_seq_id *out)
{
    enum qr_status status = add(sched, params, out);

    qr_recorder_add(sched->recorder, params, status, *out);
    return status;
}

qr_seq_id qr_scheduler_fork(struct qr_scheduler *sched, qr_seq_id parent, const int32_t *tokens)
{
    const struct qr_sequence *from = sequence_of(sched, parent);
    struct qr_seq_group *group = &sched->groups[from->group];

    QR_ASSERT(from->awaits_token && from->n_under_way == 0 && group->n_set_aside > 0);
    group->n_set_aside--;
    group->n_members++;
    sched->n_set_aside--;
    qr_seq_id id = sched->free_slots[--sched->n_free_slots];
    struct qr_sequence *seq = &sched->seqs[id];
    *seq = *from;
    seq->tokens = tokens;
    seq->ticket = sched->next_ticket++;
    seq->width = 1;
    seq->n_swapped = seq->n_recomputed = seq->n_parked = 0;
    sched->n_paused += seq->paused;
    qr_block_manager_open_fork(sched->blocks, id, tokens, parent);
    if (from->state == QR_SEQ_RUNNING && sched->running.count < sched->config.max_running) {
        qr_block_manager_fork(sched->blocks, parent, id, from->n_computed);
        seq->n_at_admission = seq->n_computed;
        qr_seq_list_insert(&sched->running, sched->seqs, id);
    } else { /* it will find its KV in the cache */
        seq->state = QR_SEQ_WAITING;
        seq->n_computed = 0;
        qr_seq_list_insert(&sched->waiting, sched->seqs, id);
    }
    qr_recorder_fork(sched->recorder, parent, id);
    return id;
}

void qr_scheduler_end_forks(struct qr_scheduler *sched, qr_seq_id id)
{
    struct qr_seq_group *group = &sched->groups[sequence_of(sched, id)->group];

    qr_recorder_end_forks(sched->recorder, id);
    sched->n_set_aside -= group->n_set_aside;
    group->n_set_aside = 0;
    group->may_fork = false;
}

static void leave_group(struct qr_scheduler *sched, int32_t index)
{
    struct qr_seq_group *group = &sched->groups[index];

    if (--group->n_members > 0) { /* another may come in its place */
        group->n_set_aside += group->may_fork;
        sched->n_set_aside += group->may_fork;
        return;
    }
    sched->n_set_aside -= group->n_set_aside;
    sched->free_groups[sched->n_free_groups++] = index;
}

void qr_scheduler_remove(struct qr_scheduler *sched, qr_seq_id id)
{
    struct qr_sequence *seq = sequence_of(sched, id);

    qr_recorder_remove(sched->recorder, id);
    if (seq->state == QR_SEQ_WAITING) {
        qr_seq_list_unlink(&sched->waiting, sched->seqs, id);
        if (!seq->admitted_before) {
            sched->n_new -= seq->width;
            sched->n_objectives -= seq->first_token_ns > 0;
        }
    } else {
        int32_t n_done = seq->state == QR_SEQ_LOADING ? 0 : qr_rows_done(seq);
        qr_block_manager_release(sched->blocks, id, n_done, QR_RELEASE_FINISHED);
        qr_seq_list_unlink(&sched->running, sched->seqs, id);
    }
    qr_block_manager_close(sched->blocks, id);
    seq->n_known -= seq->token_ahead; /* it did not come */
    qr_order_leave(sched, seq);
    sched->n_paused -= seq->paused;
    seq->in_use = seq->token_ahead = false;
    seq->n_planned = seq->n_under_way = 0;
    sched->free_slots[sched->n_free_slots++] = id;
    leave_group(sched, seq->group);
}

void qr_scheduler_set_paused(struct qr_scheduler *sched, qr_seq_id id, bool paused)
{
    struct qr_sequence *seq = sequence_of(sched, id);

    qr_recorder_set_paused(sched->recorder, id, paused);
    sched->n_paused += paused - seq->paused;
    seq->paused = paused;
}

/* Rows among those under way that were computed before. */
static int32_t rows_again(const struct qr_sequence *seq)
{
    int32_t n = seq->n_peak - qr_rows_done(seq);

    if (n <= 0)
        return 0;
    return n < seq->n_under_way ? n : seq->n_under_way;
}

static void fetch_entry(const struct qr_scheduler *sched, int32_t i, enum qr_fetch what)
{
    if (i >= sched->n_launched)
        return;
    const struct qr_plan_entry *entry = &sched->launched[i];
    if (sched->seqs[entry->seq].n_under_way > 0)
        qr_block_manager_prefetch(sched->blocks, entry->seq, entry->first_position,
                                  entry->first_position + entry->n_tokens, what);
}

/* The block manager's memory for entries that come soon is on its way. */
static void fetch_ahead(const struct qr_scheduler *sched, int32_t i)
{
    fetch_entry(sched, i + QR_TABLES_AHEAD, QR_FETCH_TABLE);
    fetch_entry(sched, i + QR_BLOCKS_AHEAD, QR_FETCH_BLOCKS);
    fetch_entry(sched, i + QR_INDEX_AHEAD, QR_FETCH_INDEX);
}

/* Whether a sequence that is computed to its last known token will have another for certain, or
 * end: one that may be forked first does neither. */
static bool goes_on(const struct qr_scheduler *sched, const struct qr_sequence *seq)
{
    return seq->n_known < seq->max_tokens && !sched->groups[seq->group].may_fork;
}

/* The planned rows count as computed; the next plan has other memory for its entries. */
static void put_under_way(struct qr_scheduler *sched, bool ahead)
{
    struct qr_plan_entry *entries = sched->entries;

    sched->entries = sched->launched;
    sched->launched = entries;
    sched->n_launched = sched->n_entries;
    sched->n_entries = 0;
    sched->is_launched = true;
    /* Of slots removed since, neither a free nor a reused one has planned rows. */
    for (int32_t i = 0; i < sched->n_launched; i++) {
        struct qr_sequence *seq = &sched->seqs[entries[i].seq];
        QR_ASSERT(seq->n_planned == 0 || !seq->token_ahead);
        seq->n_under_way = seq->n_planned;
        seq->n_computed += seq->n_planned;
        seq->n_planned = 0;
        if (seq->n_under_way == 0 || seq->n_computed < seq->n_known)
            continue;
        seq->token_ahead = ahead && goes_on(sched, seq);
        seq->n_known += seq->token_ahead;
        seq->awaits_token = !seq->token_ahead;
    }
}

void qr_scheduler_launch(struct qr_scheduler *sched, const struct qr_plan *plan)
{
    QR_ASSERT(!sched->is_launched && plan->entries == sched->entries);
    QR_ASSERT(plan->n_entries == sched->n_entries && plan->n_entries > 0);
    QR_ASSERT(!qr_block_manager_has_window(sched->blocks));
    qr_recorder_launch(sched->recorder);
    put_under_way(sched, true);
}

void qr_scheduler_complete(struct qr_scheduler *sched, const struct qr_plan *plan)
{
    qr_recorder_complete(sched->recorder);
    if (!sched->is_launched) {
        QR_ASSERT(plan->entries == sched->entries && plan->n_entries == sched->n_entries);
        put_under_way(sched, false);
    }
    QR_ASSERT(plan->entries == sched->launched && plan->n_entries == sched->n_launched);
    sched->is_launched = false;
    /* Those that were removed or have given way meanwhile have no rows under way. */
    for (int32_t i = 0; i < sched->n_launched; i++) {
        qr_seq_id id = sched->launched[i].seq;
        struct qr_sequence *seq = &sched->seqs[id];
        fetch_ahead(sched, i);
        if (seq->n_under_way == 0)
            continue;
        sched->counters.n_computed_rows += seq->n_under_way;
        sched->counters.n_recomputed_tokens += rows_again(seq);
        seq->n_peak = seq->n_computed > seq->n_peak ? seq->n_computed : seq->n_peak;
        seq->n_under_way = 0;
        qr_block_manager_commit(sched->blocks, id, seq->n_computed);
    }
}

void qr_scheduler_abandon(struct qr_scheduler *sched, const struct qr_plan *plan)
{
    QR_ASSERT(sched->is_launched && plan->entries == sched->launched);
    for (int32_t i = 0; i < sched->n_launched; i++)
        QR_ASSERT(sched->seqs[sched->launched[i].seq].n_under_way == 0);
    qr_recorder_abandon(sched->recorder);
    sched->is_launched = false;
}

void qr_scheduler_append_token(struct qr_scheduler *sched, qr_seq_id id)
{
    struct qr_sequence *seq = sequence_of(sched, id);

    QR_ASSERT(seq->token_ahead || (seq->awaits_token && seq->n_known < seq->max_tokens));
    qr_recorder_append_token(sched->recorder, id, seq->tokens[seq->n_known - seq->token_ahead]);
    seq->n_known += !seq->token_ahead;
    seq->awaits_token = seq->token_ahead = false;
}

void qr_scheduler_transfer_done(struct qr_scheduler *sched, int32_t id, bool ok)
{
    qr_recorder_transfer_done(sched->recorder, id, ok);
    qr_block_manager_transfer_done(sched->blocks, id, ok);
}

void qr_scheduler_close_tier(struct qr_scheduler *sched, enum qr_tier tier)
{
    qr_recorder_close_tier(sched->recorder, tier);
    qr_block_manager_close_tier(sched->blocks, tier);
}

bool qr_scheduler_transfers_pending(const struct qr_scheduler *sched)
{
    struct qr_block_stats stats;

    qr_block_manager_stats(sched->blocks, &stats);
    return stats.n_in_transfer > 0;
}

void qr_scheduler_get_info(const struct qr_scheduler *sched, qr_seq_id id, struct qr_seq_info *info)
{
    const struct qr_sequence *seq = sequence_of(sched, id);

    *info = (struct qr_seq_info){
        .state = seq->state,
        .n_computed = qr_rows_done(seq),
        .n_under_way = seq->n_under_way,
        .token_ahead = seq->token_ahead,
        .n_cached_prompt_tokens = seq->n_cached_prompt_tokens,
        .n_swapped = seq->n_swapped,
        .n_recomputed = seq->n_recomputed,
        .n_parked = seq->n_parked,
    };
}

/* How long the first new arrival in the queue had waited at the last plan. */
static int64_t head_wait_ns(const struct qr_scheduler *sched)
{
    qr_seq_id id = sched->waiting.head;

    while (id != QR_SEQ_NONE && sched->seqs[id].admitted_before)
        id = sched->seqs[id].next;
    if (id == QR_SEQ_NONE || sched->seqs[id].arrival_ns > sched->now_ns)
        return 0;
    return sched->now_ns - sched->seqs[id].arrival_ns;
}

static int32_t count_loading(const struct qr_scheduler *sched)
{
    int32_t n = 0;

    for (qr_seq_id id = sched->running.head; id != QR_SEQ_NONE; id = sched->seqs[id].next)
        n += sched->seqs[id].state == QR_SEQ_LOADING;
    return n;
}

void qr_scheduler_get_stats(const struct qr_scheduler *sched, struct qr_scheduler_stats *stats)
{
    *stats = sched->counters;
    stats->n_running = sched->running.count;
    stats->n_loading = count_loading(sched);
    stats->n_waiting = sched->waiting.count;
    stats->n_paused = sched->n_paused;
    stats->head_wait_ns = head_wait_ns(sched);
}
