/*
 * recorder.h - the flight recorder: every input and decision of a scheduler as a compact
 * stream of bytes, from which `quire replay` runs the scheduler again without a model.
 *
 * The scheduler calls one function of this header for each of its own calls. They only
 * encode; the bytes go out through a sink. No I/O, no lock, no clock, nothing allocates
 * after create. Engine thread only. Every function but create accepts NULL as `rec` and
 * then does nothing, so that a scheduler without a recorder needs no condition.
 *
 * docs/flight-recorder.md has the format; record_reader.h reads it.
 */
#ifndef QUIRE_SCHEDULER_RECORDER_H
#define QUIRE_SCHEDULER_RECORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "blockmgr/block_manager.h"
#include "scheduler/scheduler.h"

struct qr_recorder;

enum {
    QR_RECORD_VERSION = 4,
    QR_RECORD_MAX_TEXT = 255, /* bytes of a request_id or a version; longer ones are cut */
    QR_RECORD_END_BYTES = 2,
};

/* Why a recording ends. */
enum qr_record_end {
    QR_RECORD_END_CLOSED,   /* the recorder was destroyed: all is there */
    QR_RECORD_END_TOO_SLOW, /* the sink could not keep up */
    QR_RECORD_END_FAILED,   /* the sink could not write, for example to a full disk */
    QR_RECORD_END_LIMIT,    /* the sink's bound on the size was reached */
    QR_RECORD_END_COUNT,
};

/*
 * Takes n bytes, whole records always, and copies or writes them before it returns.
 * False: it takes no more, and the recorder falls silent. A sink that stops puts the
 * mark of qr_record_end_mark behind the last bytes that it took.
 */
struct qr_record_sink {
    bool (*write)(void *arg, const void *bytes, size_t n);
    void *arg;
};

/* What the beginning of a recording says beside the configurations. */
struct qr_record_origin {
    const char *version;   /* of the program */
    int64_t start_unix_ns; /* the time of day, for people */
    int64_t start_ns;      /* the same moment on the clock that qr_scheduler_plan is given */
};

QR_BEGIN_DECLS

/*
 * Records a scheduler and a block manager made with these configurations, from their
 * first call on. The sink must outlive the recorder. QR_ERR_NOMEM leaves *out NULL.
 */
QR_MUST_CHECK enum qr_status qr_recorder_create(const struct qr_record_origin *origin,
                                                const struct qr_block_manager_config *blocks,
                                                const struct qr_scheduler_config *scheduler,
                                                const struct qr_record_sink *sink,
                                                struct qr_recorder **out);
void qr_recorder_destroy(struct qr_recorder *rec); /* marks the end, hands out the rest */
/* The mark that a sink writes when it stops by itself; always QR_RECORD_END_BYTES long. */
void qr_record_end_mark(enum qr_record_end reason, uint8_t mark[QR_RECORD_END_BYTES]);

/* At the end of qr_scheduler_add, refusals included: what it returned and *out. */
void qr_recorder_add(struct qr_recorder *rec, const struct qr_seq_params *params,
                     enum qr_status status, qr_seq_id seq);
/* At the end of qr_scheduler_fork; `seq` is what it returned. */
void qr_recorder_fork(struct qr_recorder *rec, qr_seq_id parent, qr_seq_id seq);
/* The others at the beginning of the call of the same name. */
void qr_recorder_remove(struct qr_recorder *rec, qr_seq_id seq);
void qr_recorder_end_forks(struct qr_recorder *rec, qr_seq_id seq);
void qr_recorder_set_paused(struct qr_recorder *rec, qr_seq_id seq, bool paused);
void qr_recorder_set_tenant(struct qr_recorder *rec, int32_t tenant, double weight,
                            int32_t max_pages);
void qr_recorder_set_costs(struct qr_recorder *rec, const struct qr_block_costs *costs);
void qr_recorder_append_token(struct qr_recorder *rec, qr_seq_id seq, int32_t token);
void qr_recorder_transfer_done(struct qr_recorder *rec, int32_t id, bool ok);
void qr_recorder_close_tier(struct qr_recorder *rec, enum qr_tier tier);
void qr_recorder_launch(struct qr_recorder *rec);
void qr_recorder_complete(struct qr_recorder *rec);
void qr_recorder_abandon(struct qr_recorder *rec);
/*
 * At the beginning of qr_scheduler_plan, and at its end. The input is handed to the sink
 * at once, so that a recording holds the question when the answer is a failed assertion.
 */
void qr_recorder_plan_begin(struct qr_recorder *rec, int64_t now_ns);
void qr_recorder_plan(struct qr_recorder *rec, const struct qr_plan *plan);

/* By who made the request, after qr_scheduler_add: the name that `--explain` finds it by. */
void qr_recorder_note_request(struct qr_recorder *rec, qr_seq_id seq, const char *request_id);
/* At the beginning of qr_scheduler_force_preempt. */
void qr_recorder_note_forced(struct qr_recorder *rec, qr_seq_id seq, enum qr_release how);

QR_END_DECLS

#endif /* QUIRE_SCHEDULER_RECORDER_H */
