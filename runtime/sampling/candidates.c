/* candidates.c - see candidates.h for the contract. */
#include "runtime/sampling/candidates.h"

#include <math.h>
#include <stdbool.h>

#include "base/alloc.h"

struct qr_candidates {
    int32_t vocab_size;
    int32_t count;
    int32_t *ids;    /* [vocab_size] the first `count` are kept, descending; behind them a heap
                        grows down from the end while filtering */
    double *weights; /* [vocab_size] e^((logit - largest) / temperature) of ids[i] */
};

enum qr_status qr_candidates_create(int32_t vocab_size, struct qr_candidates **out)
{
    *out = NULL;
    struct qr_candidates *candidates = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*candidates));
    if (candidates == NULL)
        return QR_ERR_NOMEM;
    candidates->vocab_size = vocab_size;
    candidates->ids = qr_malloc(QR_ARENA_ENGINE, (size_t)vocab_size * sizeof(int32_t));
    candidates->weights = qr_malloc(QR_ARENA_ENGINE, (size_t)vocab_size * sizeof(double));
    if (candidates->ids == NULL || candidates->weights == NULL) {
        qr_candidates_destroy(candidates);
        return QR_ERR_NOMEM;
    }
    *out = candidates;
    return QR_OK;
}

void qr_candidates_destroy(struct qr_candidates *candidates)
{
    if (candidates == NULL)
        return;
    qr_free(candidates->weights);
    qr_free(candidates->ids);
    qr_free(candidates);
}

/* A max-heap of ids by logit; of equal ones the lower id is on top. */
struct heap {
    const float *logits;
    int32_t *ids;
    int32_t count;
};

static bool ranks_before(const struct heap *heap, int32_t a, int32_t b)
{
    if (heap->logits[a] != heap->logits[b])
        return heap->logits[a] > heap->logits[b];
    return a < b;
}

static void sift_down(struct heap *heap, int32_t at)
{
    for (;;) {
        int32_t child = 2 * at + 1;
        if (child >= heap->count)
            return;
        if (child + 1 < heap->count && ranks_before(heap, heap->ids[child + 1], heap->ids[child]))
            child++;
        if (!ranks_before(heap, heap->ids[child], heap->ids[at]))
            return;
        int32_t swapped = heap->ids[at];
        heap->ids[at] = heap->ids[child];
        heap->ids[child] = swapped;
        at = child;
    }
}

/* The largest moves behind the heap's end, as in heap sort. */
static int32_t pop(struct heap *heap)
{
    int32_t top = heap->ids[0];

    heap->ids[0] = heap->ids[--heap->count];
    heap->ids[heap->count] = top;
    sift_down(heap, 0);
    return top;
}

static void make_heap(struct heap *heap)
{
    for (int32_t at = heap->count / 2 - 1; at >= 0; at--)
        sift_down(heap, at);
}

/* Popped ids stand at the end, the largest last: brings them to the front, largest first. */
static void reverse(int32_t *ids, int32_t n)
{
    for (int32_t i = 0; i < n / 2; i++) {
        int32_t swapped = ids[i];
        ids[i] = ids[n - 1 - i];
        ids[n - 1 - i] = swapped;
    }
}

static double weight_of(float logit, float largest, float temperature)
{
    return exp(((double)logit - (double)largest) / (double)temperature);
}

/* Sum of all weights, in the order of the ids. */
static double total_weight(const float *logits, int32_t n, float largest, float temperature)
{
    double total = 0;

    for (int32_t i = 0; i < n; i++)
        total += weight_of(logits[i], largest, temperature);
    return total;
}

/* Pops until top-k, the mass of top-p, or min-p ends it; the weights go to candidates->weights. */
static int32_t pop_kept(struct qr_candidates *candidates, struct heap *heap,
                        const struct qr_candidate_filter *filter, double needed_mass)
{
    float largest = heap->logits[heap->ids[0]];
    int32_t limit = filter->top_k > 0 && filter->top_k < heap->count ? filter->top_k : heap->count;
    double mass = 0;
    int32_t n = 0;

    while (n < limit && mass < needed_mass) {
        double weight = weight_of(heap->logits[heap->ids[0]], largest, filter->temperature);
        /* The likeliest has weight 1, so min-p is a bound on the weight itself. */
        if (weight == 0 || weight < (double)filter->min_p)
            break;
        pop(heap);
        candidates->weights[n++] = weight;
        mass += weight;
    }
    return n;
}

/* After top-k: the shortest prefix that makes up top_p of what top-k left. */
static int32_t cut_top_p(const struct qr_candidates *candidates, int32_t n, float top_p)
{
    double total = 0;
    double mass = 0;
    int32_t kept = 0;

    for (int32_t i = 0; i < n; i++)
        total += candidates->weights[i];
    while (kept < n && mass < (double)top_p * total)
        mass += candidates->weights[kept++];
    return kept;
}

void qr_candidates_filter(struct qr_candidates *candidates, const float *logits,
                          const struct qr_candidate_filter *filter)
{
    int32_t vocab_size = candidates->vocab_size;
    struct heap heap = {.logits = logits, .ids = candidates->ids, .count = vocab_size};
    bool has_top_k = filter->top_k > 0 && filter->top_k < vocab_size;
    double needed_mass = INFINITY;

    for (int32_t i = 0; i < vocab_size; i++)
        candidates->ids[i] = i;
    make_heap(&heap);
    if (filter->top_p < 1 && !has_top_k)
        needed_mass = (double)filter->top_p *
                      total_weight(logits, vocab_size, logits[heap.ids[0]], filter->temperature);
    struct qr_candidate_filter pops = *filter;
    if (has_top_k && filter->top_p < 1)
        pops.min_p = 0; /* top-p looks at all that top-k left; min-p comes after it */
    int32_t n = pop_kept(candidates, &heap, &pops, needed_mass);
    reverse(candidates->ids, vocab_size);
    if (has_top_k && filter->top_p < 1) {
        n = cut_top_p(candidates, n, filter->top_p);
        while (n > 1 && candidates->weights[n - 1] < (double)filter->min_p)
            n--;
    }
    candidates->count = n;
}

int32_t qr_candidates_draw(const struct qr_candidates *candidates, double uniform)
{
    double total = 0;

    for (int32_t i = 0; i < candidates->count; i++)
        total += candidates->weights[i];
    double target = uniform * total;
    double mass = 0;
    for (int32_t i = 0; i < candidates->count - 1; i++) {
        mass += candidates->weights[i];
        if (target < mass)
            return candidates->ids[i];
    }
    return candidates->ids[candidates->count - 1];
}

int32_t qr_candidates_count(const struct qr_candidates *candidates)
{
    return candidates->count;
}

int32_t qr_candidates_id(const struct qr_candidates *candidates, int32_t index)
{
    return candidates->ids[index];
}
