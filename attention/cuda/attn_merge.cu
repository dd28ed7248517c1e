/*
 * attn_merge.cu - folds the states that chains have left, those of ranges of their keys ahead of
 * those of decode, in ascending order, into the output: states into the sum of their group of
 * splits, groups into the total.
 *
 * A block takes one query of one chain. The maxima so far are known for each state beforehand (a
 * prefix maximum is exact in any order), and with them the factors of each fold; what is left of
 * the fixed order are two multiply-adds an element and state. Bytes: 4 * (head_dim + 3) a state and
 * query, mostly still in the second-level cache.
 */
#include "attention/cuda/split.cuh"

enum {
    MERGE_STATES = QR_ATTENTION_THREADS, /* whose factors are known at a time */
    MERGE_LOADS = 16,                    /* states that are loaded at a time */
};

/* The states of a chain, of one query: of ranges, then of decode. */
struct states_of_chain {
    const float *states; /* the query's o in state 0 */
    int64_t state_floats;
    int sums; /* from o to m, l and whether a group ends */
    int n_parts, n;
    int first_part, first_state;

    QR_DEVICE states_of_chain(const qr_attend_kernel_params &p, const qr_merge_item &item,
                              int query)
    {
        states = p.states + query * p.head_dim;
        state_floats = p.state_floats;
        sums = p.chain_queries * p.head_dim + query * (3 - p.head_dim);
        n_parts = item.n_parts;
        n = item.n_parts + item.n_states;
        first_part = item.first_part;
        first_state = item.first_state - item.n_parts;
    }
    QR_DEVICE const float *at(int i) const
    {
        return states + (i < n_parts ? first_part + i : first_state + i) * state_floats;
    }
};

/* shared->max: over all states up to this thread's, of which m is the maximum. */
QR_DEVICE void find_maxima(qr_merge_shared *shared, float m)
{
    int thread = qr_thread_index(), lane = thread & 31;
    float max = m;
    for (int x = 1; x < 32; x <<= 1) {
        float other = qr_shuffle(max, (lane - x) & 31);
        if (lane >= x)
            max = qr_max(max, other);
    }
    if (lane == 31)
        shared->warp_max[thread >> 5] = max;
    qr_sync_block();
    for (int warp = 0; warp < thread >> 5; warp++)
        max = qr_max(max, shared->warp_max[warp]);
    max = qr_max(max, qr_max(shared->total_max, shared->group_max));
    shared->max[thread] = max;
}

/* Factors of states [first, first + n), as if the group ended with each of them. */
QR_DEVICE void find_factors(qr_merge_shared *shared, const states_of_chain &states, int first,
                            int n, float scale)
{
    int thread = qr_thread_index(), begin = thread; /* the first of this one's group */
    float m = QR_MINUS_INFINITY, group_before = QR_MINUS_INFINITY;
    if (thread < n) {
        const float *sums = states.at(first + thread) + states.sums;
        m = sums[0];
        shared->l[thread] = sums[1];
        shared->ends[thread] = sums[2];
    }
    shared->m[thread] = m;
    find_maxima(shared, m);
    qr_sync_block();
    for (; thread < n && begin > 0 && shared->ends[begin - 1] == 0.0f; begin--)
        group_before = qr_max(group_before, shared->m[begin - 1]);
    if (begin == 0)
        group_before = qr_max(group_before, shared->group_max);
    float total_before = begin == 0 ? shared->total_max : shared->max[begin - 1];
    float group = qr_max(group_before, m), total = qr_max(total_before, group);
    shared->group_factor[thread] = qr_rescale(group_before, group, scale);
    shared->state_factor[thread] = qr_rescale(m, group, scale);
    shared->total_factor[thread] = qr_rescale(total_before, total, scale);
    shared->ended_factor[thread] = qr_rescale(group, total, scale);
    qr_sync_block(); /* all have read what is known of the states before */
    if (thread == n - 1) {
        bool ends = shared->ends[thread] != 0.0f;
        shared->group_max = ends ? QR_MINUS_INFINITY : group;
        shared->total_max = ends ? total : total_before;
    }
}

/* Element by element: this thread's, and the one QR_ATTENTION_THREADS further on. */
struct merged {
    float l, o[2];
};

