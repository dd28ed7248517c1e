/* plan_text.c - see plan_text.h for the contract. */
#include "runtime/replay/plan_text.h"

enum { MAX_LISTED = 64 }; /* items of one list of a plan that are written out */

/* One of the lists of a plan. */
struct list {
    const char *name;
    int32_t (*count)(const struct qr_plan *plan);
    bool (*same)(const struct qr_plan *a, const struct qr_plan *b, int32_t i);
    enum qr_status (*write)(const struct qr_replay *replay, const struct qr_plan *plan, int32_t i,
                            struct qr_buffer *text);
};

const char *qr_replay_way_name(enum qr_release how)
{
    static const char *const names[] = {
        [QR_RELEASE_FINISHED] = "recomputation (nothing kept)",
        [QR_RELEASE_RESUMES] = "recomputation",
        [QR_RELEASE_SWAPPED] = "swap",
        [QR_RELEASE_PARKED] = "parking",
    };
    return names[how];
}

const char *qr_replay_tier_name(enum qr_tier tier)
{
    static const char *const names[QR_TIER_COUNT] = {
        [QR_TIER_HOST] = "host memory",
        [QR_TIER_DISK] = "disk",
    };
    return names[tier];
}

static const char *name_of(const struct qr_replay *replay, qr_seq_id seq,
                           char out[QR_REPLAY_NAME_BYTES])
{
    return seq == QR_SEQ_NONE ? "nobody" : qr_replay_name(replay, seq, out);
}

static int32_t count_preempted(const struct qr_plan *plan)
{
    return plan->n_preempted;
}

static bool same_preempted(const struct qr_plan *a, const struct qr_plan *b, int32_t i)
{
    const struct qr_preemption *x = &a->preempted[i];
    const struct qr_preemption *y = &b->preempted[i];

    return x->seq == y->seq && x->how == y->how && x->for_seq == y->for_seq &&
           x->n_pages == y->n_pages && x->swap_ns == y->swap_ns &&
           x->recompute_ns == y->recompute_ns;
}

static enum qr_status write_preempted(const struct qr_replay *replay, const struct qr_plan *plan,
                                      int32_t i, struct qr_buffer *text)
{
    const struct qr_preemption *item = &plan->preempted[i];
    char victim[QR_REPLAY_NAME_BYTES];
    char other[QR_REPLAY_NAME_BYTES];

    return qr_buffer_printf(text, "%s by %s for %s (%d pages; swap %.3f ms, recomputation %.3f ms)",
                            name_of(replay, item->seq, victim), qr_replay_way_name(item->how),
                            name_of(replay, item->for_seq, other), item->n_pages,
                            item->swap_ns / 1e6, item->recompute_ns / 1e6);
}

static int32_t count_admitted(const struct qr_plan *plan)
{
    return plan->n_admitted;
}

static bool same_admitted(const struct qr_plan *a, const struct qr_plan *b, int32_t i)
{
    return a->admitted[i] == b->admitted[i];
}

static enum qr_status write_admitted(const struct qr_replay *replay, const struct qr_plan *plan,
                                     int32_t i, struct qr_buffer *text)
{
    char name[QR_REPLAY_NAME_BYTES];

    return qr_buffer_printf(text, "%s", qr_replay_name(replay, plan->admitted[i], name));
}

static int32_t count_copies(const struct qr_plan *plan)
{
    return plan->n_copies;
}

static bool same_copy(const struct qr_plan *a, const struct qr_plan *b, int32_t i)
{
    return a->copies[i].from == b->copies[i].from && a->copies[i].to == b->copies[i].to;
}

static enum qr_status write_copy(const struct qr_replay *replay, const struct qr_plan *plan,
                                 int32_t i, struct qr_buffer *text)
{
    (void)replay;
    return qr_buffer_printf(text, "page %d to %d", plan->copies[i].from, plan->copies[i].to);
}

static int32_t count_transfers(const struct qr_plan *plan)
{
    return plan->n_transfers;
}

static bool same_transfer(const struct qr_plan *a, const struct qr_plan *b, int32_t i)
{
    const struct qr_transfer *x = &a->transfers[i];
    const struct qr_transfer *y = &b->transfers[i];

    return x->id == y->id && x->tier == y->tier && x->out == y->out && x->page == y->page &&
           x->slot == y->slot;
}

static enum qr_status write_transfer(const struct qr_replay *replay, const struct qr_plan *plan,
                                     int32_t i, struct qr_buffer *text)
{
    const struct qr_transfer *item = &plan->transfers[i];

    (void)replay;
    return qr_buffer_printf(
        text, item->out ? "page %d out to slot %d of %s" : "page %d in from slot %d of %s",
        item->page, item->slot, qr_replay_tier_name(item->tier));
}

