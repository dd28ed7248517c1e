/*
 * plan.c - one step: decodes, then prefill chunks, then admissions; docs/scheduling.md has
 * the rules and the argument why everybody makes progress.
 */
#include "base/assert.h"
#include "scheduler/recorder.h"
#include "scheduler/state.h"

/* Rows among the next `n_rows` whose logits are wanted. */
static int32_t logit_rows(const struct qr_sequence *seq, int32_t n_rows)
{
    int32_t end = seq->n_computed + n_rows;
    int32_t n_wanted = 0;

    if (seq->all_logits && seq->n_computed < seq->n_prompt_tokens)
        n_wanted = qr_min_i32(end, seq->n_prompt_tokens) - seq->n_computed;
    bool samples = n_rows > 0 && end == seq->n_known;
    bool counted = seq->all_logits && end <= seq->n_prompt_tokens;
    return n_wanted + (samples && !counted);
}

/* With fewer rows a step does little more than without, and each stream waits more often instead.
 */
enum { LEAST_STALLING_ROWS = 32 };

/* The rows of a chunk that the decodes of this step can wait for, by what rows have cost. */
static int32_t stalling_rows(const struct qr_scheduler *sched, const struct qr_sequence *seq)
{
    double row_ns =
        qr_block_manager_compute_ns(sched->blocks, seq->n_computed, seq->n_computed + 1);
    double n_rows = sched->config.max_stall_ms * 1e6;
    int32_t n_planned = sched->n_rows - sched->n_decodes;

    if (sched->config.max_stall_ms == 0 || sched->n_decodes == 0 ||
        n_rows > row_ns * sched->config.max_batch_tokens)
        return sched->config.max_batch_tokens;
    n_rows = n_rows / row_ns > LEAST_STALLING_ROWS ? n_rows / row_ns : LEAST_STALLING_ROWS;
    return n_rows > n_planned ? (int32_t)n_rows - n_planned : 0;
}

/* The longest chunk of the sequence that what is left of the plan's budgets allows. */
static int32_t chunk_rows(const struct qr_scheduler *sched, const struct qr_sequence *seq)
{
    int32_t n_rows = qr_min_i32(qr_rows_left(seq), sched->config.max_batch_tokens - sched->n_rows);
    int32_t n_logits = sched->config.max_logit_rows - sched->n_logit_rows;

    n_rows = qr_min_i32(n_rows, stalling_rows(sched, seq));
    if (sched->config.max_prefill_chunk > 0)
        n_rows = qr_min_i32(n_rows, sched->config.max_prefill_chunk);
    if (seq->all_logits && seq->n_prompt_tokens - seq->n_computed > n_logits)
        n_rows = qr_min_i32(n_rows, n_logits);
    /* What can still be one too many is the row that samples. */
    return logit_rows(seq, n_rows) > n_logits ? n_rows - 1 : n_rows;
}

/* The rows' pages are there. */
static void add_entry(struct qr_scheduler *sched, qr_seq_id id, int32_t n_rows)
{
    struct qr_sequence *seq = &sched->seqs[id];

    sched->entries[sched->n_entries++] = (struct qr_plan_entry){
        .seq = id,
        .first_position = seq->n_computed,
        .n_tokens = n_rows,
        .samples = n_rows == qr_rows_left(seq),
    };
    sched->n_rows += n_rows;
    sched->n_logit_rows += logit_rows(seq, n_rows);
    seq->n_planned = n_rows;
}

static bool grow(struct qr_scheduler *sched, qr_seq_id id, int32_t n_rows)
{
    const struct qr_sequence *seq = &sched->seqs[id];
    int32_t end = seq->n_computed + n_rows;
    int32_t n_more = 0;

    if (sched->n_bounded > 0)
        n_more = qr_block_manager_pages_needed(sched->blocks, id, seq->n_computed, end);
    if (qr_block_manager_grow(sched->blocks, id, seq->n_computed, end) != QR_OK)
        return false;
    qr_order_charge_pages(sched, seq, n_more);
    return true;
}

/* A paused sequence holds no pages. */
static void park_paused(struct qr_scheduler *sched)
{
    qr_seq_id next;

    for (qr_seq_id id = sched->running.head; sched->n_paused > 0 && id != QR_SEQ_NONE; id = next) {
        next = sched->seqs[id].next;
        if (sched->seqs[id].paused)
            qr_preempt(sched, id, QR_RELEASE_PARKED, QR_SEQ_NONE);
    }
}

