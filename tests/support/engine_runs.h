/*
 * engine_runs.h - runs requests on a real engine and collects everything that came
 * out, so that two runs can be compared with ==.
 */
#ifndef QUIRE_TESTS_SUPPORT_ENGINE_RUNS_H
#define QUIRE_TESTS_SUPPORT_ENGINE_RUNS_H

#include "base/buffer.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/engine_hooks.h"
#include "runtime/engine/waiter.h"

enum { QR_RUN_MAX_TOKENS = 1024 };

/* Everything that came out of one output; of several, runs[i] is output i. */
struct qr_run {
    int32_t n_outputs; /* of the request: this run and the next ones in the array */
    int32_t n_tokens;  /* output */
    int32_t ids[QR_RUN_MAX_TOKENS];
    float logprobs[QR_RUN_MAX_TOKENS];
    struct qr_top_logprob top[QR_RUN_MAX_TOKENS]; /* the second likeliest, when asked for two */
    int32_t n_scored;                             /* prompt log-probabilities */
    float scores[QR_RUN_MAX_TOKENS];
    struct qr_buffer text;
    bool finished;
    struct qr_finish finish;
};

/* The default settings, but for the model (borrowed) and one thread. */
struct qr_engine_config qr_run_config(const char *model_path);
/* An engine with these settings; fails the test when it cannot be made. */
struct qr_engine *qr_run_engine(const struct qr_engine_config *config);

/* A request for `max_tokens` greedy tokens after ids[n]. */
struct qr_request *qr_run_request(const int32_t *ids, size_t n, int32_t max_tokens);

/*
 * Submits with `run` as the stream's owner; fails the test when it is refused. A request of
 * several outputs takes so many runs, from `run` on.
 */
struct qr_stream *qr_run_submit(struct qr_engine *engine, struct qr_waiter *waiter,
                                struct qr_request *request, struct qr_run *run);

/* Reads until all of runs[n], each the first of its request, have finished with all outputs. */
void qr_run_wait(struct qr_waiter *waiter, struct qr_run *runs, int32_t n);

/* Takes everything there is on the stream of a run, without waiting. */
void qr_run_collect(struct qr_stream *stream);

/* All requests[n] at once, of one output each, to their ends; they belong to the engine afterwards.
 */
void qr_run_all(struct qr_engine *engine, struct qr_request **requests, struct qr_run *runs,
                int32_t n);

/* One request to its end, whose outputs become runs[request->n]. */
void qr_run_outputs(struct qr_engine *engine, struct qr_request *request, struct qr_run *runs);

/* Fails the test unless tokens, log-probabilities, text and the reason of the end are the same. */
void qr_run_assert_same(const struct qr_run *a, const struct qr_run *b);
void qr_run_free(struct qr_run *runs, int32_t n);

/* ---- the same requests in different company ---- */

/* Request number i of a test. */
typedef struct qr_request *(*qr_run_make_fn)(int32_t i);

/* Requests [0, n), each alone on an engine with these settings; for qr_run_free_all. */
struct qr_run *qr_run_each_alone(const struct qr_engine_config *config, qr_run_make_fn make,
                                 int32_t n);
/*
 * Requests [0, n) at once on an engine with these settings, which makes no second plan before it
 * has them all (engine_gate.h): fails the test unless each is as alone[i] and the pool is whole
 * afterwards. hook: NULL, or what the engine does between steps. The figures at the end.
 */
struct qr_engine_stats qr_run_together(const struct qr_engine_config *config,
                                       const struct qr_engine_hook *hook, qr_run_make_fn make,
                                       int32_t n, const struct qr_run *alone);
void qr_run_free_all(struct qr_run *runs, int32_t n); /* accepts NULL */

/* Real text: BOS and the greedy story of stories260k's reference, as ids [max]; returns how many.
 * Only where there is test data. */
size_t qr_run_story(int32_t *ids, size_t max);

/* Fails the test unless the engine comes to hold no page and no sequence. */
void qr_run_assert_pool_whole(struct qr_engine *engine);

#endif /* QUIRE_TESTS_SUPPORT_ENGINE_RUNS_H */
