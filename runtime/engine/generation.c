/* generation.c - see generation.h for the contract. */
#include "runtime/engine/generation.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

enum { STREAM_TOKENS = 64 }; /* events that may wait for a slow reader */

/* Most text that one token, or the end, can release. */
static size_t max_text_bytes(const struct qr_tokenizer *tokenizer)
{
    return qr_tokenizer_max_push_bytes(tokenizer) + QR_MAX_STOP_BYTES;
}

static bool contains(const int32_t *ids, int32_t count, int32_t id)
{
    for (int32_t i = 0; i < count; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

/* A prompt of nothing but special tokens starts a text; any other is continued. */
static bool prompt_has_text(const struct qr_request *request, const struct qr_tokenizer *tokenizer)
{
    for (int32_t i = 0; i < request->n_prompt; i++) {
        if (!qr_tokenizer_is_special(tokenizer, request->prompt_ids[i]))
            return true;
    }
    return false;
}

static int32_t total_tokens(const struct qr_request *request, int32_t max_seq_tokens)
{
    if (request->score_only)
        return request->n_prompt;
    int32_t room = max_seq_tokens - request->n_prompt;
    if (request->max_tokens == QR_MAX_TOKENS_TO_CONTEXT || request->max_tokens > room)
        return max_seq_tokens;
    return request->n_prompt + request->max_tokens;
}

static enum qr_status allocate(struct qr_generation *seq,
                               const struct qr_generation_context *context)
{
    const struct qr_request *request = seq->request;
    size_t n_banned = QR_MODEL_MAX_EOS + (size_t)request->n_stop_token_ids;

    seq->max_tokens_total = total_tokens(request, context->max_seq_tokens);
    seq->tokens = qr_malloc(QR_ARENA_REQUEST, (size_t)seq->max_tokens_total * sizeof(*seq->tokens));
    seq->banned = qr_malloc(QR_ARENA_REQUEST, n_banned * sizeof(*seq->banned));
    /* A pushed token passes through the detokenizer into the first half, then through
     * the stop matcher into the second. */
    seq->text = qr_malloc(QR_ARENA_REQUEST, 2 * max_text_bytes(context->tokenizer));
    return seq->tokens == NULL || seq->banned == NULL || seq->text == NULL ? QR_ERR_NOMEM : QR_OK;
}

static void fill_banned(struct qr_generation *seq, const struct qr_model_config *config)
{
    const struct qr_request *request = seq->request;

    if (!request->ignore_eos) {
        for (int32_t i = 0; i < config->n_eos; i++)
            seq->banned[seq->n_banned++] = config->eos_ids[i];
    }
    for (int32_t i = 0; i < request->n_stop_token_ids; i++)
        seq->banned[seq->n_banned++] = request->stop_token_ids[i];
}

enum qr_status qr_generation_create(const struct qr_generation_context *context,
                                    struct qr_request *request, int64_t now_ns,
                                    struct qr_generation **out, struct qr_stream **stream)
{
    *out = NULL;
    *stream = NULL;
    struct qr_generation *seq = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*seq));
    if (seq == NULL)
        return QR_ERR_NOMEM;
    seq->request = request;
    seq->slot = -1;
    seq->queued = true;
    seq->submit_ns = now_ns;
    seq->n_scored = 1; /* nothing comes before the first token, so it has no probability */
    if (allocate(seq, context) != QR_OK)
        goto fail;
    memcpy(seq->tokens, request->prompt_ids, (size_t)request->n_prompt * sizeof(*seq->tokens));
    seq->n_tokens = request->n_prompt;
    fill_banned(seq, context->config);
    qr_detokenizer_init(&seq->detokenizer, context->tokenizer, !request->show_special,
                        prompt_has_text(request, context->tokenizer));
    qr_stop_matcher_init(&seq->stop_matcher, (const char *const *)request->stop_strings,
                         request->n_stop_strings);

    struct qr_stream_config config = {
        /* All scores of a prompt can come in one step. */
        .token_capacity = STREAM_TOKENS + (request->score_prompt ? request->n_prompt : 0),
        .max_bytes_per_token = max_text_bytes(context->tokenizer),
        .bell = context->bell,
        .group = context->group,
        .owner = context->owner,
    };
    if (qr_stream_create(&config, &seq->stream) != QR_OK)
        goto fail;
    *stream = seq->stream;
    *out = seq;
    return QR_OK;

fail:
    seq->request = NULL; /* still the caller's */
    qr_generation_destroy(seq);
    return QR_ERR_NOMEM;
}

void qr_generation_destroy(struct qr_generation *seq)
{
    if (seq == NULL)
        return;
    qr_request_destroy(seq->request);
    qr_free(seq->tokens);
    qr_free(seq->banned);
    qr_free(seq->text);
    qr_free(seq);
}

