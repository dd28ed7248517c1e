/*
 * engine.h - one thread that owns the model, the device, the block manager and the
 * scheduler, and turns requests into streams of tokens.
 *
 * One way in (qr_engine_submit, a bounded queue), one way out (struct qr_stream).
 */
#ifndef QUIRE_RUNTIME_ENGINE_ENGINE_H
#define QUIRE_RUNTIME_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/string_list.h"
#include "blockmgr/block_manager.h"
#include "runtime/engine/request.h"
#include "runtime/engine/stream.h"
#include "runtime/models/model_config.h"
#include "runtime/ops/ops.h"
#include "runtime/tokenizer/tokenizer.h"
#include "scheduler/scheduler.h"

struct qr_engine;

struct qr_engine_config {
    const char *model_path;        /* as of qr_model_open; NULL: the demo model */
    const char *backend;           /* "auto", "cpu", "cuda" */
    int32_t device;                /* of the backend, by its number; -1: the backend's choice */
    const char *isa;               /* "auto", "scalar", "neon", "avx2", "avx512", ... */
    int32_t n_threads;             /* 0: one a core */
    enum qr_kv_dtype kv_dtype;     /* of KV pages */
    enum qr_weight_format weights; /* what matrices become when they are loaded: on a GPU */
    enum qr_quantize quantize;     /* and on the CPU */
    const char *weights_cache;     /* see struct qr_device_config */
    bool deterministic;            /* see struct qr_device_config */
    int64_t kv_memory;             /* bytes of the KV page pool; 0: kv_pages decides */
    int32_t kv_pages;              /* pages of the pool, when kv_memory is 0; 0: see kv_pool.h */
    int32_t page_size;             /* tokens a page, a power of two in [8, 256] */
    int32_t max_batch_tokens;      /* rows of one step; 0: as many as are good for the device */
    int32_t
        max_prefill_chunk; /* prompt rows of one sequence in one step; 0: what the batch allows */
    int32_t max_stall_ms;  /* that decodes wait for the prompt rows of their step; 0: no bound */
    int32_t max_running;   /* sequences in one batch */
    int32_t max_queue;     /* requests that may wait */
    int32_t max_context;   /* 0: the model's; a smaller bound on prompt + output */
    int64_t swap_memory;   /* bytes of host memory for pages moved out; 0: none */
    const char *swap_dir;  /* folder of the disk tier; NULL: none */
    int64_t swap_disk;     /* bytes of disk for pages moved out; 0: none */
    bool prefix_cache;     /* requests share the pages of a common beginning */
    enum qr_discipline discipline;
    struct qr_string_list tenants; /* "NAME=WEIGHT[,QUOTA%]", several joined by ';' */
    const char *record;            /* file for the flight recorder; NULL: none */
};

struct qr_tier_stats {
    int32_t slots; /* 0: there is no such tier */
    int32_t used;
    int64_t n_out; /* pages moved, and not moved, since start */
    int64_t n_in;
    int64_t n_failed_out;
    int64_t n_failed_in;
    int64_t n_bad_checksums; /* of n_failed_in */
    bool closed;             /* it failed: nothing is moved to it any more */
};

struct qr_engine_stats {
    int32_t n_running; /* sequences; of a request with several outputs each counts */
    int32_t n_loading; /* of these, how many wait for pages from a lower tier */
    int32_t n_waiting;
    int32_t n_paused; /* of these, how many have a slow reader */
    int32_t kv_pages;
    int32_t kv_used_pages;
    int32_t kv_cached_pages; /* held by nobody, content kept */
    int32_t kv_peak_pages;   /* the most pages in use at one time since start */
    int32_t page_size;
    int64_t kv_used_slots;
    int64_t kv_wasted_slots;
    int64_t n_steps;
    int64_t n_planned_ahead; /* of these, by a plan made while the step before was computed */
    int64_t between_ns;      /* that the device waited for this thread, from a step's end to the
                                beginning of one that followed at once */
    int64_t n_requests;      /* accepted */
    int64_t n_finished[QR_FINISH_ERROR + 1]; /* by enum qr_finish_reason */
    int64_t n_rejected;                      /* the queue was full */
    int64_t n_prompt_tokens;
    int64_t n_output_tokens;
    int64_t n_swapped; /* preemptions, by kind */
    int64_t n_recomputed;
    int64_t n_parked;
    int64_t n_recomputed_tokens; /* computed again after they had been before */
    int64_t n_copies;            /* pages, copy-on-write */
    int64_t n_merged;            /* pages given back because another held the same */
    int64_t n_evicted;           /* cached pages whose room was taken */
    int64_t n_lost;              /* of these, how many had no other copy */
    int64_t n_hit_tokens;        /* found in the cache, of those looked for */
    int64_t n_lookup_tokens;
    struct qr_tier_stats tiers[QR_TIER_COUNT];
    double tokens_per_second; /* output, of the last busy second */
};

QR_BEGIN_DECLS

void qr_engine_config_default(struct qr_engine_config *config);
/* Loads everything and starts the thread. On QR_OK the caller owns *out. */
QR_MUST_CHECK enum qr_status qr_engine_create(const struct qr_engine_config *config,
                                              struct qr_engine **out, struct qr_error *err);
/* Ends what still runs (QR_FINISH_SHUTDOWN), joins the thread, frees. Accepts NULL. */
void qr_engine_destroy(struct qr_engine *engine);

/*
 * Any thread. On QR_OK the engine owns `request` and the caller one reference to
 * *out. QR_ERR_INVALID: *field names the field (see qr_request_check).
 * QR_ERR_QUEUE_FULL: retry after *retry_after_ns. QR_ERR_UNSUPPORTED: it needs more
 * pages than its tenant may hold, and always will. QR_ERR_CLOSED: draining. On any
 * error the request still belongs to the caller. `group` must outlive the stream's
 * last wake-up.
 */
QR_MUST_CHECK enum qr_status qr_engine_submit(struct qr_engine *engine, struct qr_request *request,
                                              struct qr_wake_group *group, void *owner,
                                              struct qr_stream **out, const char **field,
                                              int64_t *retry_after_ns, struct qr_error *err);

/* From now on submit answers QR_ERR_CLOSED; what was accepted runs to its end. Any thread. */
void qr_engine_drain(struct qr_engine *engine);
/* True when nothing runs or waits. Any thread. */
bool qr_engine_is_idle(struct qr_engine *engine);
/* The figures as of the last step. Any thread. */
void qr_engine_get_stats(struct qr_engine *engine, struct qr_engine_stats *stats);

/* Immutable after create; any thread. */
const struct qr_tokenizer *qr_engine_tokenizer(const struct qr_engine *engine);
const struct qr_model_config *qr_engine_model_config(const struct qr_engine *engine);
const char *qr_engine_model_name(const struct qr_engine *engine); /* last part of the path */
int32_t qr_engine_max_seq_tokens(const struct qr_engine *engine);
int64_t qr_engine_n_parameters(const struct qr_engine *engine);
int64_t qr_engine_weight_bytes(const struct qr_engine *engine);
int64_t qr_engine_kv_bytes_per_token(const struct qr_engine *engine);
const char *qr_engine_backend(const struct qr_engine *engine); /* "cpu/avx2" */

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_ENGINE_H */
