/* grpc_messages.c - see grpc_messages.h for the contract. */
#include "runtime/client/grpc_messages.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "proto/google/rpc/error_details.pb-c.h"
#include "proto/google/rpc/status.pb-c.h"
#include "runtime/server/message.h"

/* The messages that a request consists of while it is packed. */
struct outgoing {
    Quire__V1__GenerateRequest request;
    Quire__V1__TokenIds prompt;
    Quire__V1__SamplingOptions sampling;
    Quire__V1__StoppingOptions stopping;
    Quire__V1__OutputOptions output;
    Quire__V1__BeamSearch beam;
    Google__Protobuf__Duration objective;
    ProtobufCBinaryData stop[QR_MAX_STOP_STRINGS];
    Quire__V1__SamplingOptions__LogitBiasEntry bias[QR_MAX_LOGIT_BIAS];
    Quire__V1__SamplingOptions__LogitBiasEntry *bias_pointers[QR_MAX_LOGIT_BIAS];
};

#define SAMPLING_HAS(name) QUIRE__V1__SAMPLING_OPTIONS__HAS_##name##_##name
#define STOPPING_HAS(name) QUIRE__V1__STOPPING_OPTIONS__HAS_##name##_##name
#define OUTPUT_HAS(name)   QUIRE__V1__OUTPUT_OPTIONS__HAS_##name##_##name
#define REQUEST_HAS(name)  QUIRE__V1__GENERATE_REQUEST__HAS_##name##_##name
#define BEAM_HAS(name)     QUIRE__V1__BEAM_SEARCH__HAS_##name##_##name

static void fill_sampling(struct outgoing *out, const struct qr_sampling_params *params)
{
    Quire__V1__SamplingOptions *sampling = &out->sampling;

    quire__v1__sampling_options__init(sampling);
    sampling->has_temperature_case = SAMPLING_HAS(TEMPERATURE);
    sampling->temperature = params->temperature;
    sampling->has_top_k_case = SAMPLING_HAS(TOP_K);
    sampling->top_k = (uint32_t)params->top_k;
    sampling->has_top_p_case = SAMPLING_HAS(TOP_P);
    sampling->top_p = params->top_p;
    sampling->has_min_p_case = SAMPLING_HAS(MIN_P);
    sampling->min_p = params->min_p;
    sampling->has_repetition_penalty_case = SAMPLING_HAS(REPETITION_PENALTY);
    sampling->repetition_penalty = params->repetition_penalty;
    sampling->has_presence_penalty_case = SAMPLING_HAS(PRESENCE_PENALTY);
    sampling->presence_penalty = params->presence_penalty;
    sampling->has_frequency_penalty_case = SAMPLING_HAS(FREQUENCY_PENALTY);
    sampling->frequency_penalty = params->frequency_penalty;
    sampling->has_seed_case = SAMPLING_HAS(SEED);
    sampling->seed = params->seed;
    if (params->n_logprobs > 0) {
        sampling->has_logprobs_case = SAMPLING_HAS(LOGPROBS);
        sampling->logprobs = (uint32_t)params->n_logprobs;
    }
    for (int32_t i = 0; i < params->n_logit_bias; i++) {
        quire__v1__sampling_options__logit_bias_entry__init(&out->bias[i]);
        out->bias[i].key = (uint32_t)params->logit_bias[i].token_id;
        out->bias[i].value = params->logit_bias[i].bias;
        out->bias_pointers[i] = &out->bias[i];
    }
    sampling->n_logit_bias = (size_t)params->n_logit_bias;
    sampling->logit_bias = out->bias_pointers;
}

static void fill_stopping(struct outgoing *out, const struct qr_request *request)
{
    Quire__V1__StoppingOptions *stopping = &out->stopping;

    quire__v1__stopping_options__init(stopping);
    if (request->max_tokens != QR_MAX_TOKENS_TO_CONTEXT || request->score_only) {
        stopping->has_max_tokens_case = STOPPING_HAS(MAX_TOKENS);
        stopping->max_tokens = request->score_only ? 0 : (uint32_t)request->max_tokens;
    }
    stopping->has_min_tokens_case = STOPPING_HAS(MIN_TOKENS);
    stopping->min_tokens = (uint32_t)request->min_tokens;
    stopping->has_ignore_eos_case = STOPPING_HAS(IGNORE_EOS);
    stopping->ignore_eos = request->ignore_eos;
    stopping->has_include_stop_in_output_case = STOPPING_HAS(INCLUDE_STOP_IN_OUTPUT);
    stopping->include_stop_in_output = request->include_stop;
    for (int32_t i = 0; i < request->n_stop_strings; i++) {
        out->stop[i].data = (uint8_t *)request->stop_strings[i];
        out->stop[i].len = strlen(request->stop_strings[i]);
    }
    stopping->n_stop = (size_t)request->n_stop_strings;
    stopping->stop = out->stop;
    stopping->n_stop_token_ids = (size_t)request->n_stop_token_ids;
    stopping->stop_token_ids = (uint32_t *)request->stop_token_ids;
}

