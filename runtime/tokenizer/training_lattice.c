/* training_lattice.c - see training_lattice.h for the contract. */
#include "runtime/tokenizer/training_lattice.h"

#include <math.h>
#include <stdbool.h>

#include "base/array.h"

/* A character without a piece is this much less likely than the rarest piece. */
static const double unknown_penalty = 10;

static enum qr_status reserve(struct qr_lattice *lattice, int32_t length)
{
    size_t n = (size_t)length + 1;

    if (length < lattice->length_capacity)
        return QR_OK;
    double *forward = qr_realloc(QR_ARENA_ENGINE, lattice->forward, n * sizeof(*forward));
    if (forward != NULL)
        lattice->forward = forward;
    double *backward = qr_realloc(QR_ARENA_ENGINE, lattice->backward, n * sizeof(*backward));
    if (backward != NULL)
        lattice->backward = backward;
    int32_t *best = qr_realloc(QR_ARENA_ENGINE, lattice->best, n * sizeof(*best));
    if (best != NULL)
        lattice->best = best;
    int32_t *path = qr_realloc(QR_ARENA_ENGINE, lattice->path, n * sizeof(*path));
    if (path != NULL)
        lattice->path = path;
    if (forward == NULL || backward == NULL || best == NULL || path == NULL)
        return QR_ERR_NOMEM;
    lattice->length_capacity = length + 1;
    return QR_OK;
}

static enum qr_status add_node(struct qr_lattice *lattice, struct qr_lattice_node node)
{
    if (lattice->n_nodes == lattice->nodes_capacity) {
        void *grown = qr_array_grow(QR_ARENA_ENGINE, lattice->nodes, lattice->n_nodes,
                                    &lattice->nodes_capacity, sizeof(*lattice->nodes));
        if (grown == NULL)
            return QR_ERR_NOMEM;
        lattice->nodes = grown;
    }
    lattice->nodes[lattice->n_nodes++] = node;
    return QR_OK;
}

enum qr_status qr_lattice_set(struct qr_lattice *lattice, const struct qr_training_pieces *pieces,
                              const int32_t *symbols, int32_t length, int32_t left_out)
{
    QR_TRY(reserve(lattice, length));
    lattice->n_nodes = 0;
    lattice->length = length;
    for (int32_t begin = 0; begin < length; begin++) {
        bool has_single = false;
        int32_t node = 0;
        for (int32_t end = begin;
             end < length && (node = qr_training_pieces_step(pieces, node, symbols[end])) >= 0;) {
            int32_t piece = pieces->piece_at[node];
            end++;
            if (piece < 0 || piece == left_out)
                continue;
            has_single = has_single || end == begin + 1;
            QR_TRY(add_node(
                lattice, (struct qr_lattice_node){begin, end, piece, pieces->items[piece].score}));
        }
        if (!has_single)
            QR_TRY(
                add_node(lattice, (struct qr_lattice_node){begin, begin + 1, -1,
                                                           pieces->min_score - unknown_penalty}));
    }
    return QR_OK;
}

/* log(e^a + e^b); a may be minus infinity. */
static double log_add(double a, double b)
{
    double larger = a > b ? a : b;
    double smaller = a > b ? b : a;

    return smaller - larger < -50 ? larger : larger + log1p(exp(smaller - larger));
}

void qr_lattice_expect(struct qr_lattice *lattice, int64_t count, int64_t *expected)
{
    double *forward = lattice->forward;
    double *backward = lattice->backward;

    for (int32_t i = 0; i <= lattice->length; i++)
        forward[i] = backward[i] = -INFINITY;
    forward[0] = backward[lattice->length] = 0;
    for (int32_t i = 0; i < lattice->n_nodes; i++) {
        const struct qr_lattice_node *node = &lattice->nodes[i];
        forward[node->end] = log_add(forward[node->end], forward[node->begin] + node->score);
    }
    for (int32_t i = lattice->n_nodes - 1; i >= 0; i--) {
        const struct qr_lattice_node *node = &lattice->nodes[i];
        backward[node->begin] = log_add(backward[node->begin], backward[node->end] + node->score);
    }
    for (int32_t i = 0; i < lattice->n_nodes; i++) {
        const struct qr_lattice_node *node = &lattice->nodes[i];
        double log_share =
            forward[node->begin] + node->score + backward[node->end] - forward[lattice->length];
        if (node->piece >= 0)
            expected[node->piece] += llrint(exp(log_share) * (double)count * QR_EXPECTED_ONE);
    }
}

int32_t qr_lattice_best(struct qr_lattice *lattice, double *score)
{
    double *forward = lattice->forward;
    int32_t *best = lattice->best;
    int32_t n = 0;

    for (int32_t i = 0; i <= lattice->length; i++)
        forward[i] = -INFINITY;
    forward[0] = 0;
    for (int32_t i = 0; i < lattice->n_nodes; i++) {
        const struct qr_lattice_node *node = &lattice->nodes[i];
        double way = forward[node->begin] + node->score;
        if (way > forward[node->end]) {
            forward[node->end] = way;
            best[node->end] = i;
        }
    }
    *score = forward[lattice->length];
    for (int32_t at = lattice->length; at > 0; at = lattice->nodes[best[at]].begin)
        lattice->path[n++] = best[at];
    return n;
}

void qr_lattice_free(struct qr_lattice *lattice)
{
    qr_free(lattice->nodes);
    qr_free(lattice->forward);
    qr_free(lattice->backward);
    qr_free(lattice->best);
    qr_free(lattice->path);
    *lattice = (struct qr_lattice){0};
}