/* Sequences whose KV has arrived can run; of those where it was spoilt, the rest is computed. */
static void check_loads(struct qr_scheduler *sched)
{
    qr_seq_id next;

    for (qr_seq_id id = sched->running.head; id != QR_SEQ_NONE; id = next) {
        struct qr_sequence *seq = &sched->seqs[id];
        next = seq->next;
        if (seq->state != QR_SEQ_LOADING)
            continue;
        enum qr_load load = qr_block_manager_load_state(sched->blocks, id);
        if (load == QR_LOAD_DONE) {
            seq->state = QR_SEQ_RUNNING;
        } else if (load == QR_LOAD_FAILED) {
            sched->counters.n_load_failures++;
            qr_preempt(sched, id, QR_RELEASE_RESUMES, QR_SEQ_NONE);
        }
    }
}

/* False: the quota of its tenant is used up by sequences before it, and it gave way. */
static bool keep_quota(struct qr_scheduler *sched, qr_seq_id id, int32_t n_needed)
{
    const struct qr_sequence *seq = &sched->seqs[id];

    while (!qr_order_has_quota(sched, seq, n_needed)) {
        if (qr_preempt_in_tenant(sched, id))
            continue;
        if (sched->tenants[seq->tenant].n_pages <= qr_block_manager_held_pages(sched->blocks, id))
            return true; /* it is the only one, and was admitted because it fits */
        qr_preempt_self(sched, id);
        return false;
    }
    return true;
}

/*
 * Room for the next rows of a sequence. False: it does not run in this step, because it
 * waits for pages on their way out, or for those after it to become due, or because it
 * was the last and gave way itself.
 */
static bool make_room(struct qr_scheduler *sched, qr_seq_id id, int32_t n_rows, bool is_first)
{
    const struct qr_sequence *seq = &sched->seqs[id];

    for (;;) {
        int32_t n_needed = qr_block_manager_pages_needed(sched->blocks, id, seq->n_computed,
                                                         seq->n_computed + n_rows);
        if (!keep_quota(sched, id, n_needed))
            return false;
        if (grow(sched, id, n_rows))
            return true;
        if (qr_block_manager_leaving_pages(sched->blocks) >= n_needed)
            return false;
        if (qr_preempt_for(sched, id, false) || (is_first && qr_preempt_last(sched, id)))
            continue;
        if (!is_first && id == sched->running.tail)
            qr_preempt_self(sched, id);
        return false;
    }
}

/* The next of those that run, also when `id` has just given way; nobody before it has. */
static qr_seq_id next_running(const struct qr_scheduler *sched, qr_seq_id id)
{
    const struct qr_sequence *seq = &sched->seqs[id];

    if (seq->state != QR_SEQ_WAITING)
        return seq->next;
    qr_seq_id next = sched->running.head;
    while (next != QR_SEQ_NONE && !qr_seq_is_senior(seq, &sched->seqs[next]))
        next = sched->seqs[next].next;
    return next;
}

/* A sequence with one row left is a decode; also the last row of a prefill. */
static void plan_decodes(struct qr_scheduler *sched)
{
    bool is_first = true; /* until one that can run was met */

    for (qr_seq_id id = sched->running.head; id != QR_SEQ_NONE; id = next_running(sched, id)) {
        const struct qr_sequence *seq = &sched->seqs[id];
        if (!qr_can_run(seq))
            continue;
        if (qr_rows_left(seq) == 1 && make_room(sched, id, 1, is_first))
            add_entry(sched, id, 1);
        is_first = false;
    }
}

/*
 * The pages of a prefill were promised when it was admitted. Only a copy of a page that
 * was shared can be missing, or with a window a page that others hold as well and that was
 * not promised again: for these the first that can run may ask.
 */
static void plan_prefills(struct qr_scheduler *sched)
{
    bool is_first = true;

    for (qr_seq_id id = sched->running.head; id != QR_SEQ_NONE; id = next_running(sched, id)) {
        const struct qr_sequence *seq = &sched->seqs[id];
        if (!qr_can_run(seq))
            continue;
        int32_t n_rows = seq->n_planned > 0 || qr_rows_left(seq) == 1 ? 0 : chunk_rows(sched, seq);
        if (n_rows > 0 &&
            (grow(sched, id, n_rows) || (is_first && make_room(sched, id, n_rows, true))))
            add_entry(sched, id, n_rows);
        is_first = false;
    }
}

