/*
 * scheduler.h - which sequences run in the next step, and which token ranges; who gives
 * way when KV memory runs out, and how.
 *
 * Pure: its inputs are the calls below and the clock values and figures they carry; its
 * output is a plan. It needs no model, so tests, simulations and replays run the shipped
 * code. Engine thread only. Nothing allocates after create.
 *
 * Continuous batching at the granularity of one step (Orca, Yu et al., OSDI 2022) with
 * chunked prefill (Sarathi-Serve, Agrawal et al., OSDI 2024). Sequences stand in one
 * order, their rank, fixed when they arrive: arrival in the virtual time of their
 * tenant's fair share (start-time fair queueing, Goyal et al., SIGCOMM 1996), shifted by
 * priority. Memory is taken from those of higher rank only, and the first that can run
 * gives way to nobody: that is why each makes progress. Who of the others gives way, and
 * whether by swap or by recomputation, is what costs least for the room it frees. The
 * rules in full: docs/scheduling.md.
 *
 * One step: plan, carry out its copies, start its transfers, compute the rows, complete,
 * append_token (or remove) for every entry that samples. All other calls are allowed at
 * any time between. With launch, when the rows have begun to be computed, the next plan can be
 * made before complete.
 */
#ifndef QUIRE_SCHEDULER_SCHEDULER_H
#define QUIRE_SCHEDULER_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "blockmgr/block_manager.h"

struct qr_scheduler;
struct qr_recorder; /* recorder.h */

/* A slot in [0, n_slots); reused after qr_scheduler_remove. */
typedef int32_t qr_seq_id;

#define QR_SEQ_NONE ((qr_seq_id)-1)

enum {
    QR_MAX_PRIORITY = 10,
    QR_MAX_TENANTS = 256,
    QR_PRIORITY_TOKENS =
        16384, /* tokens of its tenant's service that one step of priority is worth */
};

/* What is done when KV memory runs out. The first is Quire's; the others are there to be compared.
 */
enum qr_discipline {
    QR_DISCIPLINE_COST,      /* the cheapest victim, swapped or recomputed as costs less */
    QR_DISCIPLINE_SWAP,      /* as before, always swapped while a tier has room */
    QR_DISCIPLINE_RECOMPUTE, /* the last admitted gives way and is recomputed (vLLM V1) */
    QR_DISCIPLINE_RESERVE,   /* the longest possible output is reserved at admission (TGI) */
};

#define QR_MIN_WEIGHT 1e-6 /* of a tenant's share */
#define QR_MAX_WEIGHT 1e6

struct qr_scheduler_config {
    int32_t max_batch_tokens;  /* rows of one step, at least max_running */
    int32_t max_running;       /* sequences that hold pages at one time, at least 1 */
    int32_t max_waiting;       /* bound of the queue: sequences not yet admitted, at least 1 */
    int32_t max_parked;        /* sequences paused by slow readers beyond max_running, at least 0 */
    int32_t max_logit_rows;    /* rows of one step whose logits are wanted, >= max_running */
    int32_t max_prefill_chunk; /* rows of one sequence in one step; 0: what the batch allows */
    int32_t max_stall_ms; /* that decodes wait for the prompt rows of their step; 0: no bound */
    enum qr_discipline discipline;
};

struct qr_seq_params {
    const int32_t *tokens;   /* [max_tokens]: the prompt, later the output; borrowed until
                                remove. A token stands in it before append_token says so. */
    int32_t n_prompt_tokens; /* in [1, max_seq_tokens] */
    int32_t max_tokens;      /* prompt and output at most, in [n_prompt_tokens, max_seq_tokens] */
    int32_t width;           /* sequences that this one may become by forks, itself included;
                                in [1, max_running]; their slots are set aside */
    bool all_logits;         /* logits of every prompt row are wanted (scoring) */
    int32_t priority;        /* in [-QR_MAX_PRIORITY, QR_MAX_PRIORITY]; higher is sooner */
    int32_t tenant;          /* in [0, QR_MAX_TENANTS) */
    int64_t arrival_ns;      /* of the clock that qr_scheduler_plan is given */
    int64_t first_token_ns;  /* wanted time from arrival to the first token; 0: none */
    const char *salt;    /* [n_salt_bytes] copied; sequences with different salts share nothing */
    size_t n_salt_bytes; /* at most QR_MAX_SALT_BYTES */
};

