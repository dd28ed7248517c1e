/*
 * kernels_select.inc.h - what is drawn from a row of logits (selection.h), found where the logits
 * are; included by kernels.inc.h.
 *
 * The largest are kept in a heap with the worst of them on top, which blocks of the row that have
 * nothing better pass by. Sums of e^x have one order: lanes over a chunk, then the chunks.
 */
enum {
    SELECT_BLOCK = 4 * QR_LANES,
    SELECT_CHUNK = 64 * QR_LANES, /* longer sums of floats would lose bits */
};

/* The largest so far; [n] with the worst first, a heap. */
struct best {
    struct qr_token_logit *tokens;
    int32_t n;
    int32_t n_wanted;
};

QR_INLINE bool is_worse(struct qr_token_logit a, struct qr_token_logit b)
{
    return a.logit < b.logit || (a.logit == b.logit && a.token_id > b.token_id);
}

/* Puts `token` where it belongs in the heap of n below the place `at`, which is free. */
static void sift_down(struct qr_token_logit *heap, int32_t n, int32_t at,
                      struct qr_token_logit token)
{
    for (int32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && is_worse(heap[child + 1], heap[child]))
            child++;
        if (!is_worse(heap[child], token))
            break;
        heap[at] = heap[child];
    }
    heap[at] = token;
}

