/*
 * sampling_filter.cuh - what top-k, then top-p, then min-p leave of a row, by the tokens' weights
 * e^((logit - largest) / temperature).
 *
 * Mostly it is among the candidates of the row's selection, where a prefix of them is left. Else it
 * is what is not below a bound, which is found bit by bit from the top: a bit of it is 1 when what
 * is as large as that reaches what is needed, in number or in weight. A trial reads the row, which
 * is in the second-level cache; once a single token is in question, what is left is known.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_SAMPLING_FILTER_CUH
#define QUIRE_RUNTIME_OPS_CUDA_SAMPLING_FILTER_CUH

#include "runtime/ops/cuda/block_reduce.cuh"
#include "runtime/ops/cuda/float_key.cuh"
#include "runtime/ops/cuda/load_logits.cuh"
#include "runtime/ops/cuda/select_params.h"

enum { DRAW_WARPS = QR_SELECT_THREADS / 32, DRAW_N = QR_DRAW_PER_THREAD, ID_BITS = 18 };

struct draw_shared {
    double warps[QR_DRAW_MAX_PARTS][DRAW_WARPS];
    double parts[QR_DRAW_MAX_PARTS];
    double threads[QR_SELECT_THREADS]; /* of the part where the mark falls */
    double reduce_mass[2][DRAW_WARPS];
    double candidate_weight[QR_SELECT_MAX_K];
    int reduce_count[2][DRAW_WARPS];
    int reduce_last[DRAW_WARPS];
    int candidate_id[QR_SELECT_MAX_K];
};

/* A row, and what its tokens are weighed with. */
struct weighed_row {
    const float *logits;
    int vocab_size;
    float largest;
    float factor; /* log2 e / temperature */
};

/* The tokens that are left. */
struct left_tokens {
    qr_select_key bound; /* none is below; 1: all */
    float min_weight;
};

struct amount {
    double mass;
    int count;
};

QR_DEVICE float weight_of(const weighed_row &row, float logit)
{
    bool counts = logit != qr_bits_float(0xff800000u);
    return counts ? qr_exp2(qr_mul(logit - row.largest, row.factor)) : 0.0f;
}

/* Weights of the thread's neighbours of a part, 0 of those that are not left; their amount. */
QR_DEVICE amount weigh(const weighed_row &row, int part, left_tokens left, float *weight)
{
    int first = part * QR_DRAW_PART + qr_thread_index() * DRAW_N;
    float logit[DRAW_N];
    amount sum = {0, 0};

    qr_load_logits(row.logits, row.vocab_size, first, logit);
    QR_UNROLL
    for (int i = 0; i < DRAW_N; i++) {
        qr_select_key key = (qr_select_key)qr_float_key(logit[i]) << 32 | ~(uint32_t)(first + i);
        float w = weight_of(row, logit[i]);
        bool is_left = first + i < row.vocab_size && key >= left.bound && w >= left.min_weight;
        weight[i] = is_left ? w : 0.0f;
        sum.mass += (double)weight[i];
        sum.count += is_left ? 1 : 0;
    }
    return sum;
}

/* Of the whole row, the same in all threads. `turn` alternates between calls that follow each
 * other. */
QR_DEVICE amount amount_from(const weighed_row &row, qr_select_key bound, int turn,
                             draw_shared *shared)
{
    int n_parts = (row.vocab_size + QR_DRAW_PART - 1) / QR_DRAW_PART;
    amount sum = {0, 0};
    float weight[DRAW_N];

    for (int part = 0; part < n_parts; part++) {
        amount some = weigh(row, part, left_tokens{bound, 0.0f}, weight);
        sum.mass += some.mass;
        sum.count += some.count;
    }
    sum.mass = qr_block_reduce<qr_sum, DRAW_WARPS>(sum.mass, shared->reduce_mass[turn % 2]);
    sum.count = qr_block_reduce<qr_sum, DRAW_WARPS>(sum.count, shared->reduce_count[turn % 2]);
    return sum;
}

/* What is needed of the tokens from the largest on, the last one included: a number of them, or
 * (count 0) a part of the weight of all. */
struct need {
    int count;
    double part;
};

/* The largest bound from which on that is reached, if it is by what is from `from` on; sooner found
 * is one that leaves the same tokens. */
QR_DEVICE qr_select_key find_bound(const weighed_row &row, qr_select_key from, need needed,
                                   draw_shared *shared)
{
    qr_select_key last = (qr_select_key)qr_float_key(row.largest) << 32 | 0xffffffffu;
    int turn = 0;
    amount all = amount_from(row, from, turn++, shared);
    double mass = needed.part * all.mass;
    int n_from = all.count; /* from `known` on */
    int n_above = 0;        /* beyond all that may still come of its lower bits */
    qr_select_key known = 0;

    for (int bit = 63; bit >= 0 && n_from - n_above > 1 && n_from != needed.count; bit--) {
        qr_select_key bound = known | (qr_select_key)1 << bit;
        bool all_have_it = bit < 32 && bit >= ID_BITS; /* of a complement of an id */
        if (bound <= from || all_have_it) {
            known = bound;
            continue;
        }
        if (bound > last)
            continue;
        amount some = amount_from(row, bound, turn++, shared);
        if (needed.count > 0 ? some.count >= needed.count : some.mass >= mass) {
            known = bound;
            n_from = some.count;
        } else {
            n_above = some.count;
        }
    }
    qr_sync_block(); /* the sums' memory is used again */
    return known > from ? known : from;
}

/* What is left of the whole row. */
QR_DEVICE left_tokens filter_row(const weighed_row &row, const qr_select_draw &draw,
                                 draw_shared *shared)
{
    left_tokens left = {1, draw.min_p};

    if (draw.top_k > 0)
        left.bound = find_bound(row, left.bound, need{draw.top_k, 0}, shared);
    if (draw.top_p < 1.0f)
        left.bound = find_bound(row, left.bound, need{0, (double)draw.top_p}, shared);
    return left;
}

/* The candidates' weights and ids, which all threads can read. */
QR_DEVICE void weigh_candidates(const weighed_row &row, const qr_select_candidate *candidates,
                                int n, draw_shared *shared)
{
    int i = qr_thread_index();

    if (i < n) {
        shared->candidate_weight[i] = (double)weight_of(row, candidates[i].logit);
        shared->candidate_id[i] = candidates[i].token_id;
    }
    qr_sync_block();
}

/* How many of the n candidates are left, by top-p of `total` and min-p; 0: perhaps more than these,
 * unless there are no others (is_all). */
QR_DEVICE int filter_candidates(const draw_shared *shared, const qr_select_draw &draw, int n,
                                bool is_all, double total)
{
    double needed = (double)draw.top_p * total;
    double mass = 0;

    for (int i = 0; i < n; i++) {
        double weight = shared->candidate_weight[i];
        if (weight == 0 || weight < (double)draw.min_p)
            return i;
        mass += weight;
        if (draw.top_p < 1.0f && mass >= needed)
            return i + 1;
    }
    return is_all ? n : 0;
}

#endif /* QUIRE_RUNTIME_OPS_CUDA_SAMPLING_FILTER_CUH */
