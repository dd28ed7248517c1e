/* scheduler_model.c - see scheduler_model.h. */
#include "tests/support/scheduler_model.h"

static int32_t pages_for(const struct scheduler_model *model, int32_t n_tokens)
{
    return (n_tokens + model->page_size - 1) / model->page_size;
}

static int32_t count_running(const struct scheduler_model *model)
{
    int32_t n = 0;
    for (int i = 0; i < MODEL_MAX_SLOTS; i++)
        n += model->seqs[i].in_use && model->seqs[i].running;
    return n;
}

bool model_can_run(const struct model_seq *seq)
{
    return seq->in_use && !seq->paused && seq->n_computed < seq->n_known;
}

int32_t model_n_pages(const struct scheduler_model *model, const struct model_seq *seq)
{
    return seq->in_use && seq->running ? pages_for(model, seq->n_reserved) : 0;
}

int32_t model_free_pages(const struct scheduler_model *model)
{
    int32_t n_free = model->page_count;
    for (int i = 0; i < MODEL_MAX_SLOTS; i++)
        n_free -= model_n_pages(model, &model->seqs[i]);
    return n_free;
}

/* The running sequence that was admitted next after `age`, -1: none. */
static qr_seq_id next_running(const struct scheduler_model *model, int64_t age)
{
    qr_seq_id best = -1;
    for (int i = 0; i < MODEL_MAX_SLOTS; i++) {
        const struct model_seq *seq = &model->seqs[i];
        if (seq->in_use && seq->running && seq->age > age &&
            (best < 0 || seq->age < model->seqs[best].age))
            best = i;
    }
    return best;
}

/* The running sequence that was admitted last, leaving out `except`; -1: none. */
static qr_seq_id last_running(const struct scheduler_model *model, qr_seq_id except)
{
    qr_seq_id best = -1;
    for (int i = 0; i < MODEL_MAX_SLOTS; i++) {
        const struct model_seq *seq = &model->seqs[i];
        if (seq->in_use && seq->running && i != except &&
            (best < 0 || seq->age > model->seqs[best].age))
            best = i;
    }
    return best;
}

qr_seq_id model_oldest(const struct scheduler_model *model, bool that_can_run)
{
    qr_seq_id id = next_running(model, -1);
    while (that_can_run && id >= 0 && !model_can_run(&model->seqs[id]))
        id = next_running(model, model->seqs[id].age);
    return id;
}

/* Preempted ones in the order of their admission come before all new arrivals. */
static bool waits_before(const struct model_seq *a, const struct model_seq *b)
{
    if (a->age >= 0 && b->age >= 0)
        return a->age < b->age;
    if (a->age >= 0 || b->age >= 0)
        return a->age >= 0;
    return a->arrival < b->arrival;
}

qr_seq_id model_queue_head(const struct scheduler_model *model)
{
    qr_seq_id best = -1;
    for (int i = 0; i < MODEL_MAX_SLOTS; i++) {
        const struct model_seq *seq = &model->seqs[i];
        if (seq->in_use && !seq->running && !seq->paused &&
            (best < 0 || waits_before(seq, &model->seqs[best])))
            best = i;
    }
    return best;
}

enum qr_status model_add_status(const struct scheduler_model *model, int32_t n_prompt_tokens)
{
    int32_t n_used = 0;
    int32_t n_new = 0;

    for (int i = 0; i < MODEL_MAX_SLOTS; i++) {
        n_used += model->seqs[i].in_use;
        n_new += model->seqs[i].in_use && model->seqs[i].age < 0;
    }
    if (n_prompt_tokens < 1 || n_prompt_tokens > model->max_seq_tokens)
        return QR_ERR_INVALID;
    bool full = n_new >= model->config.max_waiting ||
                n_used >= model->config.max_running + model->config.max_waiting;
    return full ? QR_ERR_QUEUE_FULL : QR_OK;
}

void model_add(struct scheduler_model *model, qr_seq_id id, int32_t n_prompt_tokens,
               bool all_logits)
{
    model->seqs[id] = (struct model_seq){.in_use = true,
                                         .all_logits = all_logits,
                                         .arrival = model->n_added++,
                                         .age = -1,
                                         .n_prompt = n_prompt_tokens,
                                         .n_known = n_prompt_tokens};
}

void model_remove(struct scheduler_model *model, qr_seq_id id)
{
    model->seqs[id] = (struct model_seq){0};
}

void model_complete(struct scheduler_model *model)
{
    for (int i = 0; i < MODEL_MAX_SLOTS; i++) {
        model->seqs[i].n_computed += model->seqs[i].n_planned;
        model->seqs[i].n_planned = 0;
    }
}

