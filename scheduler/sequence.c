/* sequence.c - see sequence.h for the contract. */
#include "scheduler/sequence.h"

void qr_seq_list_init(struct qr_seq_list *list)
{
    *list = (struct qr_seq_list){.head = QR_SEQ_NONE, .tail = QR_SEQ_NONE};
}

/* Between two neighbours, either of which may be QR_SEQ_NONE: an end of the list. */
static void link_between(struct qr_seq_list *list, struct qr_sequence *seqs, qr_seq_id id,
                         qr_seq_id prev, qr_seq_id next)
{
    seqs[id].prev = prev;
    seqs[id].next = next;
    *(prev == QR_SEQ_NONE ? &list->head : &seqs[prev].next) = id;
    *(next == QR_SEQ_NONE ? &list->tail : &seqs[next].prev) = id;
    list->count++;
}

void qr_seq_list_insert(struct qr_seq_list *list, struct qr_sequence *seqs, qr_seq_id id)
{
    qr_seq_id next = list->head;
    while (next != QR_SEQ_NONE && seqs[next].ticket <= seqs[id].ticket)
        next = seqs[next].next;
    link_between(list, seqs, id, next == QR_SEQ_NONE ? list->tail : seqs[next].prev, next);
}

void qr_seq_list_append(struct qr_seq_list *list, struct qr_sequence *seqs, qr_seq_id id)
{
    link_between(list, seqs, id, list->tail, QR_SEQ_NONE);
}

void qr_seq_list_unlink(struct qr_seq_list *list, struct qr_sequence *seqs, qr_seq_id id)
{
    qr_seq_id prev = seqs[id].prev;
    qr_seq_id next = seqs[id].next;

    *(prev == QR_SEQ_NONE ? &list->head : &seqs[prev].next) = next;
    *(next == QR_SEQ_NONE ? &list->tail : &seqs[next].prev) = prev;
    seqs[id].prev = seqs[id].next = QR_SEQ_NONE;
    list->count--;
}
