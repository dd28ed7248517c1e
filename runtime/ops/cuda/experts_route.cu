/*
 * experts_route.cu - the router's choice for each row, and its rows' sum at the end.
 *
 * qr_experts_route: a warp takes a row. Of the softmax of its logits the n_used largest are found
 * one after the other (of equals the lower index; NaN counts as a number beyond the infinity of its
 * sign). The last block to finish sorts the pairs by expert and cuts them in tiles. The place of a
 * pair in its tile is left to chance, which changes no bits: a pair's result is its own.
 */
#include "runtime/ops/cuda/block_reduce.cuh"
#include "runtime/ops/cuda/experts_params.h"
#include "runtime/ops/cuda/float_key.cuh"
#include "runtime/ops/cuda/wide_access.cuh"

/* The best expert of those that have a key, which is never 0. */
QR_DEVICE int find_best(const uint32_t *keys, int n_experts)
{
    uint64_t best = 0;

    for (int e = qr_thread_index() % 32; e < n_experts; e += 32)
        best = qr_largest::of(best, (uint64_t)keys[e] << 32 | (uint32_t)~e);
    return (int)~(uint32_t)qr_warp_reduce<qr_largest>(best);
}

/* e^(logit - largest) */
QR_DEVICE float weigh(float logit, float largest)
{
    const float log2_e = 1.44269504f;
    return qr_exp2((logit - largest) * log2_e);
}

/* Takes the keys of the row's n_used best experts away; returns the best one's index. */
QR_DEVICE int choose(const qr_route_params &p, uint32_t *keys)
{
    int first = 0;

    for (int i = 0; i < p.n_used; i++) {
        int best = find_best(keys, p.n_experts);
        first = i == 0 ? best : first;
        if (best % 32 == qr_thread_index() % 32) /* each lane reads and writes its own keys only */
            keys[best] = 0;
    }
    return first;
}

/* keys: of this warp, [n_experts] */
QR_DEVICE void route_row(const qr_route_params &p, int row, uint32_t *keys)
{
    const float *logits = p.logits + (int64_t)row * p.n_experts;
    int lane = qr_thread_index() % 32;
    int pair = row * p.n_used;
    float sum = 0.0f;

    for (int e = lane; e < p.n_experts; e += 32)
        keys[e] = qr_largest::of(qr_float_key(logits[e]), 1u);
    float largest = logits[choose(p, keys)];
    for (int e = lane; e < p.n_experts; e += 32) {
        if (keys[e] == 0 || !p.renormalizes)
            sum += weigh(logits[e], largest);
    }
    sum = qr_warp_reduce<qr_sum>(sum);
    for (int first = 0; first < p.n_experts; first += 32) {
        int e = first + lane;
        bool is_chosen = e < p.n_experts && keys[e] == 0;
        uint32_t all = qr_ballot(is_chosen);
        int place = pair + qr_count_bits(all & ((1u << lane) - 1u));
        if (is_chosen) {
            p.routing.chosen[place] = e;
            p.routing.weights[place] = weigh(logits[e], largest) / sum;
        }
        pair += qr_count_bits(all);
    }
}

/* This block is the last one. */
QR_DEVICE bool all_are_done(const qr_route_params &p, int *shared)
{
    qr_fence();
    qr_sync_block();
    if (qr_thread_index() == 0)
        *shared = qr_atomic_add(p.n_done, 1) + 1;
    qr_sync_block();
    bool is_last = *shared == qr_grid_size();
    qr_sync_block(); /* shared memory is used again */
    qr_fence();
    return is_last;
}

/* The sum of `value` over this lane and those below it. */
QR_DEVICE int sum_up_to(int value)
{
    int lane = qr_thread_index() % 32;

    QR_UNROLL
    for (int apart = 1; apart < 32; apart *= 2) {
        int other = qr_shuffle(value, lane - apart < 0 ? lane : lane - apart);
        value += lane >= apart ? other : 0;
    }
    return value;
}