static int32_t count_entries(const struct qr_plan *plan)
{
    return plan->n_entries;
}

static bool same_entry(const struct qr_plan *a, const struct qr_plan *b, int32_t i)
{
    const struct qr_plan_entry *x = &a->entries[i];
    const struct qr_plan_entry *y = &b->entries[i];

    return x->seq == y->seq && x->first_position == y->first_position &&
           x->n_tokens == y->n_tokens && x->samples == y->samples;
}

static enum qr_status write_entry(const struct qr_replay *replay, const struct qr_plan *plan,
                                  int32_t i, struct qr_buffer *text)
{
    const struct qr_plan_entry *item = &plan->entries[i];
    char name[QR_REPLAY_NAME_BYTES];

    qr_replay_name(replay, item->seq, name);
    if (item->n_tokens == 1)
        return qr_buffer_printf(text, "%s at %d%s", name, item->first_position,
                                item->samples ? "" : " (no token)");
    return qr_buffer_printf(text, "%s at %d to %d%s", name, item->first_position,
                            item->first_position + item->n_tokens - 1,
                            item->samples ? "" : " (no token)");
}

static const struct list lists[] = {
    {"preempted", count_preempted, same_preempted, write_preempted},
    {"admitted", count_admitted, same_admitted, write_admitted},
    {"copies", count_copies, same_copy, write_copy},
    {"transfers", count_transfers, same_transfer, write_transfer},
    {"rows", count_entries, same_entry, write_entry},
};

enum { N_LISTS = sizeof(lists) / sizeof(lists[0]) };

static enum qr_status write_item(const struct qr_replay *replay, const struct list *list,
                                 const struct qr_plan *plan, int32_t i, struct qr_buffer *text)
{
    if (i >= list->count(plan))
        return qr_buffer_printf(text, i == 0 ? "none" : "no more");
    return list->write(replay, plan, i, text);
}

static enum qr_status write_plan(const struct qr_replay *replay, const struct qr_plan *plan,
                                 struct qr_buffer *text)
{
    bool is_empty = true;

    for (int32_t l = 0; l < N_LISTS; l++) {
        int32_t n = lists[l].count(plan);
        if (n == 0)
            continue;
        is_empty = false;
        QR_TRY(qr_buffer_printf(text, "    %s: ", lists[l].name));
        for (int32_t i = 0; i < n && i < MAX_LISTED; i++) {
            QR_TRY(qr_buffer_printf(text, i == 0 ? "" : "; "));
            QR_TRY(write_item(replay, &lists[l], plan, i, text));
        }
        if (n > MAX_LISTED)
            QR_TRY(qr_buffer_printf(text, "; and %d more", n - MAX_LISTED));
        QR_TRY(qr_buffer_printf(text, "\n"));
    }
    return is_empty ? qr_buffer_printf(text, "    nothing\n") : QR_OK;
}

/* The list and index of the first difference; false: there is none. */
static bool find_difference(const struct qr_plan *a, const struct qr_plan *b,
                            const struct list **list, int32_t *index)
{
    for (int32_t l = 0; l < N_LISTS; l++) {
        int32_t n_a = lists[l].count(a);
        int32_t n_b = lists[l].count(b);
        int32_t i = 0;
        while (i < n_a && i < n_b && lists[l].same(a, b, i))
            i++;
        if (i < n_a || i < n_b) {
            *list = &lists[l];
            *index = i;
            return true;
        }
    }
    return false;
}

enum qr_status qr_replay_compare_plans(const struct qr_replay *replay,
                                       const struct qr_plan *recorded,
                                       const struct qr_plan *replayed, bool *differ,
                                       struct qr_buffer *text)
{
    const struct list *list;
    int32_t i;

    *differ = find_difference(recorded, replayed, &list, &i);
    if (!*differ)
        return QR_OK;
    QR_TRY(qr_buffer_printf(text, "  %s, number %d\n    recorded: ", list->name, i + 1));
    QR_TRY(write_item(replay, list, recorded, i, text));
    QR_TRY(qr_buffer_printf(text, "\n    replayed: "));
    QR_TRY(write_item(replay, list, replayed, i, text));
    QR_TRY(qr_buffer_printf(text, "\n  the whole plan as recorded\n"));
    QR_TRY(write_plan(replay, recorded, text));
    QR_TRY(qr_buffer_printf(text, "  the whole plan as replayed\n"));
    return write_plan(replay, replayed, text);
}
