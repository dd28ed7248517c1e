/*
 * block_queue.h - blocks in a row, in no order but that of arrival, through the links that an
 * eviction list uses otherwise.
 *
 * Private to blockmgr/. Links live in the blocks (see block_tree.h): no allocation.
 */
#ifndef QUIRE_BLOCKMGR_BLOCK_QUEUE_H
#define QUIRE_BLOCKMGR_BLOCK_QUEUE_H

#include <stdint.h>

#include "base/assert.h"
#include "blockmgr/block_tree.h"

struct qr_block_queue {
    int32_t head; /* QR_BLOCK_NONE: empty */
    int32_t tail;
    int32_t link_index; /* which of a block's links the queue uses */
};

QR_BEGIN_DECLS

void qr_block_queue_init(struct qr_block_queue *queue, int32_t link_index);
/* The block is in no queue or list that uses the same link. */
void qr_block_queue_append(struct qr_block_queue *queue, struct qr_block *blocks, int32_t id);
void qr_block_queue_prepend(struct qr_block_queue *queue, struct qr_block *blocks, int32_t id);
void qr_block_queue_remove(struct qr_block_queue *queue, struct qr_block *blocks, int32_t id);

QR_END_DECLS

#endif /* QUIRE_BLOCKMGR_BLOCK_QUEUE_H */
