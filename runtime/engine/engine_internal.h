/* engine_internal.h - the engine's state, shared by the files of this folder and nobody else. */
#ifndef QUIRE_RUNTIME_ENGINE_ENGINE_INTERNAL_H
#define QUIRE_RUNTIME_ENGINE_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "blockmgr/block_manager.h"
#include "runtime/engine/costs.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/engine_hooks.h"
#include "runtime/engine/group.h"
#include "runtime/engine/record_file.h"
#include "runtime/engine/tenants.h"
#include "runtime/models/model.h"
#include "runtime/ops/batch_arrays.h"
#include "runtime/ops/ops.h"
#include "runtime/sampling/sampler.h"
#include "runtime/swap/swapper.h"
#include "scheduler/recorder.h"
#include "scheduler/scheduler.h"

/* What arrives from other threads, guarded by the bell's mutex. */
struct qr_inbox {
    struct qr_bell bell;
    struct qr_group *head;
    struct qr_group *tail;
    int32_t n_queued;      /* sequences accepted and not yet planned for the first time */
    int64_t queued_tokens; /* that these will take, as far as can be told */
    int32_t n_places;      /* sequences accepted and not yet finished */
    bool draining;
    bool stopping;
};

/* Pages on their way between the device and the lower tiers (swap.c). */
struct qr_engine_swap {
    struct qr_swapper *swapper;         /* NULL: there are no lower tiers */
    struct qr_transfer_result *results; /* [max_transfers] */
    int32_t max_transfers;
    int32_t tier_slots[QR_TIER_COUNT];
    bool closed[QR_TIER_COUNT];
};

/* What is being computed, or was last. */
struct qr_engine_step {
    struct qr_plan plan;
    struct qr_plan_entry *entries; /* [n_slots] of its entries those whose sequences are there */
    int32_t n_entries;
    int32_t n_rows;
    int32_t n_edits;       /* of logits, in the arrays */
    int32_t n_draws;       /* in the arrays; of these */
    int32_t n_first_draws; /* where several sequences draw from one row */
    int64_t end_ns;        /* when it was computed; 0: there was nothing to run since */
};

/* The plan that was made while the last step was computed (step_plan.c). */
struct qr_engine_ahead {
    struct qr_plan plan;
    bool is_made;  /* and neither carried out nor dropped */
    bool is_stale; /* something has happened since that the next step should know */
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
    struct qr_record_file *record_file; /* NULL: nothing is recorded */
    struct qr_recorder *recorder;       /* NULL: nothing is recorded */
    struct qr_sampler *sampler;
    struct qr_model_config
        model_config; /* the model's, end-of-text ids of the tokenizer included */
    struct qr_kv_geometry kv;
    size_t page_bytes;
    void *kv_pool; /* [page_count][page], see attention.h; device memory */
    int32_t max_seq_tokens;
    int32_t max_logit_rows;
    int32_t max_edits; /* of logits, in one step */
    struct qr_tenants tenants;
    struct qr_engine_swap swap;
    struct qr_step_costs costs;

    struct qr_engine_step step;
    struct qr_engine_ahead ahead;
    struct qr_batch_arrays arrays;  /* of a step */
    struct qr_generation **by_slot; /* [n_slots] the scheduler's slots */
    int32_t n_slots;
    struct qr_group *
        *live; /* [n_slots] the scheduler knows them or they are being said; unordered */
    int32_t n_live;
    struct qr_group *failed;      /* list: they end when the step is over */
    struct qr_group *pending;     /* list: taken from the inbox, the scheduler has no slot yet */
    struct qr_wake_group **woken; /* [n_slots] groups with news in this step */
    int32_t n_woken;

    struct qr_inbox inbox;
    struct qr_engine_hook hook; /* guarded by the bell's mutex until the first request */
    pthread_t thread;
    bool thread_started;

    pthread_mutex_t stats_mutex;
    struct qr_engine_stats stats;    /* published once a step, under stats_mutex */
    struct qr_engine_stats counters; /* the engine thread's own */
    int64_t window_start_ns;         /* of tokens_per_second */
    int64_t window_tokens;
    atomic_int n_unfinished; /* requests accepted and not yet finished */
    atomic_llong n_rejected;
    atomic_llong rows_per_second;    /* moving average of busy steps, for retry_after */
    atomic_llong mean_output_tokens; /* moving average of finished outputs */
};

