/*
 * plan.c - one step: decodes, then prefill chunks, then admissions.
 *
 * Age is the order of first admission. A sequence can only take pages from younger
 * ones, with one exception (see take_decode_page and evict_for_head): a sequence that
 * could run takes them from any that cannot, if nothing older can run. That is why
 * the oldest that can run always gets rows; docs/scheduling.md has the argument.
 */
#include "base/assert.h"
#include "scheduler/state.h"

static int32_t min_i32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t rows_left(const struct qr_sequence *seq)
{
    return seq->n_known - seq->n_computed;
}

static bool can_run(const struct qr_sequence *seq)
{
    return !seq->paused && rows_left(seq) > 0;
}

/* Rows among the next `n_rows` whose logits are wanted. */
static int32_t logit_rows(const struct qr_sequence *seq, int32_t n_rows)
{
    int32_t end = seq->n_computed + n_rows;
    int32_t n_wanted = 0;

    if (seq->all_logits && seq->n_computed < seq->n_prompt_tokens)
        n_wanted = min_i32(end, seq->n_prompt_tokens) - seq->n_computed;
    bool samples = n_rows > 0 && end == seq->n_known;
    bool counted = seq->all_logits && end <= seq->n_prompt_tokens;
    return n_wanted + (samples && !counted);
}

/* The longest chunk of the sequence that what is left of the plan's budgets allows. */
static int32_t chunk_rows(const struct qr_scheduler *sched, const struct qr_sequence *seq)
{
    int32_t n_rows = min_i32(rows_left(seq), sched->config.max_batch_tokens - sched->n_rows);
    int32_t n_logits = sched->config.max_logit_rows - sched->n_logit_rows;

    if (sched->config.max_prefill_chunk > 0)
        n_rows = min_i32(n_rows, sched->config.max_prefill_chunk);
    if (seq->all_logits && seq->n_prompt_tokens - seq->n_computed > n_logits)
        n_rows = min_i32(n_rows, n_logits);
    /* What can still be one too many is the row that samples. */
    return logit_rows(seq, n_rows) > n_logits ? n_rows - 1 : n_rows;
}

static void add_entry(struct qr_scheduler *sched, qr_seq_id id, int32_t n_rows)
{
    struct qr_sequence *seq = &sched->seqs[id];

    sched->entries[sched->n_entries++] = (struct qr_plan_entry){
        .seq = id,
        .first_position = seq->n_computed,
        .n_tokens = n_rows,
        .samples = n_rows == rows_left(seq),
    };
    sched->n_rows += n_rows;
    sched->n_logit_rows += logit_rows(seq, n_rows);
    seq->n_planned = n_rows;
}

static void preempt(struct qr_scheduler *sched, qr_seq_id id)
{
    QR_ASSERT(id != QR_SEQ_NONE);
    struct qr_sequence *seq = &sched->seqs[id];
    QR_ASSERT(seq->n_planned == 0);

    qr_block_manager_release(sched->blocks, id);
    qr_seq_list_unlink(&sched->running, sched->seqs, id);
    qr_seq_list_insert(&sched->waiting, sched->seqs, id);
    sched->n_preemptions++;
    sched->n_recomputed_tokens += seq->n_computed;
    seq->n_preemptions++;
    seq->n_computed = 0;
    seq->state = QR_SEQ_WAITING;
    sched->preempted[sched->n_preempted++] = id;
}

/*
 * Finds room for the newest token of a decode, at the cost of the last admitted; false
 * when that was the decode itself. The oldest that can run gives way to nobody: the
 * last admitted of the others, which are then all paused, goes in its place.
 */
static bool take_decode_page(struct qr_scheduler *sched, qr_seq_id id, bool is_oldest)
{
    while (qr_block_manager_reserve(sched->blocks, id, sched->seqs[id].n_known) != QR_OK) {
        qr_seq_id victim = sched->running.tail;
        if (victim == id && is_oldest)
            victim = sched->seqs[id].prev;
        preempt(sched, victim);
        if (victim == id)
            return false;
    }
    return true;
}

