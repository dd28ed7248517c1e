/*
 * evict_list.h - which cached block goes next: Greedy-Dual-Size-Frequency in constant time.
 *
 * A block enters with a weight, what it would cost to have it again times how likely
 * that is. Its priority is the list's age plus the weight; the least priority goes first
 * and its priority becomes the age, so that what is not used for long goes in the end
 * whatever it weighs (Cherkasova, HP Labs 1998; without sizes, as all pages are alike).
 * Weights are rounded down to powers of two: members of one power are then in order by
 * arrival alone, and the next to go is the first of one of 64 queues.
 *
 * Private to blockmgr/. Links live in the blocks (see block_tree.h): no allocation.
 */
#ifndef QUIRE_BLOCKMGR_EVICT_LIST_H
#define QUIRE_BLOCKMGR_EVICT_LIST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum {
    QR_EVICT_CLASSES = 64,
    QR_EVICT_AHEAD = 8, /* places in a queue: as far as memory is fetched ahead */
};

struct qr_block;

struct qr_evict_link {
    double priority;
    int32_t prev; /* neighbours in the queue of its class; -1: none */
    int32_t next;
    int32_t queue; /* 1 + its class; 0: in no list, as in zeroed memory */
    int32_t ahead; /* who came QR_EVICT_AHEAD places later, to be fetched; 0: nobody yet */
};

static inline bool qr_evict_is_listed(const struct qr_evict_link *link)
{
    return link->queue != 0;
}

struct qr_evict_list {
    int32_t link_index; /* which of a block's links the list uses */
    int32_t count;
    double age;
    uint64_t occupied; /* bit c: class c has members */
    int32_t head[QR_EVICT_CLASSES];
    int32_t tail[QR_EVICT_CLASSES];
    double head_priority[QR_EVICT_CLASSES];
    int32_t latest[QR_EVICT_CLASSES][QR_EVICT_AHEAD]; /* members of each class, or what was one */
    uint32_t n_inserted[QR_EVICT_CLASSES];
};

QR_BEGIN_DECLS

void qr_evict_list_init(struct qr_evict_list *list, int32_t link_index);
/* The block is in no list that uses the same link. weight in nanoseconds, at least 0. */
void qr_evict_list_insert(struct qr_evict_list *list, struct qr_block *blocks, int32_t id,
                          double weight);
void qr_evict_list_remove(struct qr_evict_list *list, struct qr_block *blocks, int32_t id);
/* The member of least priority, which stays in the list; -1: the list is empty. */
int32_t qr_evict_list_first(const struct qr_evict_list *list);
/* Takes the first out and lets the list age. The list is not empty. */
int32_t qr_evict_list_pop(struct qr_evict_list *list, struct qr_block *blocks);
/* Whether a newcomer of this weight would stand behind the first: worth more by now. */
bool qr_evict_list_yields(const struct qr_evict_list *list, const struct qr_block *blocks,
                          double weight);

QR_END_DECLS

#endif /* QUIRE_BLOCKMGR_EVICT_LIST_H */
