/*
 * attn_merge.cu - folds the states of chains that were cut, in ascending order, into the output;
 * and the parts of shared prefixes into the states that decode goes on from.
 *
 * A block takes one query of one chain. The maximum so far is known for each state beforehand (a
 * prefix maximum is exact in any order), and with it both factors of each fold; what is left of the
 * fixed order is one multiply-add an element and state. Bytes: 4 * (head_dim + 2) a state and
 * query, mostly still in the second-level cache.
 */
#include "attention/cuda/split.cuh"

enum { MERGE_STATES = QR_ATTENTION_THREADS }; /* whose factors are known at a time */

/* Factors of states [0, n) of this round; `sum` points at the (m, l) of the query in each. */
QR_DEVICE void find_factors(qr_merge_shared *at, const float *sum, int64_t state_floats, int n,
                            float scale)
{
    int thread = qr_thread_index(), lane = thread & 31;
    float m = QR_MINUS_INFINITY, l = 0.0f;
    if (thread < n) {
        m = sum[thread * state_floats];
        l = sum[thread * state_floats + 1];
    }
    float before = QR_MINUS_INFINITY, max = m; /* of the states below and up to this one */
    for (int x = 1; x < 32; x <<= 1) {
        float other = qr_shuffle(max, (lane - x) & 31);
        if (lane >= x)
            max = qr_max(max, other);
    }
    before = qr_shuffle(max, (lane - 1) & 31);
    if (lane == 0)
        before = QR_MINUS_INFINITY;
    if (lane == 31)
        at->warp_max[thread >> 5] = max;
    qr_sync_block();
    for (int warp = 0; warp < thread >> 5; warp++) {
        before = qr_max(before, at->warp_max[warp]);
        max = qr_max(max, at->warp_max[warp]);
    }
    before = qr_max(before, at->max_so_far);
    max = qr_max(max, at->max_so_far);
    at->total_factor[thread] = qr_rescale(before, max, scale);
    at->split_factor[thread] = qr_rescale(m, max, scale);
    at->l[thread] = l;
    qr_sync_block(); /* all have read max_so_far */
    if (thread == MERGE_STATES - 1)
        at->max_so_far = max;
}

/* Of one query, element by element: this thread's, and those QR_ATTENTION_THREADS further on. */
struct merged {
    float m, l, o[2];
};

QR_DEVICE merged merge_query(const qr_attend_kernel_params &p, int first_state, int n_states,
                             int query, qr_merge_shared *at)
{
    const float *state = p.states + (int64_t)first_state * p.state_floats;
    merged sum = {QR_MINUS_INFINITY, 0.0f, {0.0f, 0.0f}};
    int thread = qr_thread_index();

    if (thread == 0)
        at->max_so_far = QR_MINUS_INFINITY;
    qr_sync_block();
    for (int first = 0; first < n_states; first += MERGE_STATES) {
        int n = n_states - first < MERGE_STATES ? n_states - first : MERGE_STATES;
        const float *round = state + first * p.state_floats;
        find_factors(at, round + p.chain_queries * p.head_dim + 2 * query, p.state_floats, n,
                     p.scale);
        QR_UNROLL
        for (int i = 0; i < n; i++) {
            float a = at->total_factor[i], b = at->split_factor[i];
            const float *from = round + i * p.state_floats + query * p.head_dim;
            sum.l = qr_fold(sum.l, a, at->l[i], b);
            if (thread < p.head_dim)
                sum.o[0] = qr_fold(sum.o[0], a, from[thread], b);
            if (thread + QR_ATTENTION_THREADS < p.head_dim)
                sum.o[1] = qr_fold(sum.o[1], a, from[thread + QR_ATTENTION_THREADS], b);
        }
        qr_sync_block();
    }
    sum.m = at->max_so_far;
    qr_sync_block(); /* all have read it */
    return sum;
}

QR_DEVICE void merge_output(const qr_attend_kernel_params &p, const qr_merge_item &item, int query,
                            qr_merge_shared *at)
{
    merged sum = merge_query(p, item.first_state, item.n_states, query, at);
    float inverse = p.v_scale / sum.l;
    int64_t out = ((int64_t)item.row * p.n_heads + item.head + query) * p.head_dim;
    for (int i = 0, element = qr_thread_index(); i < 2; i++, element += QR_ATTENTION_THREADS)
        if (element < p.head_dim)
            qr_store_activation<qr_e4m3>(p.out, (size_t)(out + element), sum.o[i] * inverse,
                                         p.activation_is_bf16 != 0);
}

QR_DEVICE void merge_prefix(const qr_attend_kernel_params &p, const qr_cascade_row &row, int chain,
                            int query, qr_merge_shared *at)
{
    merged sum = merge_query(p, row.parts + chain * row.n_parts, row.n_parts, query, at);
    float *to = p.states + (int64_t)(row.state + chain) * p.state_floats;
    for (int i = 0, element = qr_thread_index(); i < 2; i++, element += QR_ATTENTION_THREADS)
        if (element < p.head_dim)
            to[query * p.head_dim + element] = sum.o[i];
    if (qr_thread_index() == 0) {
        to[p.chain_queries * p.head_dim + 2 * query] = sum.m;
        to[p.chain_queries * p.head_dim + 2 * query + 1] = sum.l;
    }
}

QR_DEVICE void merge_prefixes(const qr_attend_kernel_params &p, qr_merge_shared *shared)
{
    const qr_cascade_row *rows =
        (const qr_cascade_row *)((const unsigned char *)p.plan + p.plan->cascade_rows);
    int parts = (p.group + p.chain_queries - 1) / p.chain_queries; /* chains of a KV head */
    int n_chains = parts * p.n_kv_heads;
    int n_work = p.plan->n_cascade_rows * n_chains * p.chain_queries;
    for (int work = qr_block_index(); work < n_work; work += qr_grid_size()) {
        int query = work % p.chain_queries, chain = work / p.chain_queries % n_chains;
        const qr_cascade_row &row = rows[work / p.chain_queries / n_chains];
        int n_queries = p.group - chain % parts * p.chain_queries;
        if (row.n_parts > 1 && query < n_queries)
            merge_prefix(p, row, chain, query, shared);
    }
}

QR_KERNEL(qr_attn_merge, struct qr_attend_kernel_params, QR_ATTENTION_THREADS, 8)
{
    QR_SHARED(shared);
    qr_wait_for_previous_kernel();
    qr_allow_next_kernel();
    if (p.is_cascade) {
        merge_prefixes(p, (qr_merge_shared *)shared);
        return;
    }
    const qr_decode_list &list = p.plan->decode[p.sliding];
    const qr_merge_item *items =
        (const qr_merge_item *)((const unsigned char *)p.plan + list.merges);
    for (int work = qr_block_index(); work < list.n_merges * p.chain_queries;
         work += qr_grid_size()) {
        const qr_merge_item &item = items[work / p.chain_queries];
        if (work % p.chain_queries < item.n_queries)
            merge_output(p, item, work % p.chain_queries, (qr_merge_shared *)shared);
    }
}
