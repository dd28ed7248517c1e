/*
 * record_format.h - the bytes of a recording, for recorder.c and record_reader.c alone.
 *
 * Both sides remember the last plan that had entries, and expect the next one to go on
 * from it: that is what makes a step of decodes a few bytes. docs/flight-recorder.md has
 * the whole format.
 */
#ifndef QUIRE_SCHEDULER_RECORD_FORMAT_H
#define QUIRE_SCHEDULER_RECORD_FORMAT_H

#include "blockmgr/block_manager.h"
#include "scheduler/scheduler.h"

#define QR_RECORD_MAGIC "quirerec"

enum {
    QR_RECORD_MAGIC_BYTES = 8,
    QR_RECORD_N_CONFIG = 8 + QR_TIER_COUNT + 8, /* numbers of the two configurations */
    QR_RECORD_N_COSTS = 2 * QR_TIER_COUNT + 2,
    QR_RECORD_TOKENS_MAX = 512, /* ids in one TOKENS record */
    QR_RECORD_MAX_BYTES = 4096, /* no record is longer */
};

/*
 * A record begins with a varint. Odd: the next token that the last plan makes expected,
 * the rest of the bits is its id. Even: half of it is one of these.
 */
enum qr_record_tag {
    QR_TAG_TOKENS = 1, /* a piece of the prompt of the next ADD */
    QR_TAG_ADD,
    QR_TAG_FORK,
    QR_TAG_REMOVE,
    QR_TAG_END_FORKS,
    QR_TAG_PAUSE,
    QR_TAG_RESUME,
    QR_TAG_TENANT,
    QR_TAG_COSTS,
    QR_TAG_TOKEN, /* one that the last plan does not make expected */
    QR_TAG_TRANSFER_DONE,
    QR_TAG_CLOSE_TIER,
    QR_TAG_COMPLETE,
    QR_TAG_PLAN_BEGIN,
    QR_TAG_KEEP, /* entries as expected; these up to TRANSFER are parts of a plan */
    QR_TAG_SKIP,
    QR_TAG_ENTRY,
    QR_TAG_PREEMPTED,
    QR_TAG_ADMITTED,
    QR_TAG_COPY,
    QR_TAG_TRANSFER,
    QR_TAG_PLAN_END,
    QR_TAG_NAME,
    QR_TAG_FORCED,
    QR_TAG_END,
    QR_TAG_LAUNCH,
    QR_TAG_ABANDON,
    QR_TAG_COUNT,
};

/* Bits of the flags of an ADD record. */
enum {
    QR_ADD_ALL_LOGITS = 1,
    QR_ADD_WIDTH = 2, /* each says that the field follows; without it, it is 1, 0 or empty */
    QR_ADD_PRIORITY = 4,
    QR_ADD_TENANT = 8,
    QR_ADD_FIRST_TOKEN = 16,
    QR_ADD_SALT = 32,      /* a length above QR_MAX_SALT_BYTES comes without the bytes */
    QR_ADD_NO_TOKENS = 64, /* the pointer was NULL */
    QR_ADD_FLAGS_END = 128,
};

/* The last plan with entries, and what is expected to follow it. */
struct qr_record_expected {
    const struct qr_plan_entry *entries;
    int32_t n_entries;
    int32_t next_entry; /* of the plan that is being coded */
    int32_t next_token; /* index of the first entry whose token may be the next one */
};

static inline int64_t qr_record_zigzag_decode(uint64_t value)
{
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

static inline uint64_t qr_record_zigzag_encode(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

QR_BEGIN_DECLS

void qr_record_pack_configs(const struct qr_block_manager_config *blocks,
                            const struct qr_scheduler_config *scheduler,
                            int32_t fields[QR_RECORD_N_CONFIG]);
void qr_record_unpack_configs(const int32_t fields[QR_RECORD_N_CONFIG],
                              struct qr_block_manager_config *blocks,
                              struct qr_scheduler_config *scheduler);
void qr_record_pack_costs(const struct qr_block_costs *costs, double fields[QR_RECORD_N_COSTS]);
void qr_record_unpack_costs(const double fields[QR_RECORD_N_COSTS], struct qr_block_costs *costs);

/* What entry `index` of the last plan becomes: one row further, or the next chunk. */
struct qr_plan_entry qr_record_expect_entry(const struct qr_record_expected *expected,
                                            int32_t index);
bool qr_record_same_entry(const struct qr_plan_entry *a, const struct qr_plan_entry *b);
/* The sequence of an entry coded in full: when it is the next expected one, that is used up. */
void qr_record_take_entry(struct qr_record_expected *expected, qr_seq_id seq);
/* The entry of the last plan whose token is expected next; n_entries: none. */
int32_t qr_record_expect_token(const struct qr_record_expected *expected);

QR_END_DECLS

#endif /* QUIRE_SCHEDULER_RECORD_FORMAT_H */