/* A sequence with one row left is a decode; also the last row of a prefill. */
static void plan_decodes(struct qr_scheduler *sched)
{
    bool is_oldest = true; /* until one that can run was met */

    for (qr_seq_id id = sched->running.head; id != QR_SEQ_NONE; id = sched->seqs[id].next) {
        const struct qr_sequence *seq = &sched->seqs[id];
        if (!can_run(seq))
            continue;
        if (rows_left(seq) == 1) {
            if (!take_decode_page(sched, id, is_oldest))
                return; /* it was the last */
            add_entry(sched, id, 1);
        }
        is_oldest = false;
    }
}

/* The pages of a prefill were reserved when it was admitted. */
static void plan_prefills(struct qr_scheduler *sched)
{
    for (qr_seq_id id = sched->running.head; id != QR_SEQ_NONE; id = sched->seqs[id].next) {
        const struct qr_sequence *seq = &sched->seqs[id];
        if (!can_run(seq) || seq->n_planned > 0)
            continue;
        int32_t n_rows = chunk_rows(sched, seq);
        if (n_rows > 0)
            add_entry(sched, id, n_rows);
    }
}

/* The first in the queue that is not paused. */
static qr_seq_id queue_head(const struct qr_scheduler *sched)
{
    qr_seq_id id = sched->waiting.head;

    while (id != QR_SEQ_NONE && sched->seqs[id].paused)
        id = sched->seqs[id].next;
    return id;
}

static bool try_admit(struct qr_scheduler *sched, qr_seq_id id)
{
    struct qr_sequence *seq = &sched->seqs[id];
    int32_t n_rows = chunk_rows(sched, seq);
    int32_t n_tokens = min_i32(seq->n_known, sched->max_seq_tokens - 1) + 1;

    if (sched->running.count == sched->config.max_running || n_rows == 0 ||
        qr_block_manager_reserve(sched->blocks, id, n_tokens) != QR_OK)
        return false;
    qr_seq_list_unlink(&sched->waiting, sched->seqs, id);
    if (seq->ticket == QR_TICKET_UNADMITTED) {
        seq->ticket = sched->next_ticket++;
        sched->n_new--;
    }
    qr_seq_list_insert(&sched->running, sched->seqs, id);
    seq->state = QR_SEQ_RUNNING;
    sched->admitted[sched->n_admitted++] = id;
    add_entry(sched, id, n_rows);
    return true;
}

static void admit_waiting(struct qr_scheduler *sched)
{
    qr_seq_id id;

    while ((id = queue_head(sched)) != QR_SEQ_NONE && try_admit(sched, id))
        continue;
}

/*
 * Nothing that holds pages can run, and the head of the queue found no room: the last
 * admitted give way until it is in. The longest sequence fits into the empty pool, so
 * that ends.
 */
static void evict_for_head(struct qr_scheduler *sched)
{
    qr_seq_id id;

    while ((id = queue_head(sched)) != QR_SEQ_NONE && !try_admit(sched, id))
        preempt(sched, sched->running.tail);
}

/* Rows that were planned and never completed are as good as never planned. */
static void begin_plan(struct qr_scheduler *sched, int64_t now_ns)
{
    for (int32_t i = 0; i < sched->n_entries; i++)
        sched->seqs[sched->entries[i].seq].n_planned = 0;
    sched->n_entries = sched->n_rows = sched->n_logit_rows = 0;
    sched->n_preempted = sched->n_admitted = 0;
    sched->now_ns = now_ns;
}

void qr_scheduler_plan(struct qr_scheduler *sched, int64_t now_ns, struct qr_plan *plan)
{
    begin_plan(sched, now_ns);
    plan_decodes(sched);
    plan_prefills(sched);
    admit_waiting(sched);
    if (sched->n_entries == 0) {
        evict_for_head(sched);
        admit_waiting(sched);
    }
    *plan = (struct qr_plan){
        .n_entries = sched->n_entries,
        .n_rows = sched->n_rows,
        .entries = sched->entries,
        .n_preempted = sched->n_preempted,
        .preempted = sched->preempted,
        .n_admitted = sched->n_admitted,
        .admitted = sched->admitted,
    };
}
