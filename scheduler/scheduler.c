/*
 * scheduler.c - the life of a sequence around the plans: added, paused, computed,
 * grown, removed. plan.c makes the plans.
 */
#include "scheduler/scheduler.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "scheduler/state.h"

/* Every running sequence may want a row and a logit row in one step. */
static bool config_is_valid(const struct qr_scheduler_config *config)
{
    return config->max_running > 0 && config->max_waiting > 0 &&
           config->max_running <= INT32_MAX - config->max_waiting &&
           config->max_batch_tokens >= config->max_running &&
           config->max_logit_rows >= config->max_running && config->max_prefill_chunk >= 0;
}

static bool blocks_suffice(const struct qr_block_manager *blocks, int32_t n_slots)
{
    return qr_block_manager_max_sequences(blocks) >= n_slots &&
           qr_block_manager_page_count(blocks) >= qr_block_manager_max_blocks(blocks);
}

static enum qr_status allocate_arrays(struct qr_scheduler *sched)
{
    size_t n_slots = (size_t)sched->n_slots;
    size_t n_running = (size_t)sched->config.max_running;

    sched->seqs = qr_calloc(QR_ARENA_ENGINE, n_slots, sizeof(*sched->seqs));
    sched->free_slots = qr_calloc(QR_ARENA_ENGINE, n_slots, sizeof(*sched->free_slots));
    sched->entries = qr_calloc(QR_ARENA_ENGINE, n_running, sizeof(*sched->entries));
    sched->preempted = qr_calloc(QR_ARENA_ENGINE, n_running, sizeof(*sched->preempted));
    sched->admitted = qr_calloc(QR_ARENA_ENGINE, n_running, sizeof(*sched->admitted));
    bool ok = sched->seqs != NULL && sched->free_slots != NULL && sched->entries != NULL &&
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
    int32_t n_slots = config->max_running + config->max_waiting;
    if (!blocks_suffice(blocks, n_slots))
        return QR_ERR_INVALID;

    if ((sched = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*sched))) == NULL)
        goto fail;
    sched->config = *config;
    sched->blocks = blocks;
    sched->max_seq_tokens = qr_block_manager_max_seq_tokens(blocks);
    sched->n_slots = sched->n_free_slots = n_slots;
    if (allocate_arrays(sched) != QR_OK)
        goto fail;

    for (int32_t i = 0; i < n_slots; i++)
        sched->free_slots[i] = n_slots - 1 - i; /* slot 0 is taken first */
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
    for (qr_seq_id id = sched->running.head; id != QR_SEQ_NONE; id = sched->seqs[id].next)
        qr_block_manager_release(sched->blocks, id);
    qr_free(sched->admitted);
    qr_free(sched->preempted);
    qr_free(sched->entries);
    qr_free(sched->free_slots);
    qr_free(sched->seqs);
    qr_free(sched);
}

static struct qr_sequence *sequence_of(const struct qr_scheduler *sched, qr_seq_id id)
{
    QR_ASSERT(id >= 0 && id < sched->n_slots && sched->seqs[id].in_use);
    return &sched->seqs[id];
}

enum qr_status qr_scheduler_add(struct qr_scheduler *sched, const struct qr_seq_params *params,
                                qr_seq_id *out)
{
    *out = QR_SEQ_NONE;
    if (params->n_prompt_tokens < 1 || params->n_prompt_tokens > sched->max_seq_tokens)
        return QR_ERR_INVALID;
    if (sched->n_new == sched->config.max_waiting || sched->n_free_slots == 0)
        return QR_ERR_QUEUE_FULL;

    qr_seq_id id = sched->free_slots[--sched->n_free_slots];
    sched->seqs[id] = (struct qr_sequence){
        .ticket = QR_TICKET_UNADMITTED,
        .arrival_ns = params->arrival_ns,
        .n_prompt_tokens = params->n_prompt_tokens,
        .n_known = params->n_prompt_tokens,
        .state = QR_SEQ_WAITING,
        .all_logits = params->all_logits,
        .in_use = true,
    };
    qr_seq_list_append(&sched->waiting, sched->seqs, id);
    sched->n_new++;
    *out = id;
    return QR_OK;
}

void qr_scheduler_remove(struct qr_scheduler *sched, qr_seq_id id)
{
    struct qr_sequence *seq = sequence_of(sched, id);

    if (seq->state == QR_SEQ_RUNNING) {
        qr_block_manager_release(sched->blocks, id);
        qr_seq_list_unlink(&sched->running, sched->seqs, id);
    } else {
        qr_seq_list_unlink(&sched->waiting, sched->seqs, id);
        sched->n_new -= seq->ticket == QR_TICKET_UNADMITTED;
    }
    sched->n_paused -= seq->paused;
    seq->in_use = false;
    sched->free_slots[sched->n_free_slots++] = id;
}

void qr_scheduler_set_paused(struct qr_scheduler *sched, qr_seq_id id, bool paused)
{
    struct qr_sequence *seq = sequence_of(sched, id);

    sched->n_paused += paused - seq->paused;
    seq->paused = paused;
}

void qr_scheduler_complete(struct qr_scheduler *sched, const struct qr_plan *plan)
{
    QR_ASSERT(plan->entries == sched->entries && plan->n_entries == sched->n_entries);

    /* Of slots removed since, a free one is read by nobody and a reused one has no planned rows. */
    for (int32_t i = 0; i < sched->n_entries; i++) {
        struct qr_sequence *seq = &sched->seqs[sched->entries[i].seq];
        seq->n_computed += seq->n_planned;
        seq->n_planned = 0;
    }
}

void qr_scheduler_append_token(struct qr_scheduler *sched, qr_seq_id id)
{
    struct qr_sequence *seq = sequence_of(sched, id);

    QR_ASSERT(seq->state == QR_SEQ_RUNNING && seq->n_computed == seq->n_known);
    QR_ASSERT(seq->n_known < sched->max_seq_tokens);
    seq->n_known++;
}

enum qr_seq_state qr_scheduler_state(const struct qr_scheduler *sched, qr_seq_id id)
{
    return sequence_of(sched, id)->state;
}

int32_t qr_scheduler_n_computed(const struct qr_scheduler *sched, qr_seq_id id)
{
    return sequence_of(sched, id)->n_computed;
}

int32_t qr_scheduler_n_preemptions(const struct qr_scheduler *sched, qr_seq_id id)
{
    return sequence_of(sched, id)->n_preemptions;
}

/* How long the first new arrival in the queue had waited at the last plan. */
static int64_t head_wait_ns(const struct qr_scheduler *sched)
{
    qr_seq_id id = sched->waiting.head;

    while (id != QR_SEQ_NONE && sched->seqs[id].ticket != QR_TICKET_UNADMITTED)
        id = sched->seqs[id].next;
    if (id == QR_SEQ_NONE || sched->seqs[id].arrival_ns > sched->now_ns)
        return 0;
    return sched->now_ns - sched->seqs[id].arrival_ns;
}

void qr_scheduler_get_stats(const struct qr_scheduler *sched, struct qr_scheduler_stats *stats)
{
    *stats = (struct qr_scheduler_stats){
        .n_running = sched->running.count,
        .n_waiting = sched->waiting.count,
        .n_paused = sched->n_paused,
        .head_wait_ns = head_wait_ns(sched),
        .n_preemptions = sched->n_preemptions,
        .n_recomputed_tokens = sched->n_recomputed_tokens,
    };
}
