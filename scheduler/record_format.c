/* record_format.c - see record_format.h. */
#include "scheduler/record_format.h"

void qr_record_pack_configs(const struct qr_block_manager_config *blocks,
                            const struct qr_scheduler_config *scheduler,
                            int32_t fields[QR_RECORD_N_CONFIG])
{
    const int32_t values[QR_RECORD_N_CONFIG] = {
        blocks->page_count,
        blocks->page_size,
        blocks->max_sequences,
        blocks->max_seq_tokens,
        blocks->tier_slots[QR_TIER_HOST],
        blocks->tier_slots[QR_TIER_DISK],
        blocks->max_transfers,
        blocks->window,
        blocks->max_rows,
        blocks->prefix_cache,
        scheduler->max_batch_tokens,
        scheduler->max_running,
        scheduler->max_waiting,
        scheduler->max_parked,
        scheduler->max_logit_rows,
        scheduler->max_prefill_chunk,
        scheduler->max_stall_ms,
        (int32_t)scheduler->discipline,
    };

    for (int32_t i = 0; i < QR_RECORD_N_CONFIG; i++)
        fields[i] = values[i];
}

void qr_record_unpack_configs(const int32_t fields[QR_RECORD_N_CONFIG],
                              struct qr_block_manager_config *blocks,
                              struct qr_scheduler_config *scheduler)
{
    *blocks = (struct qr_block_manager_config){
        .page_count = fields[0],
        .page_size = fields[1],
        .max_sequences = fields[2],
        .max_seq_tokens = fields[3],
        .tier_slots = {[QR_TIER_HOST] = fields[4], [QR_TIER_DISK] = fields[5]},
        .max_transfers = fields[6],
        .window = fields[7],
        .max_rows = fields[8],
        .prefix_cache = fields[9] != 0,
    };
    *scheduler = (struct qr_scheduler_config){
        .max_batch_tokens = fields[10],
        .max_running = fields[11],
        .max_waiting = fields[12],
        .max_parked = fields[13],
        .max_logit_rows = fields[14],
        .max_prefill_chunk = fields[15],
        .max_stall_ms = fields[16],
        .discipline = (enum qr_discipline)fields[17],
    };
}

void qr_record_pack_costs(const struct qr_block_costs *costs, double fields[QR_RECORD_N_COSTS])
{
    for (int32_t tier = 0; tier < QR_TIER_COUNT; tier++) {
        fields[tier] = costs->page_out_ns[tier];
        fields[QR_TIER_COUNT + tier] = costs->page_in_ns[tier];
    }
    fields[2 * QR_TIER_COUNT] = costs->row_ns;
    fields[2 * QR_TIER_COUNT + 1] = costs->row_position_ns;
}

void qr_record_unpack_costs(const double fields[QR_RECORD_N_COSTS], struct qr_block_costs *costs)
{
    for (int32_t tier = 0; tier < QR_TIER_COUNT; tier++) {
        costs->page_out_ns[tier] = fields[tier];
        costs->page_in_ns[tier] = fields[QR_TIER_COUNT + tier];
    }
    costs->row_ns = fields[2 * QR_TIER_COUNT];
    costs->row_position_ns = fields[2 * QR_TIER_COUNT + 1];
}

struct qr_plan_entry qr_record_expect_entry(const struct qr_record_expected *expected,
                                            int32_t index)
{
    const struct qr_plan_entry *last = &expected->entries[index];

    return (struct qr_plan_entry){
        .seq = last->seq,
        .first_position = last->first_position + last->n_tokens,
        .n_tokens = last->samples ? 1 : last->n_tokens,
        .samples = last->samples,
    };
}

bool qr_record_same_entry(const struct qr_plan_entry *a, const struct qr_plan_entry *b)
{
    return a->seq == b->seq && a->first_position == b->first_position &&
           a->n_tokens == b->n_tokens && a->samples == b->samples;
}

void qr_record_take_entry(struct qr_record_expected *expected, qr_seq_id seq)
{
    if (expected->next_entry < expected->n_entries &&
        expected->entries[expected->next_entry].seq == seq)
        expected->next_entry++;
}

int32_t qr_record_expect_token(const struct qr_record_expected *expected)
{
    int32_t i = expected->next_token;

    while (i < expected->n_entries && !expected->entries[i].samples)
        i++;
    return i;
}
