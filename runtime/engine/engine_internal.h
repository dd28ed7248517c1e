/* engine_internal.h - the engine's state, shared by the files of this folder and nobody else. */
#ifndef QUIRE_RUNTIME_ENGINE_ENGINE_INTERNAL_H
#define QUIRE_RUNTIME_ENGINE_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "blockmgr/block_manager.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/generation.h"
#include "runtime/models/model.h"
#include "runtime/ops/ops.h"
#include "runtime/sampling/sampler.h"
#include "scheduler/scheduler.h"

/* What arrives from other threads, guarded by the bell's mutex. */
struct qr_inbox {
    struct qr_bell bell;
    struct qr_generation *head;
    struct qr_generation *tail;
    int32_t n_queued; /* accepted and not yet planned for the first time */
    bool draining;
    bool stopping;
};

/* Host arrays of one step, sized for the largest one at create. */
struct qr_step_arrays {
    int32_t *token_ids;      /* [max_batch_tokens] */
    int32_t *positions;      /* [max_batch_tokens] */
    int32_t *logit_rows;     /* [max_logit_rows] */
    int32_t *query_start;    /* [max_running + 1] */
    int32_t *context_length; /* [max_running] */
    int32_t *block_table;    /* [max_running][max_blocks] */
    float *logits;           /* [max_logit_rows][vocab_size] */
};

struct qr_engine {
    struct qr_engine_config config; /* as given, zeros replaced by what was chosen */
    char model_name[128];
    char backend_name[64];

    struct qr_device *dev;
    struct qr_model *model;
    struct qr_tokenizer *tokenizer;
    struct qr_block_manager *blocks;
    struct qr_scheduler *sched;
    struct qr_sampler *sampler;
    struct qr_model_config
        model_config; /* the model's, end-of-text ids of the tokenizer included */
    struct qr_kv_geometry kv;
    void *kv_pool; /* [page_count][page], see attention.h; device memory */
    int32_t max_seq_tokens;
    int32_t max_logit_rows;

    struct qr_step_arrays arrays;
    struct qr_generation **by_slot; /* [n_slots] the scheduler's slots */
    int32_t n_slots;
    struct qr_generation **live; /* [n_slots] known to the scheduler, in no order */
    int32_t n_live;
    struct qr_generation *pending; /* list: taken from the inbox, the scheduler has no slot yet */
    struct qr_wake_group **woken;  /* [n_slots] groups with news in this step */
    int32_t n_woken;

    struct qr_inbox inbox;
    pthread_t thread;
    bool thread_started;

    pthread_mutex_t stats_mutex;
    struct qr_engine_stats stats;    /* published once a step, under stats_mutex */
    struct qr_engine_stats counters; /* the engine thread's own */
    int64_t window_start_ns;         /* of tokens_per_second */
    int64_t window_tokens;
    atomic_int n_unfinished; /* accepted and not yet finished */
    atomic_llong n_rejected;
    atomic_llong mean_request_ns; /* moving average, for retry_after */
};

QR_BEGIN_DECLS

void *qr_engine_main(void *engine);

/*
 * Runs one step: plan, forward, sample, hand out. False when nothing could run.
 * Engine thread.
 */
bool qr_engine_step(struct qr_engine *engine);
/* Ends a live sequence: pages back, last words out, memory freed. Engine thread. */
void qr_engine_finish_sequence(struct qr_engine *engine, struct qr_generation *seq,
                               struct qr_finish *finish);
/* The sequence no longer counts against max_queue; harmless when it did not. Engine thread. */
void qr_engine_leave_queue(struct qr_engine *engine, struct qr_generation *seq);
/* Remembers that the group of `seq` has news. Engine thread. */
void qr_engine_note_wake(struct qr_engine *engine, const struct qr_generation *seq);
void qr_engine_publish_stats(struct qr_engine *engine);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_ENGINE_INTERNAL_H */
