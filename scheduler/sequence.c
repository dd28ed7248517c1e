/* sequence.c - see sequence.h for the contract. */
#include "scheduler/sequence.h"

void qr_seq_list_init(struct qr_seq_list *list)
{
    *list = (struct qr_seq_list){.head = QR_SEQ_NONE, .tail = QR_SEQ_NONE};
}

bool qr_seq_is_senior(const struct qr_sequence *a, const struct qr_sequence *b)
{
    return a->rank < b->rank || (a->rank == b->rank && a->ticket < b->ticket);
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

/* From the end: a new arrival is mostly the last. */
void qr_seq_list_insert(struct qr_seq_list *list, struct qr_sequence *seqs, qr_seq_id id)
{
    qr_seq_id prev = list->tail;

    while (prev != QR_SEQ_NONE && qr_seq_is_senior(&seqs[id], &seqs[prev]))
        prev = seqs[prev].prev;
    link_between(list, seqs, id, prev, prev == QR_SEQ_NONE ? list->head : seqs[prev].next);
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