/* Pages that an admission must leave to those that run: one each, as they soon fill theirs. */
static int32_t headroom(const struct qr_scheduler *sched)
{
    return qr_weighs_costs(sched) ? sched->running.count : 0;
}

/* Tokens that an admitted sequence is promised pages for. */
static int32_t promised_tokens(const struct qr_scheduler *sched, const struct qr_sequence *seq)
{
    if (sched->config.discipline == QR_DISCIPLINE_RESERVE)
        return seq->max_tokens;
    return qr_min_i32(seq->n_known + 1, sched->max_seq_tokens);
}

static void note_admitted(struct qr_scheduler *sched, qr_seq_id id,
                          const struct qr_acquired *acquired)
{
    struct qr_sequence *seq = &sched->seqs[id];

    qr_seq_list_unlink(&sched->waiting, sched->seqs, id);
    qr_seq_list_insert(&sched->running, sched->seqs, id);
    if (!seq->admitted_before) {
        seq->admitted_before = true;
        seq->n_cached_prompt_tokens = acquired->n_cached;
        sched->n_new -= seq->width;
        sched->n_objectives -= seq->first_token_ns > 0;
        qr_order_admit(sched, seq);
    }
    seq->state = acquired->n_loads > 0 ? QR_SEQ_LOADING : QR_SEQ_RUNNING;
    seq->n_computed = seq->n_at_admission = acquired->n_cached;
    sched->admitted[sched->n_admitted++] = id;
}

/* All prompt rows of a sequence that is scored are computed, until they have been. */
static int32_t tokens_to_look_up(const struct qr_sequence *seq)
{
    return seq->all_logits && seq->n_peak < seq->n_prompt_tokens ? 1 : seq->n_known;
}

static bool try_admit(struct qr_scheduler *sched, qr_seq_id id)
{
    struct qr_sequence *seq = &sched->seqs[id];
    int32_t n_promised = promised_tokens(sched, seq);
    int32_t n_pages = qr_block_manager_pages_for(sched->blocks, n_promised);
    struct qr_acquired acquired;

    if (sched->running.count == sched->config.max_running || chunk_rows(sched, seq) == 0)
        return false;
    if (qr_block_manager_acquire(sched->blocks, id, tokens_to_look_up(seq), n_promised,
                                 headroom(sched), &acquired) != QR_OK)
        return false;
    qr_order_charge_pages(sched, seq, n_pages);
    note_admitted(sched, id, &acquired);
    int32_t n_rows = chunk_rows(sched, seq);
    if (seq->state == QR_SEQ_RUNNING && n_rows > 0 && grow(sched, id, n_rows))
        add_entry(sched, id, n_rows);
    return true;
}

/* Whether the tenant's quota has room for what an admission promises. */
static bool is_within_quota(const struct qr_scheduler *sched, qr_seq_id id)
{
    const struct qr_sequence *seq = &sched->seqs[id];

    return qr_order_has_quota(
        sched, seq, qr_block_manager_pages_for(sched->blocks, promised_tokens(sched, seq)));
}

/*
 * The first in the order of rank whose tenant has quota for it. Nobody overtakes another of
 * the same tenant.
 */
static qr_seq_id queue_head(struct qr_scheduler *sched)
{
    qr_seq_id id = qr_order_next(sched, QR_SEQ_NONE);

    sched->n_scans++;
    while (id != QR_SEQ_NONE &&
           !(qr_order_is_first_of_tenant(sched, id) && is_within_quota(sched, id)))
        id = qr_order_next(sched, id);
    return id;
}

/* An arrival that would miss its wanted time goes first, but never twice in a row. */
static bool admit_urgent(struct qr_scheduler *sched)
{
    qr_seq_id urgent = sched->boosted_last ? QR_SEQ_NONE : qr_order_urgent(sched);

    if (urgent == QR_SEQ_NONE || !is_within_quota(sched, urgent) || !try_admit(sched, urgent))
        return false;
    sched->boosted_last = true;
    return true;
}