enum qr_seq_state {
    QR_SEQ_WAITING, /* new, preempted or parked: holds no pages */
    QR_SEQ_LOADING, /* holds pages; some of its KV is on the way from a lower tier */
    QR_SEQ_RUNNING, /* holds pages */
};

/* Rows [first_position, first_position + n_tokens) of one sequence run in this step. */
struct qr_plan_entry {
    qr_seq_id seq;
    int32_t first_position;
    int32_t n_tokens;
    bool samples; /* the last row is the newest known token: its logits give the next one */
};

struct qr_preemption {
    qr_seq_id seq;
    enum qr_release how; /* RESUMES or FINISHED: to be recomputed; SWAPPED; PARKED */
    qr_seq_id for_seq;   /* who needed the room; QR_SEQ_NONE: nobody by itself */
    int32_t n_pages;     /* that it alone held */
    double swap_ns;      /* what either way was expected to cost; INFINITY: no tier has room */
    double recompute_ns;
};

/*
 * Arrays belong to the scheduler and are valid until the next qr_scheduler_plan, entries of a plan
 * that was launched or completed until the next launch or complete of another. A plan without
 * entries may have transfers.
 * Entries: decodes in the order of rank, one row each; then prefill chunks of running
 * sequences; then the sequences admitted in this plan. A sequence has one entry at most.
 * After a preemption the prompt rows of an all_logits sequence are computed, and their
 * logits wanted, anew.
 */
struct qr_plan {
    int32_t n_entries;
    int32_t n_rows; /* sum of n_tokens */
    const struct qr_plan_entry *entries;
    int32_t n_preempted;
    const struct qr_preemption *preempted; /* lost their pages in this plan */
    int32_t n_admitted;
    const qr_seq_id *admitted; /* left the queue in this plan, to run or to load */
    int32_t n_copies;
    const struct qr_page_copy *copies; /* in this order, before the rows are computed */
    int32_t n_transfers;
    const struct qr_transfer *transfers; /* to start now, after the copies */
};

struct qr_scheduler_stats {
    int32_t n_running; /* loading ones included */
    int32_t n_loading;
    int32_t n_waiting; /* new, preempted and parked */
    int32_t n_paused;
    int64_t head_wait_ns; /* age of the first new arrival in the queue at the last plan */
    int64_t n_swapped;    /* preemptions since create, by kind */
    int64_t n_recomputed;
    int64_t n_parked;
    int64_t n_load_failures;     /* of sequences: what was to be loaded is recomputed */
    int64_t n_computed_rows;     /* since create */
    int64_t n_recomputed_tokens; /* rows computed that had been computed before */
};

struct qr_seq_info {
    enum qr_seq_state state;
    int32_t n_computed;             /* leading tokens */
    int32_t n_under_way;            /* that follow these: launched and not completed */
    bool token_ahead;               /* launch counted its next token: append_token is still due */
    int32_t n_cached_prompt_tokens; /* prompt tokens found in the cache at first admission */
    int32_t n_swapped;              /* preemptions of this sequence, by kind */
    int32_t n_recomputed;
    int32_t n_parked;
};

QR_BEGIN_DECLS

/* Slots: max_running + max_waiting + max_parked. */
int32_t qr_scheduler_n_slots(const struct qr_scheduler_config *config);
/* Rows of one sequence in one step, at most: what qr_block_manager_config.max_rows has to be. */
int32_t qr_scheduler_max_rows(const struct qr_scheduler_config *config);

/*
 * `blocks` is borrowed and must outlive the scheduler, which alone changes it.
 * QR_ERR_INVALID: a field is out of range, `blocks` has fewer than n_slots slots or max_rows, or
 * its pool has fewer pages than one sequence of max_seq_tokens holds at one time.
 */
QR_MUST_CHECK enum qr_status qr_scheduler_create(const struct qr_scheduler_config *config,
                                                 struct qr_block_manager *blocks,
                                                 struct qr_scheduler **out);
void qr_scheduler_destroy(struct qr_scheduler *sched); /* accepts NULL */

/*
 * Every call from now on goes into the recording; NULL: into none. Borrowed. Before the
 * first other call, so that the recording can be replayed.
 */
void qr_scheduler_set_recorder(struct qr_scheduler *sched, struct qr_recorder *recorder);

/*
 * From now on; by default every tenant has weight 1 and no bound.
 * weight in [QR_MIN_WEIGHT, QR_MAX_WEIGHT]; max_pages 0: none.
 */
void qr_scheduler_set_tenant(struct qr_scheduler *sched, int32_t tenant, double weight,
                             int32_t max_pages);
