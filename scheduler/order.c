/*
 * order.c - who comes before whom: ranks, fair share of tenants, quotas, wanted times.
 *
 * Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996). An arrival starts where
 * its tenant's last one finishes, or at the virtual time if that is later; it finishes as
 * many tokens later as it may use, divided by the tenant's weight. Virtual time is the
 * start of the latest arrival that was admitted. The rank is the start, less what
 * priority is worth. It never changes, so that of two sequences it is always the same one
 * that gives way.
 */
#include "base/assert.h"
#include "scheduler/state.h"

enum { UNITS = 1000 }; /* of virtual time, a token of a tenant with weight 1 */

static int64_t service(const struct qr_tenant *tenant, int64_t n_tokens)
{
    return (int64_t)((double)n_tokens * UNITS / tenant->weight);
}

static int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void qr_order_arrive(struct qr_scheduler *sched, struct qr_sequence *seq)
{
    struct qr_tenant *tenant = &sched->tenants[seq->tenant];

    seq->ticket = sched->next_ticket++;
    seq->start_tag = max_i64(sched->virtual_time, tenant->finish_tag);
    seq->rank = seq->start_tag - (int64_t)seq->priority * QR_PRIORITY_TOKENS * UNITS;
    tenant->last_start = seq->start_tag;
    tenant->finish_tag = seq->start_tag + service(tenant, (int64_t)seq->max_tokens * seq->width);
}

void qr_order_admit(struct qr_scheduler *sched, const struct qr_sequence *seq)
{
    sched->virtual_time = max_i64(sched->virtual_time, seq->start_tag);
}

void qr_order_leave(struct qr_scheduler *sched, const struct qr_sequence *seq)
{
    struct qr_tenant *tenant = &sched->tenants[seq->tenant];
    int64_t unused = service(tenant, seq->max_tokens - seq->n_peak);

    /* Never before its latest arrival: those that come now stand behind it. */
    tenant->finish_tag = max_i64(tenant->finish_tag - unused, tenant->last_start + UNITS);
}

void qr_order_count_pages(struct qr_scheduler *sched)
{
    if (sched->n_bounded == 0)
        return;
    for (int32_t t = 0; t < QR_MAX_TENANTS; t++)
        sched->tenants[t].n_pages = 0;
    for (qr_seq_id id = sched->running.head; id != QR_SEQ_NONE; id = sched->seqs[id].next)
        sched->tenants[sched->seqs[id].tenant].n_pages +=
            qr_block_manager_held_pages(sched->blocks, id) +
            qr_block_manager_promised_pages(sched->blocks, id);
}

bool qr_order_has_quota(const struct qr_scheduler *sched, const struct qr_sequence *seq,
                        int32_t n_pages)
{
    const struct qr_tenant *tenant = &sched->tenants[seq->tenant];
    return tenant->max_pages == 0 || tenant->n_pages + n_pages <= tenant->max_pages;
}

void qr_order_charge_pages(struct qr_scheduler *sched, const struct qr_sequence *seq,
                           int32_t n_pages)
{
    if (sched->n_bounded > 0)
        sched->tenants[seq->tenant].n_pages += n_pages;
}

qr_seq_id qr_order_next(const struct qr_scheduler *sched, qr_seq_id after)
{
    qr_seq_id id = after == QR_SEQ_NONE ? sched->waiting.head : sched->seqs[after].next;

    while (id != QR_SEQ_NONE && (sched->seqs[id].paused || sched->seqs[id].awaits_token))
        id = sched->seqs[id].next;
    return id;
}

bool qr_order_is_first_of_tenant(struct qr_scheduler *sched, qr_seq_id id)
{
    struct qr_tenant *tenant = &sched->tenants[sched->seqs[id].tenant];
    bool is_first = tenant->passed_over != sched->n_scans;

    tenant->passed_over = sched->n_scans;
    return is_first;
}

/* What is left until it must start, if it still can be in time; INT64_MAX otherwise. */
static int64_t slack_ns(const struct qr_scheduler *sched, const struct qr_sequence *seq)
{
    int64_t left_ns = seq->arrival_ns + seq->first_token_ns - sched->now_ns;
    double prefill_ns = qr_block_manager_compute_ns(sched->blocks, 0, seq->n_prompt_tokens);

    return (double)left_ns < prefill_ns ? INT64_MAX : left_ns - (int64_t)prefill_ns;
}

qr_seq_id qr_order_urgent(struct qr_scheduler *sched)
{
    qr_seq_id urgent = QR_SEQ_NONE;
    int64_t least = INT64_MAX;

    sched->n_scans++;
    for (qr_seq_id id = qr_order_next(sched, QR_SEQ_NONE);
         sched->n_objectives > 0 && id != QR_SEQ_NONE; id = qr_order_next(sched, id)) {
        const struct qr_sequence *seq = &sched->seqs[id];
        bool is_first = qr_order_is_first_of_tenant(sched, id);
        if (!is_first || seq->admitted_before || seq->first_token_ns == 0)
            continue;
        int64_t slack = slack_ns(sched, seq);
        if (slack < seq->first_token_ns / 2 && slack < least) {
            least = slack;
            urgent = id;
        }
    }
    return urgent;
}
