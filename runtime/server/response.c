/* response.c - see response.h for the contract. */
#include "runtime/server/response.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"

/* The block behind `logprobs`, cut into its arrays. */
struct logprob_arrays {
    Quire__V1__TokenLogprobs **pointers; /* [n_events]: prompt tokens first, as they came */
    Quire__V1__TokenLogprobs *tokens;    /* [n_events] */
    Quire__V1__TopLogprob **top_pointers;
    Quire__V1__TopLogprob *tops; /* of all tokens, one after another */
};

static enum qr_status allocate_logprobs(const struct qr_response_part *part, void **block,
                                        struct logprob_arrays *arrays)
{
    size_t n_events = (size_t)part->n_events;
    size_t n_tops = 0;

    for (int32_t i = 0; i < part->n_events; i++)
        n_tops += (size_t)part->events[i].sampled.n_top;
    /* All of these hold pointers, so one after another stays aligned. */
    size_t token_bytes = sizeof(*arrays->pointers) + sizeof(*arrays->tokens);
    size_t top_bytes = sizeof(*arrays->top_pointers) + sizeof(*arrays->tops);
    *block = qr_malloc(QR_ARENA_NETWORK, n_events * token_bytes + n_tops * top_bytes);
    if (*block == NULL)
        return QR_ERR_NOMEM;
    arrays->pointers = *block;
    arrays->tokens = (void *)(arrays->pointers + n_events);
    arrays->top_pointers = (void *)(arrays->tokens + n_events);
    arrays->tops = (void *)(arrays->top_pointers + n_tops);
    return QR_OK;
}

/* Fills in one token's entry; returns how many of `tops` it took. */
static size_t fill_logprobs(const struct qr_sampled *sampled, Quire__V1__TokenLogprobs *token,
                            Quire__V1__TopLogprob **top_pointers, Quire__V1__TopLogprob *tops)
{
    quire__v1__token_logprobs__init(token);
    token->token_id = (uint32_t)sampled->token_id;
    token->logprob = sampled->logprob;
    token->n_top = (size_t)sampled->n_top;
    token->top = top_pointers;
    for (int32_t i = 0; i < sampled->n_top; i++) {
        quire__v1__top_logprob__init(&tops[i]);
        tops[i].token_id = (uint32_t)sampled->top[i].token_id;
        tops[i].logprob = sampled->top[i].logprob;
        top_pointers[i] = &tops[i];
    }
    return token->n_top;
}

static enum qr_status build_logprobs(struct qr_response *response,
                                     const struct qr_response_part *part, size_t n_prompt)
{
    struct logprob_arrays arrays;
    size_t n_tops = 0;

    if (part->n_events == 0 || (n_prompt == 0 && !part->wants_logprobs))
        return QR_OK;
    QR_TRY(allocate_logprobs(part, &response->logprobs, &arrays));
    for (int32_t i = 0; i < part->n_events; i++) {
        arrays.pointers[i] = &arrays.tokens[i];
        n_tops += fill_logprobs(&part->events[i].sampled, &arrays.tokens[i],
                                arrays.top_pointers + n_tops, arrays.tops + n_tops);
    }
    response->message.n_prompt_logprobs = n_prompt;
    response->message.prompt_logprobs = arrays.pointers;
    if (part->wants_logprobs) {
        response->message.n_logprobs = (size_t)part->n_events - n_prompt;
        response->message.logprobs = arrays.pointers + n_prompt;
    }
    return QR_OK;
}

void qr_duration_from_ns(Google__Protobuf__Duration *duration, int64_t ns)
{
    google__protobuf__duration__init(duration);
    duration->seconds = ns / QR_NS_PER_SEC;
    duration->nanos = (int32_t)(ns % QR_NS_PER_SEC);
}

static void build_timings(struct qr_response *response, const struct qr_timings *timings)
{
    quire__v1__timings__init(&response->timings);
    qr_duration_from_ns(&response->queue_time, timings->queue_ns);
    qr_duration_from_ns(&response->total_time, timings->total_ns);
    response->timings.queue_time = &response->queue_time;
    response->timings.total_time = &response->total_time;
    if (timings->first_token_ns > 0) {
        qr_duration_from_ns(&response->time_to_first_token, timings->first_token_ns);
        response->timings.time_to_first_token = &response->time_to_first_token;
    }
}

static void build_usage(struct qr_response *response, const struct qr_usage *usage)
{
    Quire__V1__Usage *message = &response->usage;

    quire__v1__usage__init(message);
    message->prompt_tokens = (uint32_t)usage->n_prompt_tokens;
    message->output_tokens = (uint32_t)usage->n_output_tokens;
    message->cached_prompt_tokens = (uint32_t)usage->n_cached_tokens;
    message->uncached_prompt_tokens = (uint32_t)(usage->n_prompt_tokens - usage->n_cached_tokens);
    message->preemptions = (uint32_t)qr_usage_preemptions(usage);
    message->swaps = (uint32_t)usage->n_swapped;
    message->recomputations = (uint32_t)usage->n_recomputed;
    message->parkings = (uint32_t)usage->n_parked;
    message->kv_pages = (uint32_t)usage->n_pages;
}

static void build_finish(struct qr_response *response, const struct qr_finish *finish)
{
    Quire__V1__Finish *message = &response->finish;

    quire__v1__finish__init(message);
    message->reason = finish->reason == QR_FINISH_STOP
                          ? QUIRE__V1__FINISH_REASON__FINISH_REASON_STOP
                          : QUIRE__V1__FINISH_REASON__FINISH_REASON_LENGTH;
    if (finish->stop_string >= 0) {
        message->stopped_by_case = QUIRE__V1__FINISH__STOPPED_BY_STOP_INDEX;
        message->stop_index = (uint32_t)finish->stop_string;
    } else if (finish->stop_token_id >= 0) {
        message->stopped_by_case = QUIRE__V1__FINISH__STOPPED_BY_STOP_TOKEN_ID;
        message->stop_token_id = (uint32_t)finish->stop_token_id;
    }
    message->seed = finish->seed;
    message->cumulative_logprob = finish->sum_logprob;
    build_usage(response, &finish->usage);
    message->usage = &response->usage;
    build_timings(response, &finish->timings);
    message->timings = &response->timings;
    response->message.finish = message;
}

enum qr_status qr_response_build(struct qr_response *response, const struct qr_response_part *part)
{
    size_t n_prompt = 0;

    QR_ASSERT(part->n_events <= QR_RESPONSE_MAX_TOKENS);
    quire__v1__generate_response__init(&response->message);
    response->logprobs = NULL;
    response->message.sequence = part->sequence;
    response->message.output_index = (uint32_t)part->output;
    response->message.token_ids = response->token_ids;
    for (int32_t i = 0; i < part->n_events; i++) {
        if (part->events[i].is_prompt)
            n_prompt++; /* the prompt's all come before the output's */
        else
            response->token_ids[response->message.n_token_ids++] =
                (uint32_t)part->events[i].sampled.token_id;
    }
    response->message.text.data = (uint8_t *)part->text;
    response->message.text.len = part->n_text_bytes;
    if (part->finish != NULL)
        build_finish(response, part->finish);
    return build_logprobs(response, part, n_prompt);
}

void qr_response_release(struct qr_response *response)
{
    qr_free(response->logprobs);
}