/* What moving and computing costs, as measured lately; see qr_block_costs. */
void qr_scheduler_set_costs(struct qr_scheduler *sched, const struct qr_block_costs *costs);

/*
 * QR_ERR_QUEUE_FULL when max_waiting sequences wait already (a width counts as so many),
 * or when all slots are taken, which needs parked sequences. QR_ERR_INVALID when a
 * parameter is out of its range. QR_ERR_UNSUPPORTED when it could never run: more pages
 * than its tenant may hold. On error *out is QR_SEQ_NONE.
 */
QR_MUST_CHECK enum qr_status qr_scheduler_add(struct qr_scheduler *sched,
                                              const struct qr_seq_params *params, qr_seq_id *out);
/*
 * Another sequence with the same known tokens, all of whose computed KV it shares. After
 * complete, with none of its rows launched, when `parent` is computed to its last known token and
 * before that one's append_token. tokens: as in qr_seq_params, beginning with the parent's. Takes
 * one of the slots that the first sequence's width set aside.
 */
qr_seq_id qr_scheduler_fork(struct qr_scheduler *sched, qr_seq_id parent, const int32_t *tokens);
/*
 * Finished, cancelled or expired, in any state: its slot is free, its computed KV stays
 * cached as long as nobody needs the room. Between plan and complete too: nobody is given
 * those pages before the next plan, so rows already under way may still write to them.
 */
void qr_scheduler_remove(struct qr_scheduler *sched, qr_seq_id seq);
/*
 * The sequence will not be forked any more: the slots still set aside by its width are
 * free. On any member of the group.
 */
void qr_scheduler_end_forks(struct qr_scheduler *sched, qr_seq_id seq);
/*
 * A paused sequence (its reader is slow) is parked at the next plan: it holds no pages,
 * those it had are the first to go, and it is not admitted until it is resumed.
 */
void qr_scheduler_set_paused(struct qr_scheduler *sched, qr_seq_id seq, bool paused);

/*
 * May preempt, admit, load and swap. n_entries is 0 when nothing can run: all wait for
 * append_token, for a resume, or for a transfer. A plan that is never completed may be
 * dropped, if its copies and transfers were carried out; its rows are planned again.
 */
void qr_scheduler_plan(struct qr_scheduler *sched, int64_t now_ns, struct qr_plan *plan);
/*
 * The rows of a plan with entries have begun to be computed. From now on a plan is made as if they
 * had been, and as if each sequence whose entry samples had its next token: a sequence that this
 * may end, or that may still be forked, waits instead. So one more plan can be made before
 * complete. Its copies are carried out, its transfers started and its rows computed when those of
 * this one have been: it may give away pages that are still written to. Before it is launched or
 * completed in turn, each sequence with rows in it has its append_token, or is removed.
 * Not with a window: a sequence would hold what two steps see, and was promised what one does.
 */
void qr_scheduler_launch(struct qr_scheduler *sched, const struct qr_plan *plan);
/*
 * The planned rows were computed: their KV is in the pages. Once after each non-empty plan; after
 * launch, of the one that was launched.
 */
void qr_scheduler_complete(struct qr_scheduler *sched, const struct qr_plan *plan);
/* Instead of complete: launched rows failed, and every sequence that has some of them was removed.
 */
void qr_scheduler_abandon(struct qr_scheduler *sched, const struct qr_plan *plan);
/*
 * A token was sampled for a sequence whose entry had `samples`: one known token more,
 * which stands in its `tokens`. For fewer than max_tokens known tokens. At any time after
 * complete; the sequence waits for it, unless launch counted it already, and may be preempted
 * meanwhile.
 */
void qr_scheduler_append_token(struct qr_scheduler *sched, qr_seq_id seq);
/* A transfer of a plan ended; see qr_block_manager_transfer_done. */
void qr_scheduler_transfer_done(struct qr_scheduler *sched, int32_t id, bool ok);
/* Nothing is moved to this tier any more. */
void qr_scheduler_close_tier(struct qr_scheduler *sched, enum qr_tier tier);

/* True while a transfer is under way or waits to be started. */
bool qr_scheduler_transfers_pending(const struct qr_scheduler *sched);
void qr_scheduler_get_info(const struct qr_scheduler *sched, qr_seq_id seq,
                           struct qr_seq_info *info);
void qr_scheduler_get_stats(const struct qr_scheduler *sched, struct qr_scheduler_stats *stats);

QR_END_DECLS

#endif /* QUIRE_SCHEDULER_SCHEDULER_H */
