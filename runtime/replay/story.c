/* story.c - see story.h for the contract: what is seen of a request. story_text.c tells it. */
#include <string.h>

#include "base/alloc.h"
#include "base/array.h"
#include "runtime/replay/story_event.h"

enum { NO_EVENT = -1 };

/* One sequence of the request. Events are indices, for the array moves when it grows. */
struct qr_story_branch {
    bool lives;
    qr_seq_id seq;
    enum qr_seq_state state; /* after the last plan */
    int32_t run;             /* event of the prefill or decode that goes on */
    int32_t load;            /* event of the load that goes on */
    int32_t pages_out;       /* event of the pages that left since it was preempted */
    int32_t n_preempted;
    int32_t n_peak;  /* leading tokens that were computed at some time */
    int32_t *pages;  /* [max_blocks] its table before the plan; since a preemption, what it lost */
    int32_t n_pages; /* in `pages` */
};

/* A page of the request on its way. */
struct qr_story_transfer {
    int32_t id;
    int32_t event;  /* that counts it */
    int32_t number; /* which of the event's numbers */
    bool out;
};

enum qr_status qr_story_create(const struct qr_replay *replay, int32_t request,
                               struct qr_story **out)
{
    *out = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(**out));
    if (*out == NULL)
        return QR_ERR_NOMEM;
    (*out)->replay = replay;
    (*out)->request = request;
    return QR_OK;
}

void qr_story_destroy(struct qr_story *story)
{
    if (story == NULL)
        return;
    for (int32_t i = 0; i < story->n_branches; i++)
        qr_free(story->branches[i].pages);
    qr_free(story->transfers);
    qr_free(story->branches);
    qr_free(story->events);
    qr_free(story);
}

/* The moment of what happens between plans. */
static qr_moment now_moment(const struct qr_story *story)
{
    return qr_replay_plan_moment(story->replay) + 1;
}

static enum qr_status add_event(struct qr_story *story, enum qr_story_kind kind, int32_t branch,
                                qr_moment moment, int32_t *index)
{
    struct qr_story_event *events = qr_array_grow(QR_ARENA_ENGINE, story->events, story->n_events,
                                                  &story->events_capacity, sizeof(*events));

    if (events == NULL)
        return QR_ERR_NOMEM;
    story->events = events;
    *index = story->n_events++;
    events[*index] =
        (struct qr_story_event){.kind = kind, .branch = branch, .from = moment, .to = moment};
    return QR_OK;
}

static enum qr_status add_branch(struct qr_story *story, qr_seq_id seq)
{
    struct qr_story_branch *branches =
        qr_array_grow(QR_ARENA_ENGINE, story->branches, story->n_branches,
                      &story->branches_capacity, sizeof(*branches));
    size_t max_blocks = (size_t)qr_block_manager_max_blocks(qr_replay_blocks(story->replay));

    if (branches == NULL)
        return QR_ERR_NOMEM;
    story->branches = branches;
    int32_t *pages = qr_calloc(QR_ARENA_ENGINE, max_blocks, sizeof(*pages));
    if (pages == NULL)
        return QR_ERR_NOMEM;
    branches[story->n_branches++] = (struct qr_story_branch){.lives = true,
                                                             .seq = seq,
                                                             .state = QR_SEQ_WAITING,
                                                             .run = NO_EVENT,
                                                             .load = NO_EVENT,
                                                             .pages_out = NO_EVENT,
                                                             .pages = pages};
    return QR_OK;
}

/* Index of the branch that lives in this slot; -1: it is not of this request. */
static int32_t branch_of(const struct qr_story *story, qr_seq_id seq)
{
    for (int32_t i = 0; i < story->n_branches; i++)
        if (story->branches[i].lives && story->branches[i].seq == seq)
            return i;
    return -1;
}

static enum qr_status see_arrival(struct qr_story *story, const struct qr_record *record)
{
    struct qr_scheduler_stats sched;
    struct qr_block_stats blocks;
    struct qr_replay_stats stats;
    int32_t index;

