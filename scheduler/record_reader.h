/*
 * record_reader.h - reads a recording that recorder.h wrote: one input or decision of the
 * scheduler after the other.
 *
 * The bytes may be anything: whatever is out of its range, by itself or by the recorded
 * configuration, is an error that names the offset. Whether a call was allowed when it
 * was made is not checked here (a removed sequence may be removed again). One thread.
 */
#ifndef QUIRE_SCHEDULER_RECORD_READER_H
#define QUIRE_SCHEDULER_RECORD_READER_H

#include <stddef.h>

#include "scheduler/recorder.h"

struct qr_record_reader;

/* The beginning of a recording. */
struct qr_record_header {
    char version[QR_RECORD_MAX_TEXT + 1];
    int64_t start_unix_ns;
    int64_t start_ns;
    struct qr_block_manager_config blocks;
    struct qr_scheduler_config scheduler;
};

/* The calls of recorder.h. */
enum qr_record_kind {
    QR_RECORD_ADD,
    QR_RECORD_FORK,
    QR_RECORD_REMOVE,
    QR_RECORD_END_FORKS,
    QR_RECORD_SET_PAUSED,
    QR_RECORD_SET_TENANT,
    QR_RECORD_SET_COSTS,
    QR_RECORD_APPEND_TOKEN,
    QR_RECORD_TRANSFER_DONE,
    QR_RECORD_CLOSE_TIER,
    QR_RECORD_LAUNCH,
    QR_RECORD_COMPLETE,
    QR_RECORD_ABANDON,
    QR_RECORD_PLAN_BEGIN,
    QR_RECORD_PLAN,
    QR_RECORD_NAME,
    QR_RECORD_FORCED,
    QR_RECORD_END, /* the last one, whether the file has a mark or not */
};

/* Pointers are valid until the next record is read. */
struct qr_record {
    enum qr_record_kind kind;
    uint64_t offset; /* of its first byte in the file */
    qr_seq_id seq;   /* of ADD (QR_SEQ_NONE when refused) to APPEND_TOKEN, NAME, FORCED */
    union {
        struct {
            struct qr_seq_params params; /* tokens: only of an accepted one */
            enum qr_status status;
        } add;
        qr_seq_id parent; /* of FORK */
        bool paused;
        struct {
            int32_t tenant;
            double weight;
            int32_t max_pages;
        } tenant;
        struct qr_block_costs costs;
        int32_t token;
        struct {
            int32_t id;
            bool ok;
        } transfer;
        enum qr_tier tier;
        int64_t now_ns;
        struct qr_plan plan;
        char name[QR_RECORD_MAX_TEXT + 1]; /* any bytes but NUL, as the client sent them */
        enum qr_release how;
        struct {
            bool is_marked;            /* false: the process ended, or still writes */
            enum qr_record_end reason; /* when it is marked */
            uint64_t n_torn_bytes;     /* of a last record that is not all there */
        } end;
    };
};

QR_BEGIN_DECLS

/*
 * `bytes` is borrowed until close. `name` stands in errors. QR_ERR_INVALID: it is not a
 * recording, of another format, or its configuration cannot be.
 */
QR_MUST_CHECK enum qr_status qr_record_reader_open(const char *name, const uint8_t *bytes,
                                                   size_t n_bytes, struct qr_record_reader **out,
                                                   struct qr_error *err);
void qr_record_reader_close(struct qr_record_reader *reader); /* accepts NULL */
const struct qr_record_header *qr_record_reader_header(const struct qr_record_reader *reader);
/* After QR_RECORD_END, and after an error, do not read on. */
QR_MUST_CHECK enum qr_status qr_record_reader_next(struct qr_record_reader *reader,
                                                   struct qr_record *record, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_SCHEDULER_RECORD_READER_H */
