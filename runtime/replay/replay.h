/*
 * replay.h - runs a scheduler again from its recording: every input in order, every
 * decision compared with the recorded one.
 *
 *     qr_replay_create(qr_record_reader_header(reader), &replay, &err);
 *     do {
 *         qr_record_reader_next(reader, &record, &err);
 *         qr_replay_apply(replay, &record, &err);
 *     } while (record.kind != QR_RECORD_END && !qr_replay_difference(replay));
 *
 * A recording may be damaged or invented: an input that the scheduler does not allow at
 * that point is an error, it never reaches the scheduler. One thread.
 */
#ifndef QUIRE_RUNTIME_REPLAY_REPLAY_H
#define QUIRE_RUNTIME_REPLAY_REPLAY_H

#include "base/buffer.h"
#include "scheduler/record_reader.h"

struct qr_replay;

/*
 * A moment is counted in plans: the clock is known when one is made, and nowhere else.
 * What a plan decides happens at its own moment, what comes after it at the next one's.
 */
typedef int64_t qr_moment;

#define QR_MOMENT_NONE ((qr_moment)-1)

/* An accepted request as the replay knows it, with all its forks. */
struct qr_replay_request {
    char *name; /* UTF-8; NULL: it has none */
    int64_t arrival_ns;
    int32_t n_prompt_tokens;
    int32_t max_tokens;
    int32_t width;
    int32_t priority;
    int32_t tenant;
    int32_t n_members; /* sequences that live */
    int32_t n_set_aside;
    int32_t n_branches; /* sequences that it had, itself included */
    bool may_fork;
    int32_t n_cached_tokens; /* of the prompt, at its first admission */
    int32_t n_output_tokens; /* of all its sequences */
    int32_t n_preempted[QR_RELEASE_PARKED + 1];
    qr_moment admitted; /* QR_MOMENT_NONE until then, as the following */
    qr_moment first_token;
    qr_moment finished;
};

/* A sequence as the replay knows it. */
struct qr_replay_seq {
    bool in_use;
    bool awaits_token;
    bool is_planned; /* has rows in the plan that is neither launched nor completed */
    bool is_paused;
    int32_t request; /* number of the request, from 1 in the order of arrival */
    int32_t branch;  /* 0, or which of the request's forks */
    int32_t n_known;
    int32_t max_tokens;
    int32_t *tokens; /* [max_tokens] */
};

struct qr_replay_stats {
    int64_t n_records;
    int64_t n_plans;    /* those without entries included */
    int64_t n_steps;    /* with entries, and completed */
    int64_t n_requests; /* accepted */
    int64_t n_refused;  /* additions; who waits for a slot may try again and again */
    int64_t n_forks;
    int64_t n_rows; /* of all plans */
    int64_t n_output_tokens;
    int64_t n_preempted[QR_RELEASE_PARKED + 1]; /* by how */
    int64_t n_forced;                           /* preemptions by a test */
    int64_t n_copied;                           /* pages, as the following */
    int64_t n_out[QR_TIER_COUNT];
    int64_t n_in[QR_TIER_COUNT];
    int64_t n_failed;
    int64_t first_ns; /* clock of the first plan and of the last */
    int64_t last_ns;
};

QR_BEGIN_DECLS

/* QR_ERR_INVALID: the recorded configuration is not one that the scheduler takes. */
QR_MUST_CHECK enum qr_status qr_replay_create(const struct qr_record_header *header,
                                              struct qr_replay **out, struct qr_error *err);
void qr_replay_destroy(struct qr_replay *replay); /* accepts NULL */

/*
 * QR_ERR_INVALID: the call cannot have been made at this point; `err` names the offset.
 * A decision that is not the recorded one is no error: see qr_replay_difference.
 */
QR_MUST_CHECK enum qr_status qr_replay_apply(struct qr_replay *replay,
                                             const struct qr_record *record, struct qr_error *err);
/* The first difference in words, both sides; NULL: none so far. Valid until destroy. */
const char *qr_replay_difference(const struct qr_replay *replay);

void qr_replay_get_stats(const struct qr_replay *replay, struct qr_replay_stats *stats);
/* Of any slot, in use or not. */
const struct qr_replay_seq *qr_replay_seq(const struct qr_replay *replay, qr_seq_id seq);
/* number: from 1 to n_requests; valid until the next apply. */
const struct qr_replay_request *qr_replay_request(const struct qr_replay *replay, int32_t number);
/* The moment of the last plan. What happens after it has the moment behind. */
qr_moment qr_replay_plan_moment(const struct qr_replay *replay);
/* The clock then; of a moment that has not come, that of the last one. */
int64_t qr_replay_clock_ns(const struct qr_replay *replay, qr_moment moment);
/* The plan that was just made, after a QR_RECORD_PLAN_BEGIN. */
const struct qr_plan *qr_replay_plan(const struct qr_replay *replay);
const struct qr_scheduler *qr_replay_scheduler(const struct qr_replay *replay);
const struct qr_block_manager *qr_replay_blocks(const struct qr_replay *replay);

enum { QR_REPLAY_NAME_BYTES = 32 };
/* "17", or "17.2" for the second fork of request 17; returns `out`. */
const char *qr_replay_name(const struct qr_replay *replay, qr_seq_id seq,
                           char out[QR_REPLAY_NAME_BYTES]);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_REPLAY_REPLAY_H */
