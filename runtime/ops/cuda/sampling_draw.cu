/*
 * sampling_draw.cu - a token drawn from what filters leave of a row.
 *
 * A block draws once. From a few candidates: each of them sums up the weights of those with a lower
 * id. From the row: first the sums of its parts' weights, then the part in which `uniform` falls,
 * once more, thread by thread and number by number. Sums are of doubles, in one order: a thread's
 * four neighbours, the threads of a warp, the warps, the parts. Where two orders of one sum differ
 * by a rounding, the last place that is not beyond the mark has it, and never a token of weight 0.
 */
#include "runtime/ops/cuda/sampling_filter.cuh"

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

/* The sums of all parts, which all threads can read; their sum. */
QR_DEVICE double sum_parts(const weighed_row &row, left_tokens left, int n_parts,
                           draw_shared *shared)
{
    int thread = qr_thread_index();
    float weight[DRAW_N];
    double total = 0;

    for (int part = 0; part < n_parts; part++) {
        double sum = qr_warp_reduce<qr_sum>(weigh(row, part, left, weight).mass);
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
    for (int i = 0; i < n_parts; i++)
        total += shared->parts[i];
    return total;
}

/* total: of sum_parts with the same that is left. */
QR_DEVICE void draw_from_row(const weighed_row &row, left_tokens left, int n_parts,
                             const qr_select_draw &draw, double total, draw_shared *shared,
                             qr_select_drawn *out)
{
    int thread = qr_thread_index();
    float weight[DRAW_N];
    double before;

    double target = draw.uniform * total;
    int part = find_part(shared, n_parts, target, &before);
    double sum = weigh(row, part, left, weight).mass;
    shared->threads[thread] = sum;
    qr_sync_block();
    double mass = before + sum_before(shared, part);
    int chosen = qr_block_reduce<qr_largest, DRAW_WARPS>(sum > 0 && mass <= target ? thread : -1,
                                                         shared->reduce_last);
    if (thread != chosen)
        return;
    int drawn = 0;
    for (int i = 0; i < DRAW_N && (i == 0 || mass <= target); i++) {
        mass += (double)weight[i];
        if (weight[i] > 0.0f)
            drawn = i;
    }
    drawn += part * QR_DRAW_PART + thread * DRAW_N;
    *out = qr_select_drawn{row.logits[drawn], drawn, row.logits[drawn]};
}

/* From the first n of the candidates. */
QR_DEVICE void draw_candidate(const weighed_row &row, int n, const qr_select_draw &draw,
                              draw_shared *shared, qr_select_drawn *out)
{
    int i = qr_thread_index();
    int id = i < n ? shared->candidate_id[i] : -1;
    double total = 0;
    double before = 0;

    for (int j = 0; j < n; j++) {
        double weight = shared->candidate_weight[j];
        total += weight;
        before += shared->candidate_id[j] < id ? weight : 0;
    }
    bool can_be = i < n && shared->candidate_weight[i] > 0 && before <= draw.uniform * total;
    int chosen = qr_block_reduce<qr_largest, DRAW_WARPS>(can_be ? id : -1, shared->reduce_last);
    if (can_be && id == chosen)
        *out = qr_select_drawn{row.logits[id], id, row.logits[id]};
}

QR_KERNEL(qr_draw, struct qr_draw_params, QR_SELECT_THREADS, 2)
{
    QR_SHARED(memory);
    draw_shared *shared = (draw_shared *)memory;
    qr_select_drawn *out = p.drawn + qr_block_index();
    int n_parts = (p.vocab_size + QR_DRAW_PART - 1) / QR_DRAW_PART;
    int n_selected = p.k < p.vocab_size ? p.k : p.vocab_size;

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    qr_select_draw draw = p.draws[qr_block_index()];
    size_t index = (size_t)draw.row;
    qr_selected_head head = *(const qr_selected_head *)((const unsigned char *)p.selected +
                                                        index * (size_t)p.selected_bytes);
    if (head.invalid != 0 || head.largest == qr_bits_float(0xff800000u)) {
        if (qr_thread_index() == 0)
            *out = qr_select_drawn{0.0f, -1, 0.0f};
        return; /* all threads do */
    }
    const weighed_row row = {qr_logits_of(p, index), p.vocab_size, head.largest,
                             1.44269504f / draw.temperature};
    left_tokens left = {1, 0.0f};
    bool by_mass = draw.top_p < 1.0f || draw.min_p > 0.0f;
    bool by_count = draw.top_k > 0;
    double total = 0;
    if (!by_count) /* else the total is that of the largest top_k */
        total = sum_parts(row, left, n_parts, shared);
    if (by_count ? draw.top_k <= QR_SELECT_MAX_K : by_mass) {
        int n = by_count && draw.top_k < n_selected ? draw.top_k : n_selected;
        weigh_candidates(row, p.candidates + index * (size_t)p.k, n, shared);
        for (int i = 0; i < n && by_count; i++)
            total += shared->candidate_weight[i];
        int n_left = filter_candidates(shared, draw, n, by_count || n == p.vocab_size, total);
        if (n_left > 0) { /* the same in all threads */
            draw_candidate(row, n_left, draw, shared, out);
            return;
        }
    }
    if (by_count || by_mass) {
        left = filter_row(row, draw, shared);
        total = sum_parts(row, left, n_parts, shared);
    }
    draw_from_row(row, left, n_parts, draw, total, shared, out);
}
