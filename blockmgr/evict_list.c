/* evict_list.c - see evict_list.h for the contract. */
#include "blockmgr/evict_list.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "blockmgr/block_tree.h"

static struct qr_evict_link *link_of(const struct qr_evict_list *list, struct qr_block *blocks,
                                     int32_t id)
{
    return &blocks[id].links[list->link_index];
}

/*
 * Class 0 weighs nothing, class c > 0 weighs 2^(c - 1) nanoseconds. By the bits of a double
 * (IEEE 754): both are asked of every block that comes and goes.
 */
enum { EXPONENT_SHIFT = 52, EXPONENT_BIAS = 1023 };

static int32_t class_of(double weight)
{
    uint64_t bits;

    if (weight < 1)
        return 0;
    memcpy(&bits, &weight, sizeof(bits));
    int32_t exponent = (int32_t)(bits >> EXPONENT_SHIFT) - EXPONENT_BIAS;
    return exponent > QR_EVICT_CLASSES - 2 ? QR_EVICT_CLASSES - 1 : exponent + 1;
}

static double class_weight(int32_t weight_class)
{
    uint64_t bits = (uint64_t)(weight_class - 1 + EXPONENT_BIAS) << EXPONENT_SHIFT;
    double weight;

    memcpy(&weight, &bits, sizeof(weight));
    return weight_class == 0 ? 0 : weight;
}

void qr_evict_list_init(struct qr_evict_list *list, int32_t link_index)
{
    *list = (struct qr_evict_list){.link_index = link_index};
    for (int32_t i = 0; i < QR_EVICT_CLASSES; i++)
        list->head[i] = list->tail[i] = -1;
}

/*
 * A queue is followed from link to link, each of which is waited for. So each member knows one that
 * came some places later; that it is there still does not matter, as it is for fetching alone.
 */
static void tell_earlier(struct qr_evict_list *list, struct qr_block *blocks, int32_t c, int32_t id)
{
    uint32_t n = list->n_inserted[c]++;
    int32_t *earlier = &list->latest[c][n % QR_EVICT_AHEAD];

    if (n >= QR_EVICT_AHEAD)
        link_of(list, blocks, *earlier)->ahead = id;
    *earlier = id;
}

void qr_evict_list_insert(struct qr_evict_list *list, struct qr_block *blocks, int32_t id,
                          double weight)
{
    struct qr_evict_link *link = link_of(list, blocks, id);
    int32_t c = class_of(weight);

    QR_ASSERT(!qr_evict_is_listed(link));
    *link = (struct qr_evict_link){
        .priority = list->age + class_weight(c), .prev = list->tail[c], .next = -1, .queue = c + 1};
    if (list->tail[c] >= 0) {
        link_of(list, blocks, list->tail[c])->next = id;
    } else {
        list->head[c] = id;
        list->head_priority[c] = link->priority;
        list->occupied |= UINT64_C(1) << c;
    }
    list->tail[c] = id;
    list->count++;
    tell_earlier(list, blocks, c, id);
}

void qr_evict_list_remove(struct qr_evict_list *list, struct qr_block *blocks, int32_t id)
{
    struct qr_evict_link *link = link_of(list, blocks, id);
    int32_t c = link->queue - 1;

    QR_ASSERT(qr_evict_is_listed(link));
    if (link->prev >= 0)
        link_of(list, blocks, link->prev)->next = link->next;
    else
        list->head[c] = link->next;
    if (link->next >= 0)
        link_of(list, blocks, link->next)->prev = link->prev;
    else
        list->tail[c] = link->prev;
    if (list->head[c] >= 0)
        list->head_priority[c] = link_of(list, blocks, list->head[c])->priority;
    else
        list->occupied &= ~(UINT64_C(1) << c);
    link->queue = 0;
    list->count--;
}

int32_t qr_evict_list_first(const struct qr_evict_list *list)
{
    double least = INFINITY;
    int32_t first = -1;

    for (uint64_t left = list->occupied; left != 0; left &= left - 1) {
        int c = __builtin_ctzll(left);
        if (list->head_priority[c] < least) {
            least = list->head_priority[c];
            first = list->head[c];
        }
    }
    return first;
}

int32_t qr_evict_list_pop(struct qr_evict_list *list, struct qr_block *blocks)
{
    int32_t id = qr_evict_list_first(list);

    QR_ASSERT(id >= 0);
    list->age = link_of(list, blocks, id)->priority;
    qr_evict_list_remove(list, blocks, id);
    return id;
}

bool qr_evict_list_yields(const struct qr_evict_list *list, const struct qr_block *blocks,
                          double weight)
{
    int32_t id = qr_evict_list_first(list);

    return id >= 0 && blocks[id].links[list->link_index].priority <=
                          list->age + class_weight(class_of(weight));
}