static void sift_up(struct qr_token_logit *heap, int32_t at, struct qr_token_logit token)
{
    for (; at > 0 && is_worse(token, heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = token;
}

/* Tokens come by ascending id: of equal ones the first stay. */
static void take_better(struct best *best, const float *logits, int32_t first, int32_t last)
{
    for (int32_t id = first; id < last; id++) {
        struct qr_token_logit token = {.logit = logits[id], .token_id = id};
        if (best->n < best->n_wanted)
            sift_up(best->tokens, best->n++, token);
        else if (token.logit > best->tokens[0].logit)
            sift_down(best->tokens, best->n, 0, token);
    }
}

static void sort_best(struct best *best)
{
    for (int32_t n = best->n - 1; n > 0; n--) {
        struct qr_token_logit worst = best->tokens[0];
        sift_down(best->tokens, n, 0, best->tokens[n]);
        best->tokens[n] = worst;
    }
}

/* Also the largest logit of the row; a NaN is passed over. */
static float find_best(const float *logits, int32_t vocab_size, struct best *best)
{
    qr_f32x16 largest = qr_f32x16_set1(-INFINITY);
    int32_t id = 0;

    for (; id + SELECT_BLOCK <= vocab_size; id += SELECT_BLOCK) {
        qr_f32x16 block = qr_f32x16_set1(-INFINITY);
        for (int i = 0; i < SELECT_BLOCK; i += QR_LANES)
            block = qr_f32x16_max(qr_f32x16_load(logits + id + i), block);
        largest = qr_f32x16_max(block, largest);
        if (best->n < best->n_wanted ||
            (best->n > 0 && qr_f32x16_reduce_max(block) > best->tokens[0].logit))
            take_better(best, logits, id, id + SELECT_BLOCK);
    }
    float found = qr_f32x16_reduce_max(largest);
    if (best->n_wanted > 0)
        take_better(best, logits, id, vocab_size);
    for (; id < vocab_size; id++)
        found = logits[id] > found ? logits[id] : found;
    return found;
}

/* Length of the chunk that begins at `first`. */
QR_INLINE int32_t chunk_at(int32_t first, int32_t vocab_size)
{
    return vocab_size - first < SELECT_CHUNK ? vocab_size - first : SELECT_CHUNK;
}

/* Of e^(logit - largest); NaN if one is. */
static float sum_exp(const float *logits, int32_t vocab_size, float largest)
{
    qr_f32x16 offset = qr_f32x16_set1(largest);
    double total = 0;

    for (int32_t first = 0; first < vocab_size; first += SELECT_CHUNK) {
        int32_t last = first + chunk_at(first, vocab_size);
        qr_f32x16 sum = qr_f32x16_zero();
        int32_t id = first;
        for (; id + QR_LANES <= last; id += QR_LANES)
            sum = qr_f32x16_add(sum,
                                qr_f32x16_exp(qr_f32x16_sub(qr_f32x16_load(logits + id), offset)));
        if (id < last) {
            float rest[QR_LANES];
            for (int32_t i = 0; i < QR_LANES; i++)
                rest[i] = id + i < last ? logits[id + i] : -INFINITY;
            sum = qr_f32x16_add(sum, qr_f32x16_exp(qr_f32x16_sub(qr_f32x16_load(rest), offset)));
        }
        total += (double)qr_f32x16_reduce_add(sum);
    }
    return (float)total;
}

/* Of e^((logit - largest) / temperature) over a chunk, into weights [SELECT_CHUNK] as well. */
static double weigh_chunk(const float *logits, int32_t n, float largest, float temperature,
                          float *weights)
{
    qr_f32x16 offset = qr_f32x16_set1(largest);
    qr_f32x16 divisor = qr_f32x16_set1(temperature);
    qr_f32x16 sum = qr_f32x16_zero();

    for (int32_t i = 0; i < n; i += QR_LANES) {
        int count = lanes_left(i, n);
        qr_f32x16 below = qr_f32x16_sub(qr_f32x16_load_partial(logits + i, count), offset);
        qr_f32x16_store(weights + i, qr_f32x16_exp(qr_f32x16_div(below, divisor)));
        for (int lane = count; lane < QR_LANES; lane++)
            weights[i + lane] = 0;
        sum = qr_f32x16_add(sum, qr_f32x16_load(weights + i));
    }
    return (double)qr_f32x16_reduce_add(sum);
}

/* The first token with which the weights of a chunk exceed `target`; rounding may leave it short of
 * that: then the last one that has any. */
static int32_t find_in_chunk(const float *weights, int32_t n, double target)
{
    double mass = 0;
    int32_t last = 0;

    for (int32_t i = 0; i < n; i++) {
        mass += (double)weights[i];
        last = weights[i] > 0 ? i : last;
        if (target < mass)
            break;
    }
    return last;
}

static double sum_weights(const float *logits, int32_t vocab_size, float largest, float temperature)
{
    float weights[SELECT_CHUNK];
    double total = 0;

    for (int32_t first = 0; first < vocab_size; first += SELECT_CHUNK)
        total +=
            weigh_chunk(logits + first, chunk_at(first, vocab_size), largest, temperature, weights);
    return total;
}

/* total: the row's sum_weights. */
static struct qr_drawn_token draw(const float *logits, int32_t vocab_size, float largest,
                                  double total, float temperature, double uniform)
{
    float weights[SELECT_CHUNK];
    double mass = 0, mass_before = 0;
    int32_t chosen = 0; /* the chunk where it falls; by rounding, the last with any weight */

    double target = uniform * total;
    for (int32_t first = 0; first < vocab_size && target >= mass; first += SELECT_CHUNK) {
        double sum =
            weigh_chunk(logits + first, chunk_at(first, vocab_size), largest, temperature, weights);
        if (sum > 0) {
            chosen = first;
            mass_before = mass;
        }
        mass += sum;
    }
    int32_t n = chunk_at(chosen, vocab_size);
    weigh_chunk(logits + chosen, n, largest, temperature, weights);
    int32_t id = chosen + find_in_chunk(weights, n, target - mass_before);
    return (struct qr_drawn_token){.logit = logits[id], .token_id = id, .unedited = logits[id]};
}

static void select_tokens(const float *logits, int32_t vocab_size, struct qr_logit_wish wish,
                          struct qr_token_logit *tokens, struct qr_drawn_token *drawn,
                          struct qr_selection *out)
{
    struct best best = {.tokens = tokens, .n_wanted = wish.n_tokens};
    float largest = find_best(logits, vocab_size, &best);

    sort_best(&best);
    *out = (struct qr_selection){
        .largest = largest,
        .sum_exp = largest > -INFINITY ? sum_exp(logits, vocab_size, largest) : 0,
        .token_logit = wish.token_id >= 0 ? logits[wish.token_id] : 0,
        .n = best.n,
        .tokens = tokens,
        .drawn = drawn,
    };
    out->invalid = largest == INFINITY || isnan(out->sum_exp);
    bool draws = qr_filter_leaves_all(&wish.filter);
    if (out->invalid || largest == -INFINITY || !(draws || qr_filter_is_by_mass(&wish.filter)))
        return;
    out->sum_weights = sum_weights(logits, vocab_size, largest, wish.filter.temperature);
    out->n_drawn = draws ? wish.n_draws : 0;
    for (int32_t i = 0; i < out->n_drawn; i++)
        drawn[i] = draw(logits, vocab_size, largest, out->sum_weights, wish.filter.temperature,
                        wish.uniforms[i]);
}
