/*
 * scheduler_model.h - the rules of docs/scheduling.md, written a second time without
 * regard to speed: the oracle of the randomised test.
 *
 * It shares no code and no data with the scheduler. Orders are found by searching for
 * the smallest number, budgets by counting rows one at a time, pages by arithmetic.
 */
#ifndef QUIRE_TESTS_SUPPORT_SCHEDULER_MODEL_H
#define QUIRE_TESTS_SUPPORT_SCHEDULER_MODEL_H

#include "scheduler/scheduler.h"

enum { MODEL_MAX_SLOTS = 64 };

struct model_seq {
    bool in_use;
    bool paused;
    bool running;
    bool all_logits;
    int64_t arrival; /* counts additions */
    int64_t age;     /* counts first admissions; -1 before */
    int32_t n_prompt;
    int32_t n_known;
    int32_t n_computed;
    int32_t n_reserved; /* tokens that the pages were taken for */
    int32_t n_planned;
};

struct scheduler_model {
    struct qr_scheduler_config config;
    int32_t page_count;
    int32_t page_size;
    int32_t max_seq_tokens;
    int64_t n_added;
    int64_t n_admitted;
    int64_t n_preemptions;
    int64_t n_recomputed_tokens;
    int64_t n_self_preemptions;
    int64_t n_paused_preemptions;
    struct model_seq seqs[MODEL_MAX_SLOTS];

    /* What model_plan expects. */
    struct qr_plan_entry entries[MODEL_MAX_SLOTS];
    qr_seq_id preempted[MODEL_MAX_SLOTS];
    qr_seq_id admitted[MODEL_MAX_SLOTS];
    struct qr_plan plan; /* points to the three arrays */
    int32_t n_logit_rows;
};

QR_BEGIN_DECLS

/* What qr_scheduler_add is expected to return. */
enum qr_status model_add_status(const struct scheduler_model *model, int32_t n_prompt_tokens);
/* The scheduler put the sequence into slot `id`. */
void model_add(struct scheduler_model *model, qr_seq_id id, int32_t n_prompt_tokens,
               bool all_logits);
void model_remove(struct scheduler_model *model, qr_seq_id id);
void model_plan(struct scheduler_model *model);
void model_complete(struct scheduler_model *model);

/* Not paused, and with tokens to compute. */
bool model_can_run(const struct model_seq *seq);
int32_t model_n_pages(const struct scheduler_model *model, const struct model_seq *seq);
int32_t model_free_pages(const struct scheduler_model *model);
/* The oldest running sequence that can run, or the oldest of all running; -1: none. */
qr_seq_id model_oldest(const struct scheduler_model *model, bool that_can_run);
/* The sequence to be admitted next, -1: none. */
qr_seq_id model_queue_head(const struct scheduler_model *model);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_SCHEDULER_MODEL_H */
