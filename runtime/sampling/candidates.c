/* candidates.c - see candidates.h for the contract. */
#include "runtime/sampling/candidates.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"

enum { LEVELS = 3, BUCKETS = 2048 };

/* The bits of a key that each level of the selection looks at: 11, 11 and 10. */
static const int level_shift[LEVELS] = {21, 10, 0};
static const uint32_t level_mask[LEVELS] = {0x7ff, 0x7ff, 0x3ff};

struct qr_candidates {
    int32_t vocab_size;
    int32_t count;
    int32_t *ids;         /* [vocab_size] the first `count` are left, ascending */
    double *weights;      /* [vocab_size] e^((logit - largest) / temperature) of ids[i] */
    double sums[BUCKETS]; /* of one level; 0 outside of */
    int32_t first_bucket; /* these, which few candidates keep few */
    int32_t last_bucket;
};

enum qr_status qr_candidates_create(int32_t vocab_size, struct qr_candidates **out)
{
    *out = NULL;
    struct qr_candidates *candidates = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*candidates));
    if (candidates == NULL)
        return QR_ERR_NOMEM;
    candidates->vocab_size = vocab_size;
    candidates->last_bucket = -1;
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

/* Orders as the logits do; the two zeros are equal. */
static uint32_t key_of(float logit)
{
    uint32_t bits;

    logit += 0.0f;
    memcpy(&bits, &logit, sizeof(bits));
    return (bits >> 31) != 0 ? ~bits : bits | UINT32_C(0x80000000);
}

/* Where a selection ends: what is above `key` makes up `reached`, the equals fill the rest. */
struct cut {
    uint32_t key;
    double reached;
};

/* Sums up by bucket those candidates whose key begins with `prefix`; 1 each without weights. */
static void sum_buckets(struct qr_candidates *candidates, const float *logits,
                        const double *weights, int level, uint32_t prefix)
{
    uint32_t known = level == 0 ? 0 : UINT32_MAX << level_shift[level - 1];
    int32_t first = BUCKETS, last = -1;

    for (int32_t b = candidates->first_bucket; b <= candidates->last_bucket; b++)
        candidates->sums[b] = 0;
    for (int32_t i = 0; i < candidates->count; i++) {
        uint32_t key = key_of(logits[candidates->ids[i]]);
        if ((key & known) != prefix)
            continue;
        int32_t bucket = (int32_t)(key >> level_shift[level] & level_mask[level]);
        candidates->sums[bucket] += weights == NULL ? 1.0 : weights[i];
        first = bucket < first ? bucket : first;
        last = bucket > last ? bucket : last;
    }
    candidates->first_bucket = first;
    candidates->last_bucket = last;
}

static struct cut find_cut(struct qr_candidates *candidates, const float *logits,
                           const double *weights, double needed)
{
    struct cut cut = {0, 0.0};

    for (int level = 0; level < LEVELS; level++) {
        sum_buckets(candidates, logits, weights, level, cut.key);
        double above = cut.reached;
        uint32_t bucket = 0;
        /* Where rounding leaves the sum short of `needed`, the lowest bucket is the end. */
        for (int32_t b = candidates->last_bucket; b >= candidates->first_bucket; b--) {
            double sum = candidates->sums[b];
            if (sum == 0)
                continue;
            bucket = (uint32_t)b;
            cut.reached = above;
            above += sum;
            if (above >= needed)
                break;
        }
        cut.key |= bucket << level_shift[level];
    }
    return cut;
}

/*
 * Keeps the largest candidates until their weights (or their number, without weights)
 * reach `needed`, the one that reaches it included.
 */
static void keep_largest(struct qr_candidates *candidates, const float *logits, double *weights,
                         double needed)
{
    struct cut cut = find_cut(candidates, logits, weights, needed);
    int32_t n = 0;

    for (int32_t i = 0; i < candidates->count; i++) {
        uint32_t key = key_of(logits[candidates->ids[i]]);
        if (key < cut.key || (key == cut.key && cut.reached >= needed))
            continue;
        double weight = weights == NULL ? 1.0 : weights[i];
        if (key == cut.key)
            cut.reached += weight;
        if (weights != NULL)
            weights[n] = weight;
        candidates->ids[n++] = candidates->ids[i];
    }
    candidates->count = n;
}

/* The likeliest has weight 1, so min-p is a bound on the weight itself. */
static void keep_likely(struct qr_candidates *candidates, double min_p)
{
    int32_t n = 0;

    for (int32_t i = 0; i < candidates->count; i++) {
        if (candidates->weights[i] == 0 || candidates->weights[i] < min_p)
            continue;
        candidates->weights[n] = candidates->weights[i];
        candidates->ids[n++] = candidates->ids[i];
    }
    candidates->count = n;
}

static float start_with_all(struct qr_candidates *candidates, const float *logits)
{
    float largest = -INFINITY;
    int32_t n = 0;

    for (int32_t id = 0; id < candidates->vocab_size; id++) {
        if (logits[id] == -INFINITY)
            continue;
        largest = logits[id] > largest ? logits[id] : largest;
        candidates->ids[n++] = id;
    }
    candidates->count = n;
    return largest;
}

static float start_with_some(struct qr_candidates *candidates, const int32_t *token_ids, int32_t n,
                             const float *logits)
{
    float largest = -INFINITY;

    candidates->count = 0;
    for (int32_t i = 0; i < n; i++) {
        float logit = logits[token_ids[i]];
        if (logit == -INFINITY)
            continue;
        largest = logit > largest ? logit : largest;
        candidates->ids[candidates->count++] = token_ids[i];
    }
    return largest;
}

static void apply_filter(struct qr_candidates *candidates, const float *logits, float largest,
                         const struct qr_candidate_filter *filter)
{
    double total = 0;

    if (filter->top_k > 0 && filter->top_k < candidates->count)
        keep_largest(candidates, logits, NULL, filter->top_k);
    for (int32_t i = 0; i < candidates->count; i++) {
        double below = (double)logits[candidates->ids[i]] - (double)largest;
        candidates->weights[i] = exp(below / (double)filter->temperature);
        total += candidates->weights[i];
    }
    if (filter->top_p < 1)
        keep_largest(candidates, logits, candidates->weights, (double)filter->top_p * total);
    keep_likely(candidates, (double)filter->min_p);
}

void qr_candidates_filter(struct qr_candidates *candidates, const float *logits,
                          const struct qr_candidate_filter *filter)
{
    apply_filter(candidates, logits, start_with_all(candidates, logits), filter);
}

void qr_candidates_filter_some(struct qr_candidates *candidates, const int32_t *token_ids,
                               int32_t n, const float *logits,
                               const struct qr_candidate_filter *filter)
{
    apply_filter(candidates, logits, start_with_some(candidates, token_ids, n, logits), filter);
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