    qr_replay_get_stats(story->replay, &stats);
    if (record->add.status != QR_OK || stats.n_requests != story->request)
        return QR_OK;
    qr_scheduler_get_stats(qr_replay_scheduler(story->replay), &sched);
    qr_block_manager_stats(qr_replay_blocks(story->replay), &blocks);
    QR_TRY(add_event(story, QR_STORY_ARRIVED, 0, QR_MOMENT_NONE, &index));
    struct qr_story_event *event = &story->events[index];
    event->numbers[0] = sched.n_waiting - 1; /* itself */
    event->numbers[1] = sched.n_running;
    event->numbers[2] = blocks.free_pages;
    event->numbers[3] = blocks.cached_pages;
    return add_branch(story, record->seq);
}

static enum qr_status see_fork(struct qr_story *story, const struct qr_record *record)
{
    int32_t parent = branch_of(story, record->parent);
    int32_t index;

    if (parent < 0)
        return QR_OK;
    QR_TRY(add_event(story, QR_STORY_FORKED, parent, now_moment(story), &index));
    story->events[index].numbers[0] = story->n_branches;
    story->branches[parent].run = NO_EVENT; /* what follows is told behind the fork */
    QR_TRY(add_branch(story, record->seq));
    struct qr_story_branch *child = &story->branches[story->n_branches - 1];
    struct qr_seq_info info;
    qr_scheduler_get_info(qr_replay_scheduler(story->replay), child->seq, &info);
    child->state = info.state;
    child->n_peak = story->branches[parent].n_peak;
    return QR_OK;
}

static enum qr_status see_end(struct qr_story *story, int32_t branch)
{
    struct qr_story_branch *ending = &story->branches[branch];
    const struct qr_replay_seq *seq = qr_replay_seq(story->replay, ending->seq);
    const struct qr_replay_request *request = qr_replay_request(story->replay, story->request);
    int32_t index;

    QR_TRY(add_event(story, QR_STORY_ENDED, branch, now_moment(story), &index));
    story->events[index].numbers[0] = seq->n_known;
    story->events[index].numbers[1] = seq->n_known - request->n_prompt_tokens;
    ending->lives = false;
    ending->pages_out = NO_EVENT;
    ending->n_pages = 0;
    return QR_OK;
}

static enum qr_status see_token(struct qr_story *story, int32_t branch)
{
    const struct qr_replay_request *request = qr_replay_request(story->replay, story->request);
    int32_t index;

    if (request->first_token != QR_MOMENT_NONE)
        return QR_OK;
    return add_event(story, QR_STORY_FIRST_TOKEN, branch, now_moment(story), &index);
}

/* Its block table as it is now. */
static void take_pages(struct qr_story *story, struct qr_story_branch *branch)
{
    const struct qr_block_manager *blocks = qr_replay_blocks(story->replay);
    const int32_t *table = qr_block_manager_block_table(blocks, branch->seq);
    int32_t first = qr_block_manager_first_block(blocks, branch->seq);

    branch->n_pages = qr_block_manager_held_pages(blocks, branch->seq);
    memcpy(branch->pages, table + first, (size_t)branch->n_pages * sizeof(*table));
}

static void take_tables(struct qr_story *story)
{
    for (int32_t i = 0; i < story->n_branches; i++) {
        struct qr_story_branch *branch = &story->branches[i];
        if (branch->lives && branch->state != QR_SEQ_WAITING)
            take_pages(story, branch);
    }
}

enum qr_status qr_story_before(struct qr_story *story, const struct qr_record *record)
{
    int32_t branch = branch_of(story, record->seq);
    int32_t index;