static void fill_beam(struct outgoing *out, const struct qr_beam_params *params)
{
    quire__v1__beam_search__init(&out->beam);
    out->beam.has_beam_width_case = BEAM_HAS(BEAM_WIDTH);
    out->beam.beam_width = (uint32_t)params->width;
    out->beam.has_length_penalty_case = BEAM_HAS(LENGTH_PENALTY);
    out->beam.length_penalty = params->length_penalty;
    out->beam.has_early_stopping_case = BEAM_HAS(EARLY_STOPPING);
    out->beam.early_stopping = params->early_stopping;
    out->request.beam_search = &out->beam;
}

/* What says how many outputs, for whom and when. */
static void fill_scheduling(struct outgoing *out, const struct qr_request *request)
{
    Quire__V1__GenerateRequest *message = &out->request;

    message->has_n_case = REQUEST_HAS(N);
    message->n = (uint32_t)request->n;
    if (request->best_of != 0) {
        message->has_best_of_case = REQUEST_HAS(BEST_OF);
        message->best_of = (uint32_t)request->best_of;
    }
    if (request->beam.width > 0)
        fill_beam(out, &request->beam);
    message->has_priority_case = REQUEST_HAS(PRIORITY);
    message->priority = request->priority;
    message->tenant.data = (uint8_t *)request->tenant;
    message->tenant.len = strlen(request->tenant);
    message->cache_salt.data = (uint8_t *)request->cache_salt;
    message->cache_salt.len = request->n_salt_bytes;
    if (request->first_token_ns > 0) {
        google__protobuf__duration__init(&out->objective);
        out->objective.seconds = request->first_token_ns / QR_NS_PER_SEC;
        out->objective.nanos = (int32_t)(request->first_token_ns % QR_NS_PER_SEC);
        message->first_token_objective = &out->objective;
    }
}

grpc_byte_buffer *qr_client_pack_generate(const struct qr_request *request)
{
    struct outgoing *out = qr_malloc(QR_ARENA_NETWORK, sizeof(*out));
    if (out == NULL)
        return NULL;

    quire__v1__generate_request__init(&out->request);
    out->request.request_id = (char *)request->request_id;
    quire__v1__token_ids__init(&out->prompt);
    out->prompt.n_ids = (size_t)request->n_prompt;
    out->prompt.ids = (uint32_t *)request->prompt_ids;
    out->request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TOKEN_IDS;
    out->request.token_ids = &out->prompt;
    fill_sampling(out, &request->sampling);
    out->request.sampling = &out->sampling;
    fill_stopping(out, request);
    out->request.stopping = &out->stopping;
    quire__v1__output_options__init(&out->output);
    out->output.has_show_special_tokens_case = OUTPUT_HAS(SHOW_SPECIAL_TOKENS);
    out->output.show_special_tokens = request->show_special;
    out->output.has_prompt_logprobs_case = OUTPUT_HAS(PROMPT_LOGPROBS);
    out->output.prompt_logprobs = request->score_prompt;
    out->request.output = &out->output;
    fill_scheduling(out, request);
    grpc_byte_buffer *buffer = qr_message_pack(&out->request.base);
    qr_free(out);
    return buffer;
}

static void read_logprobs(const Quire__V1__TokenLogprobs *logprobs, struct qr_sampled *sampled)
{
    size_t n_top = logprobs->n_top < QR_MAX_LOGPROBS ? logprobs->n_top : QR_MAX_LOGPROBS;

    sampled->token_id = (int32_t)logprobs->token_id;
    sampled->logprob = logprobs->logprob;
    sampled->n_top = (int32_t)n_top;
    for (size_t i = 0; i < n_top; i++) {
        sampled->top[i].token_id = (int32_t)logprobs->top[i]->token_id;
        sampled->top[i].logprob = logprobs->top[i]->logprob;
    }
}

static int64_t ns_from_duration(const Google__Protobuf__Duration *duration)
{
    return duration != NULL ? duration->seconds * QR_NS_PER_SEC + duration->nanos : 0;
}

static void read_usage(const Quire__V1__Usage *message, struct qr_usage *usage)
{
    usage->n_prompt_tokens = (int32_t)message->prompt_tokens;
    usage->n_output_tokens = (int32_t)message->output_tokens;
    usage->n_cached_tokens = (int32_t)message->cached_prompt_tokens;
    usage->n_swapped = (int32_t)message->swaps;
    usage->n_recomputed = (int32_t)message->recomputations;
    usage->n_parked = (int32_t)message->parkings;
    usage->n_pages = (int32_t)message->kv_pages;
}

