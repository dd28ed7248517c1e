/*
 * sampling_draw.cu - a token drawn from a whole row of logits by a temperature.
 *
 * A block takes a row: first the sums of e^((logit - largest) / temperature) over its parts, then
 * the part in which `uniform` falls, once more, thread by thread and number by number. Sums are of
 * doubles, in one order: a thread's 16 neighbours, the threads of a warp, the warps, the parts.
 * Where two orders of one sum differ by a rounding, the last place that is not beyond the mark has
 * it, and never a token of weight 0.
 */
#include "runtime/ops/cuda/block_reduce.cuh"
#include "runtime/ops/cuda/select_params.h"

enum { DRAW_WARPS = QR_SELECT_THREADS / 32, N = QR_SELECT_PER_THREAD };

struct draw_shared {
    double reduce[2][DRAW_WARPS];
    double threads[QR_SELECT_THREADS];
    double warps[DRAW_WARPS];
    double parts[QR_SELECT_MAX_PARTS];
    int last[DRAW_WARPS];
};

/* What its tokens are weighed with. */
struct scale {
    float largest;
    float factor; /* log2 e / temperature */
};

/* Weights of the thread's neighbours of the part that begins at `first`; their sum. */
QR_DEVICE double weigh(const qr_draw_params &p, const float *row, int first, scale s, float *weight)
{
    int at = first + qr_thread_index() * N;
    double sum = 0;

    QR_UNROLL
    for (int i = 0; i < N; i++) {
        float logit = at + i < p.vocab_size ? row[at + i] : qr_bits_float(0xff800000u);
        bool counts = logit != qr_bits_float(0xff800000u);
        weight[i] = counts ? qr_exp2(qr_mul(logit - s.largest, s.factor)) : 0.0f;
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
QR_DEVICE double sum_before(const draw_shared *shared)
{
    int thread = qr_thread_index();
    double sum = 0;

    for (int warp = 0; warp < thread / 32; warp++)
        sum += shared->warps[warp];
    for (int other = thread / 32 * 32; other < thread; other++)
        sum += shared->threads[other];
    return sum;
}

QR_KERNEL(qr_draw, struct qr_draw_params, QR_SELECT_THREADS, 2)
{
    QR_SHARED(memory);
    draw_shared *shared = (draw_shared *)memory;
    size_t index = (size_t)qr_block_index();
    const float *row = p.logits + index * (size_t)p.vocab_size;
    unsigned char *out = (unsigned char *)p.out + index * (size_t)p.out_bytes;
    qr_selected_head *head = (qr_selected_head *)out;
    int thread = qr_thread_index();
    float weight[N];
    double total = 0;

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    qr_select_draw wish = p.draws[index];
    qr_selected_head found = *head;
    if (wish.temperature == 0.0f || found.invalid != 0 ||
        found.largest == qr_bits_float(0xff800000u))
        return; /* all threads do */
    scale s = {found.largest, 1.44269504f / wish.temperature};
    for (int part = 0; part * QR_SELECT_PART < p.vocab_size; part++) {
        double sum = weigh(p, row, part * QR_SELECT_PART, s, weight);
        sum = qr_block_reduce<qr_sum, DRAW_WARPS>(sum, shared->reduce[part % 2]);
        if (thread == 0)
            shared->parts[part] = sum;
        total += sum;
    }
    qr_sync_block();
    double target = wish.uniform * total;
    double before;
    int n_parts = (p.vocab_size + QR_SELECT_PART - 1) / QR_SELECT_PART;
    int first = find_part(shared, n_parts, target, &before) * QR_SELECT_PART;

    double sum = weigh(p, row, first, s, weight);
    shared->threads[thread] = sum;
    double warp_sum = qr_warp_reduce<qr_sum>(sum);
    if (thread % 32 == 0)
        shared->warps[thread / 32] = warp_sum;
    qr_sync_block();
    double mass = before + sum_before(shared);
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
    drawn += first + thread * N;
    head->drawn_logit = row[drawn];
    head->drawn_id = drawn;
}