/* How many rows may run now: one more as long as it breaks no bound. */
static int32_t allowed_rows(const struct scheduler_model *model, const struct model_seq *seq)
{
    int32_t n_rows = 0;
    int32_t n_logits = model->n_logit_rows;

    for (int32_t position = seq->n_computed; position < seq->n_known; position++) {
        n_logits += position == seq->n_known - 1 || (seq->all_logits && position < seq->n_prompt);
        if (model->plan.n_rows + n_rows + 1 > model->config.max_batch_tokens ||
            (model->config.max_prefill_chunk > 0 && n_rows == model->config.max_prefill_chunk) ||
            n_logits > model->config.max_logit_rows)
            break;
        n_rows++;
    }
    return n_rows;
}

static void emit(struct scheduler_model *model, qr_seq_id id, int32_t n_rows)
{
    struct model_seq *seq = &model->seqs[id];

    for (int32_t position = seq->n_computed; position < seq->n_computed + n_rows; position++)
        model->n_logit_rows +=
            position == seq->n_known - 1 || (seq->all_logits && position < seq->n_prompt);
    model->entries[model->plan.n_entries++] =
        (struct qr_plan_entry){.seq = id,
                               .first_position = seq->n_computed,
                               .n_tokens = n_rows,
                               .samples = seq->n_computed + n_rows == seq->n_known};
    model->plan.n_rows += n_rows;
    seq->n_planned = n_rows;
}

static void evict(struct scheduler_model *model, qr_seq_id id)
{
    struct model_seq *seq = &model->seqs[id];

    model->n_preemptions++;
    model->n_paused_preemptions += seq->paused;
    model->n_recomputed_tokens += seq->n_computed;
    seq->running = false;
    seq->n_computed = 0;
    model->preempted[model->plan.n_preempted++] = id;
}

static void expect_decodes(struct scheduler_model *model)
{
    for (qr_seq_id id = next_running(model, -1); id >= 0;
         id = next_running(model, model->seqs[id].age)) {
        struct model_seq *seq = &model->seqs[id];
        if (!model_can_run(seq) || seq->n_known - seq->n_computed != 1)
            continue;
        while (seq->running && pages_for(model, seq->n_known) - model_n_pages(model, seq) >
                                   model_free_pages(model)) {
            bool is_oldest = model_oldest(model, true) == id;
            qr_seq_id victim = last_running(model, is_oldest ? id : -1);
            model->n_self_preemptions += victim == id;
            evict(model, victim);
        }
        if (!seq->running)
            continue;
        if (seq->n_known > seq->n_reserved)
            seq->n_reserved = seq->n_known;
        emit(model, id, 1);
    }
}

static void expect_prefills(struct scheduler_model *model)
{
    for (qr_seq_id id = next_running(model, -1); id >= 0;
         id = next_running(model, model->seqs[id].age)) {
        struct model_seq *seq = &model->seqs[id];
        if (model_can_run(seq) && seq->n_planned == 0 && allowed_rows(model, seq) > 0)
            emit(model, id, allowed_rows(model, seq));
    }
}

static bool expect_admission(struct scheduler_model *model)
{
    qr_seq_id id = model_queue_head(model);
    if (id < 0)
        return false;

    struct model_seq *seq = &model->seqs[id];
    int32_t n_tokens = seq->n_known + 1;
    if (n_tokens > model->max_seq_tokens)
        n_tokens = model->max_seq_tokens;
    if (count_running(model) >= model->config.max_running || allowed_rows(model, seq) == 0 ||
        pages_for(model, n_tokens) > model_free_pages(model))
        return false;
    seq->running = true;
    seq->n_reserved = n_tokens;
    if (seq->age < 0)
        seq->age = model->n_admitted++;
    model->admitted[model->plan.n_admitted++] = id;
    emit(model, id, allowed_rows(model, seq));
    return true;
}

void model_plan(struct scheduler_model *model)
{
    model->plan = (struct qr_plan){
        .entries = model->entries, .preempted = model->preempted, .admitted = model->admitted};
    model->n_logit_rows = 0;
    for (int i = 0; i < MODEL_MAX_SLOTS; i++)
        model->seqs[i].n_planned = 0;

    expect_decodes(model);
    expect_prefills(model);
    while (expect_admission(model))
        continue;
    while (model->plan.n_entries == 0 && model_queue_head(model) >= 0) {
        evict(model, last_running(model, -1));
        while (expect_admission(model))
            continue;
    }
}
