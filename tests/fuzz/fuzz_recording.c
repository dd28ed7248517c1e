/* fuzz_recording.c - whatever the bytes are, what is read of them lies in its range. */
#include "base/assert.h"
#include "scheduler/record_reader.h"

static bool is_index(int32_t value, int32_t limit)
{
    return value >= 0 && value < limit;
}

static void check_plan(const struct qr_record_header *header, const struct qr_plan *plan)
{
    int32_t n_slots = qr_scheduler_n_slots(&header->scheduler);
    const struct qr_block_manager_config *blocks = &header->blocks;

    for (int32_t i = 0; i < plan->n_entries; i++) {
        const struct qr_plan_entry *entry = &plan->entries[i];
        QR_ASSERT(is_index(entry->seq, n_slots) && entry->first_position >= 0);
        QR_ASSERT(entry->n_tokens > 0);
        QR_ASSERT((int64_t)entry->first_position + entry->n_tokens <= blocks->max_seq_tokens);
    }
    for (int32_t i = 0; i < plan->n_preempted; i++)
        QR_ASSERT(is_index(plan->preempted[i].seq, n_slots));
    for (int32_t i = 0; i < plan->n_admitted; i++)
        QR_ASSERT(is_index(plan->admitted[i], n_slots));
    for (int32_t i = 0; i < plan->n_copies; i++)
        QR_ASSERT(is_index(plan->copies[i].from, blocks->page_count) &&
                  is_index(plan->copies[i].to, blocks->page_count));
    for (int32_t i = 0; i < plan->n_transfers; i++) {
        const struct qr_transfer *transfer = &plan->transfers[i];
        QR_ASSERT(is_index(transfer->id, blocks->max_transfers));
        QR_ASSERT(is_index((int32_t)transfer->tier, QR_TIER_COUNT));
        QR_ASSERT(is_index(transfer->slot, blocks->tier_slots[transfer->tier]));
    }
}

static void check_record(const struct qr_record_header *header, const struct qr_record *record)
{
    QR_ASSERT(record->seq >= QR_SEQ_NONE && record->seq < qr_scheduler_n_slots(&header->scheduler));
    if (record->kind == QR_RECORD_PLAN)
        check_plan(header, &record->plan);
    if (record->kind == QR_RECORD_ADD && record->add.status == QR_OK)
        for (int32_t i = 0; i < record->add.params.n_prompt_tokens; i++)
            QR_ASSERT(record->add.params.tokens[i] >= INT32_MIN); /* it may be read */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qr_record_reader *reader;
    struct qr_record record;

    if (qr_record_reader_open("fuzz", data, size, &reader, NULL) != QR_OK)
        return 0;
    const struct qr_record_header *header = qr_record_reader_header(reader);
    do {
        if (qr_record_reader_next(reader, &record, NULL) != QR_OK)
            break;
        QR_ASSERT(record.offset <= size);
        check_record(header, &record);
    } while (record.kind != QR_RECORD_END);
    qr_record_reader_close(reader);
    return 0;
}
