/* block_queue.c - see block_queue.h for the contract. */
#include "blockmgr/block_queue.h"

static struct qr_evict_link *link_of(const struct qr_block_queue *queue, struct qr_block *blocks,
                                     int32_t id)
{
    QR_ASSERT(!qr_evict_is_listed(&blocks[id].links[queue->link_index]));
    return &blocks[id].links[queue->link_index];
}

void qr_block_queue_init(struct qr_block_queue *queue, int32_t link_index)
{
    *queue = (struct qr_block_queue){
        .head = QR_BLOCK_NONE, .tail = QR_BLOCK_NONE, .link_index = link_index};
}

void qr_block_queue_append(struct qr_block_queue *queue, struct qr_block *blocks, int32_t id)
{
    struct qr_evict_link *link = link_of(queue, blocks, id);

    link->prev = queue->tail;
    link->next = QR_BLOCK_NONE;
    if (queue->tail != QR_BLOCK_NONE)
        link_of(queue, blocks, queue->tail)->next = id;
    else
        queue->head = id;
    queue->tail = id;
}

void qr_block_queue_prepend(struct qr_block_queue *queue, struct qr_block *blocks, int32_t id)
{
    struct qr_evict_link *link = link_of(queue, blocks, id);

    link->prev = QR_BLOCK_NONE;
    link->next = queue->head;
    if (queue->head != QR_BLOCK_NONE)
        link_of(queue, blocks, queue->head)->prev = id;
    else
        queue->tail = id;
    queue->head = id;
}

void qr_block_queue_remove(struct qr_block_queue *queue, struct qr_block *blocks, int32_t id)
{
    const struct qr_evict_link *link = link_of(queue, blocks, id);

    if (link->prev != QR_BLOCK_NONE)
        link_of(queue, blocks, link->prev)->next = link->next;
    else
        queue->head = link->next;
    if (link->next != QR_BLOCK_NONE)
        link_of(queue, blocks, link->next)->prev = link->prev;
    else
        queue->tail = link->prev;
}