    if (record->kind == QR_RECORD_PLAN_BEGIN || record->kind == QR_RECORD_FORCED)
        take_tables(story);
    if (branch < 0 || !qr_replay_seq(story->replay, record->seq)->in_use)
        return QR_OK;
    switch (record->kind) {
    case QR_RECORD_REMOVE:
        return see_end(story, branch);
    case QR_RECORD_APPEND_TOKEN:
        return see_token(story, branch);
    case QR_RECORD_SET_PAUSED:
        return add_event(story, record->paused ? QR_STORY_PAUSED : QR_STORY_RESUMED, branch,
                         now_moment(story), &index);
    default:
        return QR_OK;
    }
}

/* What others hold is not the branch's any more, if it ever was its alone. */
static void forget_pages_of_others(struct qr_story *story, struct qr_story_branch *branch)
{
    const struct qr_block_manager *blocks = qr_replay_blocks(story->replay);
    int32_t n_slots = qr_block_manager_max_sequences(blocks);
    int32_t n = 0;

    for (int32_t i = 0; i < branch->n_pages; i++) {
        bool is_held = false;
        for (qr_seq_id seq = 0; seq < n_slots && !is_held; seq++) {
            const int32_t *table = qr_block_manager_block_table(blocks, seq);
            int32_t n_blocks = qr_block_manager_n_blocks(blocks, seq);
            for (int32_t b = 0; b < n_blocks && !is_held; b++)
                is_held = table[b] == branch->pages[i];
        }
        if (!is_held)
            branch->pages[n++] = branch->pages[i];
    }
    branch->n_pages = n;
}

static enum qr_status see_preemption(struct qr_story *story, int32_t branch,
                                     const struct qr_preemption *preemption, bool is_forced)
{
    struct qr_story_branch *victim = &story->branches[branch];
    qr_moment moment = is_forced ? now_moment(story) : qr_replay_plan_moment(story->replay);
    int32_t index;

    QR_TRY(add_event(story, QR_STORY_PREEMPTED, branch, moment, &index));
    struct qr_story_event *event = &story->events[index];
    event->numbers[0] = preemption->n_pages;
    event->numbers[1] = victim->n_pages;
    event->how = preemption->how;
    event->swap_ns = preemption->swap_ns;
    event->recompute_ns = preemption->recompute_ns;
    event->is_forced = is_forced;
    event->was_loading = victim->state == QR_SEQ_LOADING;
    if (preemption->for_seq != QR_SEQ_NONE && preemption->for_seq != preemption->seq)
        qr_replay_name(story->replay, preemption->for_seq, event->other);
    victim->n_preempted++;
    victim->state = QR_SEQ_WAITING;
    victim->run = victim->load = victim->pages_out = NO_EVENT;
    forget_pages_of_others(story, victim);
    return QR_OK;
}

static enum qr_status see_admission(struct qr_story *story, int32_t branch)
{
    struct qr_story_branch *admitted = &story->branches[branch];
    struct qr_seq_info info;
    int32_t index;

    qr_scheduler_get_info(qr_replay_scheduler(story->replay), admitted->seq, &info);
    QR_TRY(
        add_event(story, QR_STORY_ADMITTED, branch, qr_replay_plan_moment(story->replay), &index));
    story->events[index].numbers[0] = info.n_computed;
    story->events[index].numbers[1] = qr_replay_seq(story->replay, admitted->seq)->n_known;
    story->events[index].numbers[2] = admitted->n_preempted;
    admitted->run = admitted->pages_out = NO_EVENT;
    admitted->n_pages = 0;
    admitted->state = info.state;
    if (info.state == QR_SEQ_LOADING)
        return add_event(story, QR_STORY_LOADED, branch, qr_replay_plan_moment(story->replay),
                         &admitted->load);
    return QR_OK;
}

