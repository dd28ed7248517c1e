/*
 * sampling.cu - the best k of each row of logits, its largest logit and the sum of its
 * exponentials, in one reading of the logits.
 *
 * qr_select_part: a block takes 8192 logits of a row into registers and leaves its k best and its
 * sums. qr_select_merge: a block takes the candidates of all parts of a row. Both find the k-th
 * largest number bit by bit from the top: a bit of it is 1 when at least k numbers are as large as
 * what is known so far with this bit set. That takes at most 64 counts, without a histogram whose
 * few busy buckets would be contended, and ends early when a count is k.
 */
#include "runtime/ops/cuda/block_reduce.cuh"
#include "runtime/ops/cuda/float_key.cuh"
#include "runtime/ops/cuda/load_logits.cuh"
#include "runtime/ops/cuda/select_params.h"

enum { SELECT_WARPS = QR_SELECT_THREADS / 32, N = QR_SELECT_PER_THREAD };

struct select_shared {
    float reduce_float[2][SELECT_WARPS];
    int reduce_count[2][SELECT_WARPS];
    uint32_t reduce_key[SELECT_WARPS];
    int n_found;
    int padding[3];
    qr_select_key found[QR_SELECT_MAX_K];
};

/* How many of all threads' numbers with a bit in `among` are at least `bound`. `turn` alternates
 * between calls that have no barrier between them. */
QR_DEVICE int count_from(const uint32_t *value, uint32_t among, uint32_t bound, int turn,
                         select_shared *shared)
{
    int count = 0;

    QR_UNROLL
    for (int i = 0; i < N; i++)
        count += (among >> i & 1u) != 0 && value[i] >= bound;
    return qr_block_reduce<qr_sum, SELECT_WARPS>(count, shared->reduce_count[turn % 2]);
}

struct cut {
    uint32_t bound;
    int n_from; /* numbers that are at least `bound`, `needed` or more */
};

/* The largest bound that leaves `needed` numbers, or, found sooner, one that leaves exactly as
 * many. There are that many. largest: no number is larger. */
QR_DEVICE cut find_cut(const uint32_t *value, uint32_t among, uint32_t largest, int needed,
                       select_shared *shared)
{
    cut best = {0, -1};

    for (int bit = 31; bit >= 0 && best.n_from != needed; bit--) {
        uint32_t bound = best.bound | 1u << bit;
        if (bound > largest) {
            qr_sync_block(); /* the next bit counted may have the last one's turn */
            continue;
        }
        int n_from = count_from(value, among, bound, bit, shared);
        if (n_from >= needed)
            best = cut{bound, n_from};
    }
    if (best.n_from < 0) /* no bit was set: all numbers are at least 0 */
        best.n_from = count_from(value, among, 0, 1, shared);
    qr_sync_block(); /* the counters are used again */
    return best;
}

/* The `needed` best of the block's candidates (logit key, low word) into shared->found, in no
 * order. A candidate is one whose logit key is not 0, and there are `needed` of them or more;
 * largest: of the logit keys. */
QR_DEVICE void find_best(const uint32_t *high, const uint32_t *low, uint32_t largest, int needed,
                         select_shared *shared)
{
    cut first = find_cut(high, 0xffffu, largest, needed, shared);
    cut second = {0, 0}; /* of the low words of those that are equal to the bound */
    uint32_t equal = 0;

    if (first.n_from > needed) {
        QR_UNROLL
        for (int i = 0; i < N; i++)
            equal |= (high[i] == first.bound ? 1u : 0u) << i;
        int n_equal = count_from(high, equal, 0, 0, shared);
        qr_sync_block();
        second = find_cut(low, equal, 0xffffffffu, needed - (first.n_from - n_equal), shared);
    }
    if (qr_thread_index() == 0)
        shared->n_found = 0;
    qr_sync_block();
    QR_UNROLL
    for (int i = 0; i < N; i++) {
        bool wanted = (equal >> i & 1u) != 0 ? low[i] >= second.bound : high[i] >= first.bound;
        if (wanted && high[i] != 0)
            shared->found[qr_atomic_add(&shared->n_found, 1)] =
                (qr_select_key)high[i] << 32 | low[i];
    }
    qr_sync_block();
}

/* Four logits at a time of the part that starts at `first`; -inf past the end. */
QR_DEVICE void load_part(const float *row, int vocab_size, int first, float *logit, int *id)
{
    QR_UNROLL
    for (int i = 0; i < N; i += 4) {
        int at = first + (i / 4 * QR_SELECT_THREADS + qr_thread_index()) * 4;
        qr_load_logits(row, vocab_size, at, logit + i);
        QR_UNROLL
        for (int j = 0; j < 4; j++)
            id[i + j] = at + j;
    }
}