/* A warp: tiles of all experts; counts of their pairs become the places of the first ones. */
QR_DEVICE void make_tiles(const qr_route_params &p, int *counts)
{
    int lane = qr_thread_index() % 32;
    int n_pairs = 0;
    int n_tiles = 0;

    for (int start = 0; start < p.n_experts; start += 32) {
        int e = start + lane;
        int count = e < p.n_experts ? counts[e] : 0;
        int tiles = (count + p.tile_pairs - 1) / p.tile_pairs;
        int pairs_to_here = sum_up_to(count);
        int tiles_to_here = sum_up_to(tiles);
        int first = n_pairs + pairs_to_here - count;
        for (int i = 0; i < tiles; i++) {
            int at = i * p.tile_pairs;
            int n = count - at < p.tile_pairs ? count - at : p.tile_pairs;
            p.routing.tiles[n_tiles + tiles_to_here - tiles + i] = {e, first + at, n};
        }
        if (e < p.n_experts)
            counts[e] = first;
        n_pairs += qr_shuffle(pairs_to_here, 31);
        n_tiles += qr_shuffle(tiles_to_here, 31);
    }
    if (lane == 0)
        *p.routing.n_tiles = n_tiles;
}

/* counts: [n_experts] */
QR_DEVICE void sort_pairs(const qr_route_params &p, int n_pairs, int *counts)
{
    for (int e = qr_thread_index(); e < p.n_experts; e += QR_ROUTE_THREADS)
        counts[e] = 0;
    qr_sync_block();
    for (int pair = qr_thread_index(); pair < n_pairs; pair += QR_ROUTE_THREADS)
        qr_atomic_add(&counts[p.routing.chosen[pair]], 1);
    qr_sync_block();
    if (qr_thread_index() < 32)
        make_tiles(p, counts);
    qr_sync_block();
    for (int pair = qr_thread_index(); pair < n_pairs; pair += QR_ROUTE_THREADS)
        p.routing.order[qr_atomic_add(&counts[p.routing.chosen[pair]], 1)] = pair;
}

/* Shared memory: [QR_ROUTE_ROWS][n_experts] words. */
QR_KERNEL(qr_experts_route, struct qr_route_params, QR_ROUTE_THREADS, 2)
{
    QR_SHARED(shared);
    int warp = qr_thread_index() / 32;
    int row = qr_block_index() * QR_ROUTE_ROWS + warp;

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    int n_live = p.n_live != nullptr ? *p.n_live - p.first_row : p.n_rows;
    n_live = n_live < p.n_rows ? n_live : p.n_rows;
    if (row < n_live)
        route_row(p, row, (uint32_t *)shared + warp * p.n_experts);
    if (!all_are_done(p, (int *)shared))
        return;
    sort_pairs(p, n_live > 0 ? n_live * p.n_used : 0, (int *)shared);
    if (qr_thread_index() == 0)
        *p.n_done = 0; /* for the next launch */
}

/* residual += the weighted sum over the row's experts, in ascending order. */
QR_KERNEL(qr_experts_combine, struct qr_combine_params, QR_COMBINE_THREADS, 4)
{
    int row = qr_block_index();
    int64_t i = (int64_t)qr_block_index_y() * QR_COMBINE_PER_BLOCK + qr_thread_index() * 8;
    float total[8] = {};
    float value[8];

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    if (i >= p.dim || (p.n_live != nullptr && p.first_row + row >= *p.n_live))
        return;
    for (int used = 0; used < p.n_used; used++) {
        int64_t pair = (int64_t)row * p.n_used + used;
        float weight = p.weights[pair];
        qr_load_eight(QR_TYPE_F32, p.partials + pair * p.dim, i, p.dim, value);
        QR_UNROLL
        for (int j = 0; j < 8; j++)
            total[j] = qr_fma(weight, value[j], total[j]);
    }
    float *residual = p.residual + (int64_t)row * p.dim;
    qr_load_eight(QR_TYPE_F32, residual, i, p.dim, value);
    QR_UNROLL
    for (int j = 0; j < 8; j++)
        value[j] += total[j];
    qr_store_eight(QR_TYPE_F32, residual, i, p.dim, value);
}