/* A prefill or a decode begins, or goes on. */
static enum qr_status see_rows(struct qr_story *story, int32_t branch,
                               const struct qr_plan_entry *entry)
{
    const struct qr_replay_request *request = qr_replay_request(story->replay, story->request);
    bool decodes = entry->n_tokens == 1 && entry->first_position >= request->n_prompt_tokens;
    enum qr_story_kind kind = decodes ? QR_STORY_DECODE : QR_STORY_PREFILL;
    struct qr_story_branch *running = &story->branches[branch];
    qr_moment moment = qr_replay_plan_moment(story->replay);
    int32_t end = entry->first_position + entry->n_tokens;

    if (running->run == NO_EVENT || story->events[running->run].kind != kind)
        QR_TRY(add_event(story, kind, branch, moment, &running->run));
    struct qr_story_event *event = &story->events[running->run];
    event->to = moment + 1;
    event->numbers[0] += entry->n_tokens;
    event->numbers[1]++;
    event->numbers[2] = end - 1;
    int32_t n_again = running->n_peak - entry->first_position;
    n_again = n_again < entry->n_tokens ? n_again : entry->n_tokens;
    event->numbers[3] += n_again > 0 ? n_again : 0;
    running->n_peak = end > running->n_peak ? end : running->n_peak;
    return QR_OK;
}

static enum qr_status follow(struct qr_story *story, int32_t id, int32_t event, int32_t number,
                             bool out)
{
    struct qr_story_transfer *transfers =
        qr_array_grow(QR_ARENA_ENGINE, story->transfers, story->n_transfers,
                      &story->transfers_capacity, sizeof(*transfers));

    if (transfers == NULL)
        return QR_ERR_NOMEM;
    story->transfers = transfers;
    transfers[story->n_transfers++] =
        (struct qr_story_transfer){.id = id, .event = event, .number = number, .out = out};
    return QR_OK;
}

static bool takes_page(struct qr_story_branch *branch, int32_t page)
{
    for (int32_t i = 0; i < branch->n_pages; i++) {
        if (branch->pages[i] != page)
            continue;
        branch->pages[i] = branch->pages[--branch->n_pages];
        return true;
    }
    return false;
}

/* A page that a preempted branch lost goes to a lower tier. */
static enum qr_status see_page_out(struct qr_story *story, int32_t branch,
                                   const struct qr_transfer *transfer)
{
    struct qr_story_branch *victim = &story->branches[branch];

    if (!victim->lives || victim->state != QR_SEQ_WAITING || !takes_page(victim, transfer->page))
        return QR_OK;
    if (victim->pages_out == NO_EVENT)
        QR_TRY(add_event(story, QR_STORY_PAGES_OUT, branch, qr_replay_plan_moment(story->replay),
                         &victim->pages_out));
    return follow(story, transfer->id, victim->pages_out, (int32_t)transfer->tier, true);
}

/* A page that a branch waits for comes back. */
static enum qr_status see_page_in(struct qr_story *story, int32_t branch,
                                  const struct qr_transfer *transfer)
{
    const struct qr_block_manager *blocks = qr_replay_blocks(story->replay);
    struct qr_story_branch *loading = &story->branches[branch];

    if (!loading->lives || loading->load == NO_EVENT)
        return QR_OK;
    const int32_t *table = qr_block_manager_block_table(blocks, loading->seq);
    int32_t n_blocks = qr_block_manager_n_blocks(blocks, loading->seq);
    for (int32_t b = 0; b < n_blocks; b++)
        if (table[b] == transfer->page)
            return follow(story, transfer->id, loading->load, (int32_t)transfer->tier, false);
    return QR_OK;
}

static enum qr_status see_transfers(struct qr_story *story, const struct qr_plan *plan)
{
    for (int32_t i = 0; i < plan->n_transfers; i++) {
        const struct qr_transfer *transfer = &plan->transfers[i];
        for (int32_t b = 0; b < story->n_branches; b++)
            QR_TRY(transfer->out ? see_page_out(story, b, transfer)
                                 : see_page_in(story, b, transfer));
    }
    return QR_OK;
}