int32_t qr_generation_n_output(const struct qr_generation *seq)
{
    return seq->n_tokens - seq->request->n_prompt;
}

void qr_generation_push_scored(struct qr_generation *seq, const struct qr_sampled *scored)
{
    struct qr_token_event event = {.is_prompt = true, .sampled = *scored};

    seq->n_scored++;
    qr_stream_push(seq->stream, &event, NULL);
    qr_stream_mark_ready(seq->stream);
}

static bool is_stop_token(const struct qr_generation *seq, const struct qr_model_config *config,
                          int32_t id)
{
    const struct qr_request *request = seq->request;

    if (contains(request->stop_token_ids, request->n_stop_token_ids, id))
        return true;
    return !request->ignore_eos && contains(config->eos_ids, config->n_eos, id);
}

/* The text that `id` completes, past the stop matcher, in *text; true when a stop string matched.
 */
static bool token_text(struct qr_generation *seq, int32_t id, const char **text, size_t *n_bytes,
                       struct qr_finish *finish)
{
    const struct qr_request *request = seq->request;

    *text = seq->text;
    *n_bytes = qr_detokenizer_push(&seq->detokenizer, id, seq->text);
    if (request->n_stop_strings == 0 || qr_generation_n_output(seq) < request->min_tokens)
        return false;
    char *released = seq->text + max_text_bytes(seq->detokenizer.tok);
    struct qr_stop_result result = qr_stop_matcher_push(&seq->stop_matcher, seq->text, *n_bytes,
                                                        request->include_stop, released);
    *text = released;
    *n_bytes = result.n_released;
    if (result.matched < 0)
        return false;
    finish->reason = QR_FINISH_STOP;
    finish->stop_string = result.matched;
    return true;
}

bool qr_generation_push_token(struct qr_generation *seq, const struct qr_model_config *config,
                              const struct qr_sampled *sampled, int64_t now_ns,
                              struct qr_finish *finish)
{
    int32_t id = sampled->token_id;
    const char *text = NULL;
    size_t n_bytes = 0;

    QR_ASSERT(seq->n_tokens < seq->max_tokens_total);
    *finish = (struct qr_finish){.stop_string = -1, .stop_token_id = -1};
    seq->tokens[seq->n_tokens++] = id;
    if (seq->first_token_ns == 0)
        seq->first_token_ns = now_ns;

    bool ends_here = is_stop_token(seq, config, id);
    if (ends_here) {
        finish->reason = QR_FINISH_STOP;
        finish->stop_token_id = id;
    }
    /* A stop token is not part of the text, unless it was asked for. */
    if (!ends_here || seq->request->include_stop)
        ends_here |= token_text(seq, id, &text, &n_bytes, finish);
    if (!ends_here && seq->n_tokens == seq->max_tokens_total) {
        finish->reason = QR_FINISH_LENGTH;
        ends_here = true;
    }

    struct qr_token_event event = {.n_bytes = (uint32_t)n_bytes, .sampled = *sampled};
    qr_stream_push(seq->stream, &event, text);
    qr_stream_mark_ready(seq->stream);
    return ends_here;
}

/* What the detokenizer and the stop matcher still hold; a stop string may be in it. */
static size_t held_text(struct qr_generation *seq, struct qr_finish *finish, char *out)
{
    bool include_stop = seq->request->include_stop;
    size_t n_bytes = qr_detokenizer_flush(&seq->detokenizer, seq->text);
    struct qr_stop_result result =
        qr_stop_matcher_push(&seq->stop_matcher, seq->text, n_bytes, include_stop, out);
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

void qr_generation_finish(struct qr_generation *seq, struct qr_finish *finish,
                          int32_t n_preemptions, int64_t now_ns)
{
    char *text = seq->text + max_text_bytes(seq->detokenizer.tok);
    size_t n_bytes = finish->stop_string < 0 ? held_text(seq, finish, text) : 0;

    finish->usage = (struct qr_usage){
        .n_prompt_tokens = seq->request->n_prompt,
        .n_output_tokens = qr_generation_n_output(seq),
        .n_preemptions = n_preemptions,
        .n_pages = seq->peak_pages,
    };
    finish->timings = (struct qr_timings){
        .queue_ns = seq->first_plan_ns > 0 ? seq->first_plan_ns - seq->submit_ns : 0,
        .first_token_ns = seq->first_token_ns > 0 ? seq->first_token_ns - seq->submit_ns : 0,
        .total_ns = now_ns - seq->submit_ns,
    };
    qr_stream_finish(seq->stream, finish, text, n_bytes);
    seq->stream = NULL;
}