QR_BEGIN_DECLS

void *qr_engine_main(void *engine);
/* Posts whatever woke since the last time, and shows the figures to other threads. */
void qr_engine_tell(struct qr_engine *engine);
void qr_engine_publish_stats(struct qr_engine *engine);

/* step.c: plan, move pages, forward, sample, hand out. False when nothing could run. */
bool qr_engine_step(struct qr_engine *engine);

/* step_plan.c */

/* The plan of the next step, whose entries are in engine->step; its pages move from now on. */
void qr_engine_take_plan(struct qr_engine *engine);
/* While the step is computed: makes the next one's plan, if that can be told yet. */
void qr_engine_plan_ahead(struct qr_engine *engine);

/* outputs.c: from a row of logits to outputs, and how requests end. Engine thread. */

/* Of sequences that draw their first tokens from one row, in one step. */
static inline int32_t qr_engine_max_first_draws(const struct qr_engine *engine)
{
    return engine->max_logit_rows;
}
/* What the sampling of the next token of `seq` needs of its row of logits; edits and draws are
 * added to the step's. */
struct qr_logit_wish qr_engine_logit_wish(struct qr_engine *engine,
                                          const struct qr_generation *seq);
/* What the sampler is given of a row that came whole, and of one that was selected from. */
struct qr_sampler_input qr_engine_sampler_input(const struct qr_generation *seq,
                                                const struct qr_logit_row *row);
struct qr_sampler_selections qr_engine_selections(const struct qr_logit_row *row);
/* What the logits of its newest token mean for `seq`. It may be gone afterwards. */
void qr_engine_take_row(struct qr_engine *engine, struct qr_generation *seq,
                        const struct qr_logit_row *row);
/* A second sequence with the tokens and pages of `parent`, before that one's append_token. */
void qr_engine_fork(struct qr_engine *engine, struct qr_generation *parent,
                    struct qr_generation *child);
/* The scheduler forgets the sequence; its pages are free for others. */
void qr_engine_close_sequence(struct qr_engine *engine, struct qr_generation *seq);
/* All sequences of a withheld group have ended, group->chosen are its outputs. */
void qr_engine_begin_outputs(struct qr_engine *engine, struct qr_group *group);
/* Says what the stream of a delivering group has room for; at the end, the group is gone. */
void qr_engine_deliver(struct qr_engine *engine, struct qr_group *group);
/* The group ends, with what it has, when this step is over. */
void qr_engine_fail_group(struct qr_engine *engine, struct qr_group *group,
                          const struct qr_error *err);
/* The model gave NaN, or nothing that may come. */
void qr_engine_fail_on_logits(struct qr_engine *engine, const struct qr_generation *seq);
void qr_engine_end_failed(struct qr_engine *engine);
/* Ends what is not finished of a group: pages back, last words out, memory freed. */
void qr_engine_end_group(struct qr_engine *engine, struct qr_group *group,
                         const struct qr_finish *finish);
/* All its sequences are paused, or go on. */
void qr_engine_pause_group(struct qr_engine *engine, struct qr_group *group, bool paused);
/* The group no longer counts against max_queue; harmless when it did not. */
void qr_engine_leave_queue(struct qr_engine *engine, struct qr_group *group);
/* Remembers that the consumer of `group` has news. */
void qr_engine_note_wake(struct qr_engine *engine, const struct qr_group *group);

/* beam.c: the row of logits of one beam has come; when all have, they go on. */
void qr_beam_take_row(struct qr_engine *engine, struct qr_generation *seq,
                      const struct qr_logit_row *row);

/* swap.c */
QR_MUST_CHECK enum qr_status qr_engine_swap_size(struct qr_engine *engine, struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_engine_swap_open(struct qr_engine *engine, struct qr_error *err);
void qr_engine_swap_close(struct qr_engine *engine);
/* Tells the scheduler which transfers have ended, and of a tier that failed. */
void qr_engine_swap_poll(struct qr_engine *engine);
/* Begins what a plan wants moved and copied. */
void qr_engine_move_pages(struct qr_engine *engine, const struct qr_plan *plan);
void qr_engine_swap_publish(const struct qr_engine *engine, const struct qr_block_stats *blocks,
                            struct qr_tier_stats *tiers);
/* The figures so far, to the scheduler. */
void qr_engine_hand_over_costs(struct qr_engine *engine);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_ENGINE_INTERNAL_H */