/* Loads that are over, and what preempted branches have lost to others. */
static void see_states(struct qr_story *story)
{
    for (int32_t i = 0; i < story->n_branches; i++) {
        struct qr_story_branch *branch = &story->branches[i];
        struct qr_seq_info info;
        if (!branch->lives)
            continue;
        qr_scheduler_get_info(qr_replay_scheduler(story->replay), branch->seq, &info);
        if (branch->load != NO_EVENT && info.state == QR_SEQ_RUNNING) {
            story->events[branch->load].to = qr_replay_plan_moment(story->replay);
            story->events[branch->load].is_over = true;
            branch->load = NO_EVENT;
        }
        branch->state = info.state;
        if (info.state == QR_SEQ_WAITING && branch->n_pages > 0)
            forget_pages_of_others(story, branch);
    }
}

static enum qr_status see_preemptions_of(struct qr_story *story, int32_t branch)
{
    const struct qr_plan *plan = qr_replay_plan(story->replay);

    for (int32_t i = 0; i < plan->n_preempted; i++)
        if (plan->preempted[i].seq == story->branches[branch].seq)
            QR_TRY(see_preemption(story, branch, &plan->preempted[i], false));
    return QR_OK;
}

static enum qr_status see_admissions_of(struct qr_story *story, int32_t branch)
{
    const struct qr_plan *plan = qr_replay_plan(story->replay);

    for (int32_t i = 0; i < plan->n_admitted; i++)
        if (plan->admitted[i] == story->branches[branch].seq)
            QR_TRY(see_admission(story, branch));
    return QR_OK;
}

/* In and out again, or out and in again, by where it was before. */
static enum qr_status see_moves(struct qr_story *story)
{
    for (int32_t i = 0; i < story->n_branches; i++) {
        bool waited = story->branches[i].state == QR_SEQ_WAITING;
        if (!story->branches[i].lives)
            continue;
        QR_TRY(waited ? see_admissions_of(story, i) : see_preemptions_of(story, i));
        QR_TRY(waited ? see_preemptions_of(story, i) : see_admissions_of(story, i));
    }
    return QR_OK;
}

static enum qr_status see_plan(struct qr_story *story)
{
    const struct qr_plan *plan = qr_replay_plan(story->replay);

    QR_TRY(see_moves(story));
    see_states(story);
    for (int32_t i = 0; i < plan->n_entries; i++) {
        int32_t branch = branch_of(story, plan->entries[i].seq);
        if (branch >= 0)
            QR_TRY(see_rows(story, branch, &plan->entries[i]));
    }
    return see_transfers(story, plan);
}

static void see_transfer_done(struct qr_story *story, const struct qr_record *record)
{
    for (int32_t i = 0; i < story->n_transfers; i++) {
        struct qr_story_transfer *transfer = &story->transfers[i];
        if (transfer->id != record->transfer.id)
            continue;
        struct qr_story_event *event = &story->events[transfer->event];
        event->numbers[record->transfer.ok ? transfer->number : QR_TIER_COUNT]++;
        if (transfer->out)
            event->to = now_moment(story);
        *transfer = story->transfers[--story->n_transfers];
        i--;
    }
}

enum qr_status qr_story_after(struct qr_story *story, const struct qr_record *record)
{
    const struct qr_preemption forced = {
        .seq = record->seq, .how = record->how, .for_seq = QR_SEQ_NONE};
    int32_t branch = branch_of(story, record->seq);

    switch (record->kind) {
    case QR_RECORD_ADD:
        return see_arrival(story, record);
    case QR_RECORD_FORK:
        return see_fork(story, record);
    case QR_RECORD_PLAN_BEGIN:
        return see_plan(story);
    case QR_RECORD_TRANSFER_DONE:
        see_transfer_done(story, record);
        return QR_OK;
    case QR_RECORD_FORCED:
        if (branch < 0 || story->branches[branch].state == QR_SEQ_WAITING)
            return QR_OK;
        return see_preemption(story, branch, &forced, true);
    default:
        return QR_OK;
    }
}
