/*
 * sampling_draw.cu - the sum of a whole row's weights by a temperature, and a token drawn by it.
 *
 * A block takes a row: first the sums of e^((logit - largest) / temperature) over its parts, then,
 * for a draw, the part in which `uniform` falls, once more, thread by thread and number by number.
 * Sums are of doubles, in one order: a thread's four neighbours, the threads of a warp, the warps,
 * the parts. Where two orders of one sum differ by a rounding, the last place that is not beyond
 * the mark has it, and never a token of weight 0.
 */
#include "runtime/ops/cuda/block_reduce.cuh"
#include "runtime/ops/cuda/load_logits.cuh"
#include "runtime/ops/cuda/select_params.h"

enum { DRAW_WARPS = QR_SELECT_THREADS / 32, N = QR_DRAW_PER_THREAD };

struct draw_shared {
    double warps[QR_DRAW_MAX_PARTS][DRAW_WARPS];
    double parts[QR_DRAW_MAX_PARTS];
    double threads[QR_SELECT_THREADS]; /* of the part where the mark falls */
    int last[DRAW_WARPS];
};

/* What its tokens are weighed with. */
struct scale {
    float largest;
    float factor; /* log2 e / temperature */
};

/* Weights of the thread's neighbours of a part; their sum. */
QR_DEVICE double weigh(const qr_draw_params &p, const float *row, int part, scale s, float *weight)
{
    float logit[N];
    double sum = 0;

    qr_load_logits(row, p.vocab_size, part * QR_DRAW_PART + qr_thread_index() * N, logit);
    QR_UNROLL
    for (int i = 0; i < N; i++) {
        bool counts = logit[i] != qr_bits_float(0xff800000u);
        weight[i] = counts ? qr_exp2(qr_mul(logit[i] - s.largest, s.factor)) : 0.0f;
        sum += (double)weight[i];
    }
    return sum;
}

/* The part where the mark falls, and what comes before it. */
QR_DEVICE int find_part(const draw_shared *shared, int n_parts, double target, double *before)
{
    double mass = 0;
    int part = 0;

    *before = 0;
    for (int i = 0; i < n_parts; i++) {
        double sum = shared->parts[i];
        if (sum > 0 && mass <= target) {
            part = i;
            *before = mass;
        }
        mass += sum;
    }
    return part;
}

/* What comes before this thread, from the part's beginning on. */
QR_DEVICE double sum_before(const draw_shared *shared, int part)
{
    int thread = qr_thread_index();
    double sum = 0;

    for (int warp = 0; warp < thread / 32; warp++)
        sum += shared->warps[part][warp];
    for (int other = thread / 32 * 32; other < thread; other++)
        sum += shared->threads[other];
    return sum;
}

/* The sums of all parts, which all threads can read. */
QR_DEVICE void sum_parts(const qr_draw_params &p, const float *row, scale s, int n_parts,
                         draw_shared *shared)
{
    int thread = qr_thread_index();
    float weight[N];

    for (int part = 0; part < n_parts; part++) {
        double sum = qr_warp_reduce<qr_sum>(weigh(p, row, part, s, weight));
        if (thread % 32 == 0)
            shared->warps[part][thread / 32] = sum;
    }
    qr_sync_block();
    if (thread < n_parts) {
        double sum = 0;
        for (int warp = 0; warp < DRAW_WARPS; warp++)
            sum += shared->warps[thread][warp];
        shared->parts[thread] = sum;
    }
    qr_sync_block();
}

QR_KERNEL(qr_draw, struct qr_draw_params, QR_SELECT_THREADS, 2)
{
    QR_SHARED(memory);
    draw_shared *shared = (draw_shared *)memory;
    size_t index = (size_t)qr_block_index();
    const float *row = qr_logits_of(p, index);
    unsigned char *out = (unsigned char *)p.out + index * (size_t)p.out_bytes;
    qr_selected_head *head = (qr_selected_head *)out;
    int thread = qr_thread_index();
    int n_parts = (p.vocab_size + QR_DRAW_PART - 1) / QR_DRAW_PART;
    float weight[N];
    double total = 0;
    double before;

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    qr_select_draw wish = p.draws[index];
    qr_selected_head found = *head;
    if (wish.temperature == 0.0f || found.invalid != 0 ||
        found.largest == qr_bits_float(0xff800000u))
        return; /* all threads do */
    scale s = {found.largest, 1.44269504f / wish.temperature};
    sum_parts(p, row, s, n_parts, shared);
    for (int i = 0; i < n_parts; i++)
        total += shared->parts[i];
    if (thread == 0)
        head->sum_weights = total;
    if (wish.uniform < 0)
        return; /* all threads do */
    double target = wish.uniform * total;
    int part = find_part(shared, n_parts, target, &before);
    double sum = weigh(p, row, part, s, weight);
    shared->threads[thread] = sum;
    qr_sync_block();
    double mass = before + sum_before(shared, part);
    int chosen = qr_block_reduce<qr_largest, DRAW_WARPS>(sum > 0 && mass <= target ? thread : -1,
                                                         shared->last);
    if (thread != chosen)
        return;
    int drawn = 0;
    for (int i = 0; i < N && (i == 0 || mass <= target); i++) {
        mass += (double)weight[i];
        if (weight[i] > 0.0f)
            drawn = i;
    }
    drawn += part * QR_DRAW_PART + thread * N;
    head->drawn_logit = row[drawn];
    head->drawn_id = drawn;
}