QR_KERNEL(qr_select_part, struct qr_select_params, QR_SELECT_THREADS, 2)
{
    const float log2_e = 1.44269504f;
    const float infinity = qr_bits_float(0x7f800000u);
    QR_SHARED(memory);
    select_shared *shared = (select_shared *)memory;
    int part = qr_block_index_y();
    int first = part * QR_SELECT_PART;
    int size = p.vocab_size - first < QR_SELECT_PART ? p.vocab_size - first : QR_SELECT_PART;
    int needed = p.k < size ? p.k : size;
    size_t row = (size_t)qr_block_index();
    float logit[N];
    int id[N];
    uint32_t high[N];
    uint32_t low[N];
    uint32_t best = 0;
    bool invalid = false;

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    load_part(qr_logits_of(p, row), p.vocab_size, first, logit, id);
    QR_UNROLL
    for (int i = 0; i < N; i++) {
        invalid = invalid || !(logit[i] < infinity);
        high[i] = id[i] < p.vocab_size ? qr_float_key(logit[i]) : 0;
        low[i] = ~(uint32_t)id[i];
        best = high[i] > best ? high[i] : best;
    }
    best = qr_block_reduce<qr_largest, SELECT_WARPS>(best, shared->reduce_key);
    float largest = qr_key_float(best);
    float sum = 0.0f;
    QR_UNROLL
    for (int i = 0; i < N; i++)
        sum += logit[i] == -infinity ? 0.0f : qr_exp2((logit[i] - largest) * log2_e);
    sum = qr_block_reduce<qr_sum, SELECT_WARPS>(sum, shared->reduce_float[0]);
    int n_invalid = qr_block_reduce<qr_sum, SELECT_WARPS>(invalid ? 1 : 0, shared->reduce_count[0]);
    qr_sync_block();
    find_best(high, low, best, needed, shared);

    size_t slot = row * (size_t)p.n_parts + (size_t)part;
    if (qr_thread_index() == 0)
        p.sums[slot] = qr_select_sums{largest, sum, n_invalid != 0, 0};
    for (int i = qr_thread_index(); i < p.k; i += QR_SELECT_THREADS)
        p.keys[slot * (size_t)p.k + (size_t)i] = i < needed ? shared->found[i] : 0;
}

/* The sums of the parts, which the first warp adds up, a lane for each part. */
QR_DEVICE qr_selected_head merge_sums(const qr_select_params &p, size_t row)
{
    const float log2_e = 1.44269504f;
    const float infinity = qr_bits_float(0x7f800000u);
    int lane = qr_thread_index();
    qr_select_sums part = {-infinity, 0.0f, 0, 0};

    if (lane < p.n_parts)
        part = p.sums[row * (size_t)p.n_parts + (size_t)lane];
    float largest = qr_warp_reduce<qr_largest>(part.largest);
    float factor = part.largest == -infinity ? 0.0f : qr_exp2((part.largest - largest) * log2_e);
    float sum = qr_warp_reduce<qr_sum>(qr_mul(part.sum_exp, factor));
    int invalid = qr_warp_reduce<qr_sum>(part.invalid);
    int32_t id = p.token_ids != nullptr ? p.token_ids[row] : -1;
    float token_logit = id >= 0 ? qr_logits_of(p, row)[id] : 0.0f;
    return qr_selected_head{largest, sum, token_logit, invalid != 0};
}

QR_KERNEL(qr_select_merge, struct qr_select_params, QR_SELECT_THREADS, 2)
{
    QR_SHARED(memory);
    select_shared *shared = (select_shared *)memory;
    size_t row = (size_t)qr_block_index();
    int n_keys = p.n_parts * p.k;
    int needed = p.k < p.vocab_size ? p.k : p.vocab_size;
    unsigned char *out = (unsigned char *)p.out + row * (size_t)p.out_bytes;
    qr_select_candidate *told = (qr_select_candidate *)(out + sizeof(qr_selected_head));
    qr_select_candidate *candidates = p.candidates + row * (size_t)p.k;
    uint32_t high[N];
    uint32_t low[N];
    uint32_t best = 0;

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    QR_UNROLL
    for (int i = 0; i < N; i++) {
        int at = i * QR_SELECT_THREADS + qr_thread_index();
        qr_select_key key = at < n_keys ? p.keys[row * (size_t)n_keys + (size_t)at] : 0;
        high[i] = (uint32_t)(key >> 32);
        low[i] = (uint32_t)key;
        best = high[i] > best ? high[i] : best;
    }
    best = qr_block_reduce<qr_largest, SELECT_WARPS>(best, shared->reduce_key);
    find_best(high, low, best, needed, shared);
    if (qr_thread_index() < 32) {
        qr_selected_head head = merge_sums(p, row);
        if (qr_thread_index() == 0)
            *(qr_selected_head *)out = head;
    }
    /* Keys are all different: a candidate's place is the number of better ones. */
    for (int i = qr_thread_index(); i < p.k; i += QR_SELECT_THREADS) {
        qr_select_candidate candidate = {qr_bits_float(0xff800000u), -1};
        int place = i;
        if (i < needed) {
            qr_select_key key = shared->found[i];
            candidate = {qr_key_float((uint32_t)(key >> 32)), (int32_t) ~(uint32_t)key};
            place = 0;
            for (int j = 0; j < needed; j++)
                place += shared->found[j] > key;
        }
        candidates[place] = candidate;
        if (place < p.n_told)
            told[place] = candidate;
    }
}