static void read_finish(const Quire__V1__Finish *message, struct qr_finish *finish)
{
    *finish = (struct qr_finish){.stop_string = -1, .stop_token_id = -1};
    finish->reason = message->reason == QUIRE__V1__FINISH_REASON__FINISH_REASON_STOP
                         ? QR_FINISH_STOP
                         : QR_FINISH_LENGTH;
    if (message->stopped_by_case == QUIRE__V1__FINISH__STOPPED_BY_STOP_INDEX)
        finish->stop_string = (int32_t)message->stop_index;
    if (message->stopped_by_case == QUIRE__V1__FINISH__STOPPED_BY_STOP_TOKEN_ID)
        finish->stop_token_id = (int32_t)message->stop_token_id;
    finish->seed = message->seed;
    finish->sum_logprob = message->cumulative_logprob;
    if (message->usage != NULL)
        read_usage(message->usage, &finish->usage);
    if (message->timings != NULL) {
        finish->timings.queue_ns = ns_from_duration(message->timings->queue_time);
        finish->timings.first_token_ns = ns_from_duration(message->timings->time_to_first_token);
        finish->timings.total_ns = ns_from_duration(message->timings->total_time);
    }
}

static enum qr_status reserve(struct qr_client_chunk *out, size_t n_events)
{
    if (n_events <= out->capacity)
        return QR_OK;
    struct qr_token_event *grown =
        qr_realloc(QR_ARENA_NETWORK, out->events, n_events * sizeof(*grown));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    out->events = grown;
    out->capacity = n_events;
    return QR_OK;
}

enum qr_status qr_client_unpack_response(const Quire__V1__GenerateResponse *response,
                                         struct qr_client_chunk *out)
{
    size_t n_prompt = response->n_prompt_logprobs;
    size_t n_events = n_prompt + response->n_token_ids;

    QR_TRY(reserve(out, n_events));
    for (size_t i = 0; i < n_events; i++) {
        struct qr_token_event *event = &out->events[i];
        *event = (struct qr_token_event){.is_prompt = i < n_prompt};
        if (i < n_prompt) {
            read_logprobs(response->prompt_logprobs[i], &event->sampled);
            continue;
        }
        if (i - n_prompt < response->n_logprobs)
            read_logprobs(response->logprobs[i - n_prompt], &event->sampled);
        event->sampled.token_id = (int32_t)response->token_ids[i - n_prompt];
    }
    if (response->finish != NULL)
        read_finish(response->finish, &out->finish);
    out->chunk = (struct qr_stream_chunk){
        .output = (int32_t)response->output_index,
        .n_tokens = (int32_t)n_events,
        .tokens = out->events,
        .text = (const char *)response->text.data,
        .n_text_bytes = response->text.len,
        .finish = response->finish != NULL ? &out->finish : NULL,
    };
    return QR_OK;
}

void qr_client_chunk_free(struct qr_client_chunk *chunk)
{
    qr_free(chunk->events);
    *chunk = (struct qr_client_chunk){.events = NULL};
}

/* The message in `any` when it is of the type that `descriptor` describes, else NULL. */
static ProtobufCMessage *unpack_any(const Google__Protobuf__Any *any,
                                    const ProtobufCMessageDescriptor *descriptor)
{
    const char *name = strrchr(any->type_url, '/');

    if (name == NULL || strcmp(name + 1, descriptor->name) != 0)
        return NULL;
    return qr_message_unpack_bytes(descriptor, any->value.data, any->value.len);
}

static void read_detail(const Google__Protobuf__Any *any, struct qr_grpc_result *result)
{
    ProtobufCMessage *message = unpack_any(any, &google__rpc__error_info__descriptor);
    if (message != NULL)
        snprintf(result->reason, sizeof(result->reason), "%s",
                 ((Google__Rpc__ErrorInfo *)message)->reason);
    qr_message_free(message);

    message = unpack_any(any, &google__rpc__retry_info__descriptor);
    if (message != NULL)
        result->retry_after_ns = ns_from_duration(((Google__Rpc__RetryInfo *)message)->retry_delay);
    qr_message_free(message);

    message = unpack_any(any, &google__rpc__bad_request__descriptor);
    const Google__Rpc__BadRequest *bad = (const Google__Rpc__BadRequest *)message;
    if (bad != NULL && bad->n_field_violations > 0)
        snprintf(result->field, sizeof(result->field), "%s", bad->field_violations[0]->field);
    qr_message_free(message);
}

void qr_client_read_details(grpc_slice bytes, struct qr_grpc_result *result)
{
    ProtobufCMessage *message = qr_message_unpack_bytes(
        &google__rpc__status__descriptor, GRPC_SLICE_START_PTR(bytes), GRPC_SLICE_LENGTH(bytes));
    const Google__Rpc__Status *status = (const Google__Rpc__Status *)message;

    for (size_t i = 0; status != NULL && i < status->n_details; i++)
        read_detail(status->details[i], result);
    qr_message_free(message);
}
