/* generation.c - see generation.h for the contract. */
#include "runtime/engine/generation.h"

#include <string.h>

#include "base/assert.h"
#include "runtime/engine/group.h"

static bool contains(const int32_t *ids, int32_t count, int32_t id)
{
    for (int32_t i = 0; i < count; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

int32_t qr_generation_n_output(const struct qr_generation *seq)
{
    return seq->n_tokens - seq->group->request->n_prompt;
}

void qr_generation_copy(struct qr_generation *seq, const struct qr_generation *parent)
{
    size_t n_output = (size_t)qr_generation_n_output(parent);

    memcpy(seq->tokens, parent->tokens, (size_t)parent->n_tokens * sizeof(*seq->tokens));
    seq->n_tokens = parent->n_tokens;
    seq->n_scored = parent->n_scored;
    seq->n_said = parent->n_said;
    seq->sum_logprob = parent->sum_logprob;
    seq->detokenizer = parent->detokenizer;
    seq->stop_matcher = parent->stop_matcher;
    seq->score = parent->score;
    if (seq->counts != NULL)
        qr_token_counts_copy(seq->counts, parent->counts);
    if (seq->logprobs != NULL)
        memcpy(seq->logprobs, parent->logprobs, n_output * sizeof(*seq->logprobs));
    if (seq->tops != NULL)
        memcpy(seq->tops, parent->tops, n_output * (size_t)seq->n_top * sizeof(*seq->tops));
}

void qr_generation_push_scored(struct qr_generation *seq, const struct qr_sampled *scored)
{
    struct qr_token_event event = {.is_prompt = true, .sampled = *scored};

    seq->n_scored++;
    qr_stream_push(seq->group->stream, 0, &event, NULL);
}

static void record(struct qr_generation *seq, int32_t at, const struct qr_sampled *sampled)
{
    seq->logprobs[at] = sampled->logprob;
    if (seq->tops != NULL)
        memcpy(seq->tops + (size_t)at * (size_t)seq->n_top, sampled->top,
               (size_t)seq->n_top * sizeof(*seq->tops));
}

void qr_generation_append(struct qr_generation *seq, const struct qr_sampled *sampled)
{
    QR_ASSERT(seq->n_tokens < seq->group->max_tokens);
    if (seq->logprobs != NULL)
        record(seq, qr_generation_n_output(seq), sampled);
    seq->tokens[seq->n_tokens++] = sampled->token_id;
    seq->sum_logprob += (double)sampled->logprob;
}

/* The text that token number n_said completes, past the stop matcher, in *text; true when a
 * stop string matched. */
static bool token_text(struct qr_generation *seq, int32_t id, const char **text, size_t *n_bytes)
{
    struct qr_group *group = seq->group;
    const struct qr_request *request = group->request;

    *text = group->text;
    *n_bytes = qr_detokenizer_push(&seq->detokenizer, id, group->text);
    if (request->n_stop_strings == 0 || seq->n_said < request->min_tokens)
        return false;
    char *released = group->text + group->text_bytes;
    struct qr_stop_result result = qr_stop_matcher_push(&seq->stop_matcher, group->text, *n_bytes,
                                                        request->include_stop, released);
    *text = released;
    *n_bytes = result.n_released;
    if (result.matched < 0)
        return false;
    seq->finish.reason = QR_FINISH_STOP;
    seq->finish.stop_string = result.matched;
    return true;
}

bool qr_generation_say(struct qr_generation *seq, const struct qr_sampled *sampled)
{
    const struct qr_group *group = seq->group;
    const struct qr_request *request = group->request;
    int32_t id = sampled->token_id;
    const char *text = NULL;
    size_t n_bytes = 0;

    seq->n_said++;
    /* Before min_tokens they are banned: one that comes is an end. */
    bool ends_here = contains(group->stop_ids, group->n_stop_ids, id);
    if (ends_here) {
        seq->finish.reason = QR_FINISH_STOP;
        seq->finish.stop_token_id = id;
    }
    /* A stop token is not part of the text, unless it was asked for. */
    if (!ends_here || request->include_stop)
        ends_here |= token_text(seq, id, &text, &n_bytes);
    if (!ends_here && request->n_prompt + seq->n_said == group->max_tokens) {
        seq->finish.reason = QR_FINISH_LENGTH;
        ends_here = true;
    }
    if (seq->output >= 0) {
        struct qr_token_event event = {.n_bytes = (uint32_t)n_bytes, .sampled = *sampled};
        qr_stream_push(group->stream, seq->output, &event, text);
    }
    return ends_here;
}

void qr_generation_begin_output(struct qr_generation *seq, int32_t output)
{
    seq->output = output;
    seq->n_said = 0;
    seq->finish = (struct qr_finish){.stop_string = -1, .stop_token_id = -1};
    qr_group_begin_text(seq->group, seq);
}

bool qr_generation_say_more(struct qr_generation *seq)
{
    const struct qr_group *group = seq->group;
    int32_t n_output = qr_generation_n_output(seq);

    while (seq->n_said < n_output) {
        if (!qr_stream_has_room(group->stream, seq->output))
            return false;
        int32_t at = seq->n_said;
        struct qr_sampled sampled = {
            .token_id = seq->tokens[group->request->n_prompt + at],
            .logprob = seq->logprobs[at],
            .n_top = seq->n_top,
        };
        if (seq->tops != NULL)
            memcpy(sampled.top, seq->tops + (size_t)at * (size_t)seq->n_top,
                   (size_t)seq->n_top * sizeof(*seq->tops));
        bool ends = qr_generation_say(seq, &sampled);
        QR_ASSERT(ends == (at + 1 == n_output)); /* as it did when it was withheld */
    }
    return true;
}

/* What the detokenizer and the stop matcher still hold; a stop string may be in it. */
static size_t held_text(struct qr_generation *seq, struct qr_finish *finish, char *out)
{
    char *text = seq->group->text;
    bool include_stop = seq->group->request->include_stop;
    size_t n_bytes = qr_detokenizer_flush(&seq->detokenizer, text);
    struct qr_stop_result result =
        qr_stop_matcher_push(&seq->stop_matcher, text, n_bytes, include_stop, out);
    size_t n_released = result.n_released;

    if (result.matched < 0) {
        result = qr_stop_matcher_flush(&seq->stop_matcher, include_stop, out + n_released);
        n_released += result.n_released;
    }
    finish->stop_string = result.matched;
    if (result.matched >= 0 && finish->reason == QR_FINISH_LENGTH)
        finish->reason = QR_FINISH_STOP;
    return n_released;
}

void qr_generation_finish(struct qr_generation *seq, struct qr_finish *finish)
{
    char *text = seq->group->text + seq->group->text_bytes;
    size_t n_bytes = finish->stop_string < 0 ? held_text(seq, finish, text) : 0;

    finish->usage.n_output_tokens = qr_generation_n_output(seq);
    finish->seed = seq->sampling.seed;
    finish->sum_logprob = seq->sum_logprob;
    qr_stream_finish(seq->group->stream, seq->output, finish, text, n_bytes);
}
