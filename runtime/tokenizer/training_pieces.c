/* training_pieces.c - see training_pieces.h for the contract. */
#include "runtime/tokenizer/training_pieces.h"

#include "base/alloc.h"

static struct qr_piece_edge *find_edge(const struct qr_training_pieces *pieces, int32_t node,
                                       int32_t symbol)
{
    uint64_t key = (uint64_t)(uint32_t)node << 32 | (uint32_t)symbol;
    size_t mask = pieces->n_edges - 1;
    key *= UINT64_C(0x9e3779b97f4a7c15);
    size_t slot = (size_t)(key ^ key >> 32) & mask;

    while (pieces->edges[slot].node >= 0 &&
           (pieces->edges[slot].node != node || pieces->edges[slot].symbol != symbol))
        slot = (slot + 1) & mask;
    return &pieces->edges[slot];
}

static void add_piece(struct qr_training_pieces *pieces, const int32_t *symbols, int32_t index)
{
    const struct qr_training_piece *piece = &pieces->items[index];
    int32_t node = 0;

    for (int32_t i = 0; i < piece->length; i++) {
        int32_t symbol = symbols[piece->begin + (size_t)i];
        struct qr_piece_edge *edge = find_edge(pieces, node, symbol);
        if (edge->node < 0) {
            *edge = (struct qr_piece_edge){node, symbol, pieces->n_nodes};
            pieces->piece_at[pieces->n_nodes++] = -1;
        }
        node = edge->child;
    }
    pieces->piece_at[node] = index;
}

enum qr_status qr_training_pieces_index(struct qr_training_pieces *pieces, const int32_t *symbols)
{
    size_t max_nodes = 1;
    size_t n_edges = 16;

    for (int32_t i = 0; i < pieces->count; i++)
        max_nodes += (size_t)pieces->items[i].length;
    while (n_edges < 2 * max_nodes)
        n_edges *= 2;
    qr_free(pieces->edges);
    qr_free(pieces->piece_at);
    pieces->edges = qr_calloc(QR_ARENA_ENGINE, n_edges, sizeof(*pieces->edges));
    pieces->piece_at = qr_calloc(QR_ARENA_ENGINE, max_nodes, sizeof(*pieces->piece_at));
    if (pieces->edges == NULL || pieces->piece_at == NULL)
        return QR_ERR_NOMEM;
    pieces->n_edges = n_edges;
    for (size_t i = 0; i < n_edges; i++)
        pieces->edges[i].node = -1;
    pieces->n_nodes = 1;
    pieces->piece_at[0] = -1;
    pieces->min_score = 0;
    for (int32_t i = 0; i < pieces->count; i++) {
        add_piece(pieces, symbols, i);
        if (pieces->items[i].score < pieces->min_score)
            pieces->min_score = pieces->items[i].score;
    }
    return QR_OK;
}

int32_t qr_training_pieces_step(const struct qr_training_pieces *pieces, int32_t node,
                                int32_t symbol)
{
    const struct qr_piece_edge *edge = find_edge(pieces, node, symbol);
    return edge->node < 0 ? -1 : edge->child;
}

void qr_training_pieces_free(struct qr_training_pieces *pieces)
{
    qr_free(pieces->items);
    qr_free(pieces->edges);
    qr_free(pieces->piece_at);
    *pieces = (struct qr_training_pieces){0};
}
