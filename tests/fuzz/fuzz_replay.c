/* fuzz_replay.c - whatever a recording says, the scheduler gets no call that it does not allow. */
#include "base/assert.h"
#include "runtime/replay/story.h"

/* Worlds that are made in no time; others are read by fuzz_recording. */
static bool is_small(const struct qr_record_header *header)
{
    const struct qr_block_manager_config *blocks = &header->blocks;

    return blocks->page_count <= 64 && blocks->max_seq_tokens <= 256 &&
           blocks->tier_slots[QR_TIER_HOST] <= 64 && blocks->tier_slots[QR_TIER_DISK] <= 64 &&
           blocks->max_transfers <= 16 && blocks->max_sequences <= 64 &&
           qr_scheduler_n_slots(&header->scheduler) <= 32;
}

static bool run_record(struct qr_story *story, struct qr_replay *replay,
                       const struct qr_record *record)
{
    QR_ASSERT(qr_story_before(story, record) == QR_OK);
    if (qr_replay_apply(replay, record, NULL) != QR_OK || qr_replay_difference(replay) != NULL)
        return false;
    QR_ASSERT(qr_story_after(story, record) == QR_OK);
    return record->kind != QR_RECORD_END;
}

static void run(struct qr_record_reader *reader, struct qr_replay *replay)
{
    struct qr_buffer text = {.arena = QR_ARENA_ENGINE};
    struct qr_replay_stats stats;
    struct qr_story *story;
    struct qr_record record;

    QR_ASSERT(qr_story_create(replay, 1, &story) == QR_OK);
    while (qr_record_reader_next(reader, &record, NULL) == QR_OK)
        if (!run_record(story, replay, &record))
            break;
    qr_replay_get_stats(replay, &stats);
    if (stats.n_requests > 0)
        QR_ASSERT(qr_story_write(story, qr_record_reader_header(reader), &text) == QR_OK);
    qr_buffer_free(&text);
    qr_story_destroy(story);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qr_record_reader *reader;
    struct qr_replay *replay;

    if (qr_record_reader_open("fuzz", data, size, &reader, NULL) != QR_OK)
        return 0;
    if (is_small(qr_record_reader_header(reader)) &&
        qr_replay_create(qr_record_reader_header(reader), &replay, NULL) == QR_OK) {
        run(reader, replay);
        qr_replay_destroy(replay);
    }
    qr_record_reader_close(reader);
    return 0;
}
