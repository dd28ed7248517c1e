/*
 * stop_matcher.c - see stop_matcher.h for the contract.
 *
 * Held bytes are always a suffix of the text so far from which a stop string can
 * still begin; each new byte is looked at together with them.
 */
#include "runtime/sampling/stop_matcher.h"

#include <string.h>

void qr_stop_matcher_init(struct qr_stop_matcher *matcher, const char *const *stops,
                          int32_t n_stops)
{
    *matcher = (struct qr_stop_matcher){.n_stops = n_stops};
    for (int32_t i = 0; i < n_stops; i++) {
        matcher->stops[i] = stops[i];
        matcher->stop_bytes[i] = strlen(stops[i]);
    }
}

/* The longest stop string that stands whole at `text`, or -1. */
static int32_t whole_stop(const struct qr_stop_matcher *matcher, const char *text, size_t n_bytes)
{
    int32_t best = -1;

    for (int32_t i = 0; i < matcher->n_stops; i++) {
        size_t length = matcher->stop_bytes[i];
        if (length <= n_bytes && memcmp(text, matcher->stops[i], length) == 0 &&
            (best < 0 || length > matcher->stop_bytes[best]))
            best = i;
    }
    return best;
}

/* Can more bytes make a stop string, longer than `n_bytes`, of what stands at `text`? */
static bool may_become_stop(const struct qr_stop_matcher *matcher, const char *text, size_t n_bytes)
{
    for (int32_t i = 0; i < matcher->n_stops; i++) {
        if (matcher->stop_bytes[i] > n_bytes && memcmp(text, matcher->stops[i], n_bytes) == 0)
            return true;
    }
    return false;
}

/* Moves the first n held bytes to `out`. */
static size_t release(struct qr_stop_matcher *matcher, size_t n, char *out)
{
    memcpy(out, matcher->held, n);
    matcher->n_held -= n;
    memmove(matcher->held, matcher->held + n, matcher->n_held);
    return n;
}

/*
 * Settles the held bytes as far as they can be: releases those from which nothing can
 * begin. With `ended`, nothing more will come. The index of a match, or -1.
 */
static int32_t settle(struct qr_stop_matcher *matcher, bool ended, char *out, size_t *n_released)
{
    while (matcher->n_held > 0) {
        if (!ended && may_become_stop(matcher, matcher->held, matcher->n_held))
            return -1;
        int32_t match = whole_stop(matcher, matcher->held, matcher->n_held);
        if (match >= 0)
            return match;
        *n_released += release(matcher, 1, out + *n_released);
    }
    return -1;
}

/* After a match: the matched string is released or dropped, and so is the rest. */
static void end_text(struct qr_stop_matcher *matcher, bool include_stop,
                     struct qr_stop_result *result, char *out)
{
    size_t length = include_stop ? matcher->stop_bytes[result->matched] : 0;

    result->n_released += release(matcher, length, out + result->n_released);
    matcher->n_held = 0;
}

struct qr_stop_result qr_stop_matcher_push(struct qr_stop_matcher *matcher, const char *text,
                                           size_t n_bytes, bool include_stop, char *out)
{
    struct qr_stop_result result = {.matched = -1};

    for (size_t i = 0; i < n_bytes && result.matched < 0; i++) {
        matcher->held[matcher->n_held++] = text[i];
        result.matched = settle(matcher, false, out, &result.n_released);
    }
    if (result.matched >= 0)
        end_text(matcher, include_stop, &result, out);
    return result;
}

struct qr_stop_result qr_stop_matcher_flush(struct qr_stop_matcher *matcher, bool include_stop,
                                            char *out)
{
    struct qr_stop_result result = {.matched = -1};

    result.matched = settle(matcher, true, out, &result.n_released);
    if (result.matched >= 0)
        end_text(matcher, include_stop, &result, out);
    return result;
}