static void admit_waiting(struct qr_scheduler *sched)
{
    qr_seq_id id;

    for (;;) {
        if (admit_urgent(sched))
            continue;
        if ((id = queue_head(sched)) == QR_SEQ_NONE)
            return;
        if (!try_admit(sched, id)) {
            if (chunk_rows(sched, &sched->seqs[id]) > 0)
                sched->kept_waiting = id;
            return;
        }
        sched->boosted_last = false;
    }
}

/* Whether the sequence could be admitted now even if nothing of it were cached. */
static bool has_room(const struct qr_scheduler *sched, qr_seq_id id)
{
    int32_t n_pages =
        qr_block_manager_pages_for(sched->blocks, promised_tokens(sched, &sched->seqs[id]));

    return sched->running.count < sched->config.max_running &&
           qr_block_manager_available_pages(sched->blocks) >= n_pages + headroom(sched);
}

/*
 * The head of the queue found no room in the last plan: one of lower priority gives way,
 * before rows are planned for it, unless pages are on their way already.
 */
static void make_way(struct qr_scheduler *sched)
{
    qr_seq_id id = sched->kept_waiting;

    sched->kept_waiting = QR_SEQ_NONE;
    if (id != QR_SEQ_NONE && id == queue_head(sched) && !has_room(sched, id) &&
        qr_block_manager_leaving_pages(sched->blocks) == 0)
        (void)qr_preempt_for(sched, id, true);
}

/*
 * Nothing that holds pages can run or is on its way, and the head of the queue found no
 * room: the last give way until it is in. The longest sequence fits into the empty pool,
 * so that ends.
 */
static void evict_for_head(struct qr_scheduler *sched)
{
    qr_seq_id id;

    while ((id = queue_head(sched)) != QR_SEQ_NONE && !try_admit(sched, id)) {
        if (qr_block_manager_leaving_pages(sched->blocks) > 0 || !qr_preempt_last(sched, id))
            return;
    }
}

/* Rows that were planned and never completed are as good as never planned. */
static void begin_plan(struct qr_scheduler *sched, int64_t now_ns)
{
    for (int32_t i = 0; i < sched->n_entries; i++)
        sched->seqs[sched->entries[i].seq].n_planned = 0;
    sched->n_entries = sched->n_rows = sched->n_logit_rows = 0;
    sched->n_preempted = sched->n_admitted = 0;
    sched->now_ns = now_ns;
    qr_block_manager_clear_lists(sched->blocks);
    qr_order_count_pages(sched);
}

static void hand_out(struct qr_scheduler *sched, struct qr_plan *plan)
{
    *plan = (struct qr_plan){
        .n_entries = sched->n_entries,
        .n_rows = sched->n_rows,
        .entries = sched->entries,
        .n_preempted = sched->n_preempted,
        .preempted = sched->preempted,
        .n_admitted = sched->n_admitted,
        .admitted = sched->admitted,
    };
    plan->copies = qr_block_manager_copies(sched->blocks, &plan->n_copies);
    plan->transfers = qr_block_manager_transfers(sched->blocks, &plan->n_transfers);
}

/* `insists`: if nothing runs, those that hold pages without being able to run give way. */
static void plan_rows(struct qr_scheduler *sched, bool insists)
{
    plan_decodes(sched);
    sched->n_decodes = sched->n_rows;
    plan_prefills(sched);
    if (insists && sched->n_entries == 0)
        evict_for_head(sched);
    admit_waiting(sched);
    qr_block_manager_start_transfers(sched->blocks);
}

/* Nothing was planned, and nothing is under way that could wake those who want to run. */
static bool is_stuck(const struct qr_scheduler *sched)
{
    return sched->n_entries == 0 && !qr_scheduler_transfers_pending(sched);
}

void qr_scheduler_plan(struct qr_scheduler *sched, int64_t now_ns, struct qr_plan *plan)
{
    qr_recorder_plan_begin(sched->recorder, now_ns);
    begin_plan(sched, now_ns);
    park_paused(sched);
    check_loads(sched);
    make_way(sched);
    qr_preempt_ahead(sched);
    plan_rows(sched, false);
    /* A block that was to leave and found no slot has stayed: what waited for it need not. */
    for (int32_t pass = 1; pass < QR_PLAN_PASSES && is_stuck(sched); pass++)
        plan_rows(sched, true);
    hand_out(sched, plan);
    qr_recorder_plan(sched->recorder, plan);
}