QR_DEVICE void fold_merged(merged *sum, float sum_factor, const merged &more, float factor)
{
    sum->l = qr_fold(sum->l, sum_factor, more.l, factor);
    QR_UNROLL
    for (int i = 0; i < 2; i++)
        sum->o[i] = qr_fold(sum->o[i], sum_factor, more.o[i], factor);
}

/* State i of those whose factors are known; last: group and total end with it in any case. */
QR_DEVICE void fold_state(merged *total, merged *group, const merged &state,
                          const qr_merge_shared *shared, int i, bool last)
{
    merged folded = *total;
    fold_merged(group, shared->group_factor[i], state, shared->state_factor[i]);
    fold_merged(&folded, shared->total_factor[i], *group, shared->ended_factor[i]);
    bool ends = last || shared->ends[i] != 0.0f; /* chosen, not branched: loads go ahead */
    total->l = ends ? folded.l : total->l;
    group->l = ends ? 0.0f : group->l;
    QR_UNROLL
    for (int h = 0; h < 2; h++) {
        total->o[h] = ends ? folded.o[h] : total->o[h];
        group->o[h] = ends ? 0.0f : group->o[h];
    }
}

/* Folds states [first, first + n), whose factors are known. */
QR_DEVICE void fold_states(merged *total, merged *group, const qr_merge_shared *shared,
                           const states_of_chain &states, int first, int n, int head_dim)
{
    int thread = qr_thread_index();
    for (int begin = 0; begin < n; begin += MERGE_LOADS) {
        merged loaded[MERGE_LOADS];
        QR_UNROLL
        for (int i = 0; i < MERGE_LOADS; i++) {
            const float *o = states.at(first + (begin + i < n ? begin + i : n - 1));
            loaded[i].o[0] = thread < head_dim ? o[thread] : 0.0f;
            loaded[i].o[1] =
                thread + QR_ATTENTION_THREADS < head_dim ? o[thread + QR_ATTENTION_THREADS] : 0.0f;
        }
        QR_UNROLL
        for (int i = 0; i < MERGE_LOADS; i++) {
            if (begin + i >= n)
                break;
            loaded[i].l = shared->l[begin + i];
            fold_state(total, group, loaded[i], shared, begin + i,
                       first + begin + i + 1 == states.n);
        }
    }
}

/* The total of a chain for one query. */
QR_DEVICE merged merge_states(const states_of_chain &states, qr_merge_shared *shared, int head_dim,
                              float scale)
{
    merged total = {0.0f, {0.0f, 0.0f}}, group = total;

    if (qr_thread_index() == 0)
        shared->total_max = shared->group_max = QR_MINUS_INFINITY;
    for (int first = 0; first < states.n; first += MERGE_STATES) {
        int n = states.n - first < MERGE_STATES ? states.n - first : MERGE_STATES;
        qr_sync_block(); /* the round before, and what is known of its states */
        find_factors(shared, states, first, n, scale);
        fold_states(&total, &group, shared, states, first, n, head_dim);
    }
    qr_sync_block(); /* `shared` may be written again */
    return total;
}

QR_DEVICE void merge_query(const qr_attend_kernel_params &p, const qr_merge_item &item, int query,
                           qr_merge_shared *shared)
{
    int64_t out = ((int64_t)item.row * p.n_heads + item.head + query) * p.head_dim;
    merged total = merge_states(states_of_chain(p, item, query), shared, p.head_dim, p.scale);
    float inverse = p.v_scale / total.l;
    for (int i = 0, element = qr_thread_index(); i < 2; i++, element += QR_ATTENTION_THREADS)
        if (element < p.head_dim)
            qr_store_activation<qr_e4m3>(p.out, (size_t)(out + element), total.o[i] * inverse,
                                         p.activation_is_bf16 != 0);
}

QR_KERNEL(qr_attn_merge, struct qr_attend_kernel_params, QR_ATTENTION_THREADS, 4)
{
    QR_SHARED(shared);
    qr_wait_for_previous_kernel();
    qr_allow_next_kernel();
    const qr_decode_list &list = p.plan->decode[p.sliding];
    const qr_merge_item *items =
        (const qr_merge_item *)((const unsigned char *)p.plan + list.merges);
    for (int work = qr_block_index(); work < list.n_merges * p.chain_queries;
         work += qr_grid_size()) {
        const qr_merge_item &item = items[work / p.chain_queries];
        if (work % p.chain_queries < item.n_queries)
            merge_query(p, item, work % p.chain_queries, (qr_merge_shared *)shared);
    }
}
