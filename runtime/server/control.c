/* control.c - ControlService: what is served, and how busy it is. */
#include "base/clock.h"
#include "proto/quire/v1/control.pb-c.h"
#include "runtime/server/call.h"
#include "runtime/server/response.h"

static void on_get_model_info(struct qr_call *call, const ProtobufCMessage *message)
{
    const struct qr_engine *engine = call->server->engine;
    const struct qr_model_config *config = qr_engine_model_config(engine);
    const struct qr_tokenizer *tokenizer = qr_engine_tokenizer(engine);
    Quire__V1__GetModelInfoResponse info = QUIRE__V1__GET_MODEL_INFO_RESPONSE__INIT;
    struct qr_engine_stats stats;

    (void)message;
    qr_engine_get_stats(call->server->engine, &stats);
    info.name = (char *)qr_engine_model_name(engine);
    info.architecture = (char *)config->architecture;
    info.parameters = (uint64_t)qr_engine_n_parameters(engine);
    info.weight_bytes = (uint64_t)qr_engine_weight_bytes(engine);
    info.vocab_size = (uint32_t)config->vocab_size;
    info.hidden_size = (uint32_t)config->hidden_size;
    info.layers = (uint32_t)config->n_layers;
    info.attention_heads = (uint32_t)config->n_heads;
    info.kv_heads = (uint32_t)config->n_kv_heads;
    info.head_dim = (uint32_t)config->head_dim;
    info.max_context = (uint32_t)qr_engine_max_seq_tokens(engine);
    info.kv_bytes_per_token = (uint64_t)qr_engine_kv_bytes_per_token(engine);
    info.kv_pages = (uint32_t)stats.kv_pages;
    info.page_size = (uint32_t)stats.page_size;
    info.backend = (char *)qr_engine_backend(engine);
    info.tokenizer = (char *)qr_tokenizer_kind(tokenizer);
    if (qr_tokenizer_bos_id(tokenizer) >= 0) {
        info.has_bos_token_id_case =
            QUIRE__V1__GET_MODEL_INFO_RESPONSE__HAS_BOS_TOKEN_ID_BOS_TOKEN_ID;
        info.bos_token_id = (uint32_t)qr_tokenizer_bos_id(tokenizer);
    }
    info.n_eos_token_ids = (size_t)config->n_eos;
    info.eos_token_ids = (uint32_t *)config->eos_ids;
    info.server_version = (char *)QUIRE_VERSION;
    qr_call_finish(call, &info.base);
}

static void fill_requests(Quire__V1__RequestStats *requests, const struct qr_engine_stats *stats)
{
    quire__v1__request_stats__init(requests);
    requests->running = (uint32_t)stats->n_running;
    requests->waiting = (uint32_t)stats->n_waiting;
    requests->accepted = (uint64_t)stats->n_requests;
    requests->rejected = (uint64_t)stats->n_rejected;
    requests->finished_stop = (uint64_t)stats->n_finished[QR_FINISH_STOP];
    requests->finished_length = (uint64_t)stats->n_finished[QR_FINISH_LENGTH];
    requests->cancelled = (uint64_t)stats->n_finished[QR_FINISH_CANCELLED];
    requests->deadline_exceeded = (uint64_t)stats->n_finished[QR_FINISH_DEADLINE];
    requests->failed = (uint64_t)stats->n_finished[QR_FINISH_ERROR];
    requests->preemptions = (uint64_t)(stats->n_swapped + stats->n_recomputed + stats->n_parked);
    requests->swapped = (uint64_t)stats->n_swapped;
    requests->recomputed = (uint64_t)stats->n_recomputed;
    requests->parked = (uint64_t)stats->n_parked;
    requests->loading = (uint32_t)stats->n_loading;
    requests->paused = (uint32_t)stats->n_paused;
}

/* The tiers that there are; returns how many. */
static size_t fill_tiers(Quire__V1__TierStats *tiers, Quire__V1__TierStats **pointers,
                         const struct qr_engine_stats *stats)
{
    static const char *const names[QR_TIER_COUNT] = {"host", "disk"};
    size_t n = 0;

    for (int i = 0; i < QR_TIER_COUNT; i++) {
        const struct qr_tier_stats *tier = &stats->tiers[i];
        if (tier->slots == 0)
            continue;
        quire__v1__tier_stats__init(&tiers[n]);
        tiers[n].name = (char *)names[i];
        tiers[n].slots = (uint32_t)tier->slots;
        tiers[n].used = (uint32_t)tier->used;
        tiers[n].pages_out = (uint64_t)tier->n_out;
        tiers[n].pages_in = (uint64_t)tier->n_in;
        tiers[n].failed_out = (uint64_t)tier->n_failed_out;
        tiers[n].failed_in = (uint64_t)tier->n_failed_in;
        tiers[n].bad_checksums = (uint64_t)tier->n_bad_checksums;
        tiers[n].closed = tier->closed;
        pointers[n] = &tiers[n];
        n++;
    }
    return n;
}

static void fill_kv(Quire__V1__KvStats *kv, const struct qr_engine_stats *stats)
{
    quire__v1__kv_stats__init(kv);
    kv->pages = (uint32_t)stats->kv_pages;
    kv->used_pages = (uint32_t)stats->kv_used_pages;
    kv->peak_pages = (uint32_t)stats->kv_peak_pages;
    kv->page_size = (uint32_t)stats->page_size;
    kv->used_slots = (uint64_t)stats->kv_used_slots;
    kv->wasted_slots = (uint64_t)stats->kv_wasted_slots;
    kv->cached_pages = (uint32_t)stats->kv_cached_pages;
    kv->copies = (uint64_t)stats->n_copies;
    kv->merged_pages = (uint64_t)stats->n_merged;
    kv->hit_tokens = (uint64_t)stats->n_hit_tokens;
    kv->lookup_tokens = (uint64_t)stats->n_lookup_tokens;
    kv->evicted_pages = (uint64_t)stats->n_evicted;
    kv->lost_pages = (uint64_t)stats->n_lost;
}

static void fill_tokens(Quire__V1__TokenStats *tokens, const struct qr_engine_stats *stats)
{
    quire__v1__token_stats__init(tokens);
    tokens->prompt = (uint64_t)stats->n_prompt_tokens;
    tokens->output = (uint64_t)stats->n_output_tokens;
    tokens->recomputed = (uint64_t)stats->n_recomputed_tokens;
    tokens->steps = (uint64_t)stats->n_steps;
    tokens->output_per_second = stats->tokens_per_second;
}

static void on_get_stats(struct qr_call *call, const ProtobufCMessage *message)
{
    Quire__V1__GetStatsResponse response = QUIRE__V1__GET_STATS_RESPONSE__INIT;
    Google__Protobuf__Duration uptime;
    Quire__V1__RequestStats requests;
    Quire__V1__KvStats kv;
    Quire__V1__TierStats tiers[QR_TIER_COUNT];
    Quire__V1__TierStats *tier_pointers[QR_TIER_COUNT];
    Quire__V1__TokenStats tokens;
    struct qr_engine_stats stats;

    (void)message;
    qr_engine_get_stats(call->server->engine, &stats);
    qr_duration_from_ns(&uptime, qr_now_ns() - call->server->start_ns);
    fill_requests(&requests, &stats);
    fill_kv(&kv, &stats);
    kv.n_tiers = fill_tiers(tiers, tier_pointers, &stats);
    kv.tiers = tier_pointers;
    fill_tokens(&tokens, &stats);
    response.uptime = &uptime;
    response.draining = qr_server_phase(call->server) != QR_SERVER_SERVING;
    response.requests = &requests;
    response.kv = &kv;
    response.tokens = &tokens;
    qr_call_finish(call, &response.base);
}

const struct qr_method qr_method_get_model_info = {
    .path = "/quire.v1.ControlService/GetModelInfo",
    .request = &quire__v1__get_model_info_request__descriptor,
    .received = on_get_model_info,
};

const struct qr_method qr_method_get_stats = {
    .path = "/quire.v1.ControlService/GetStats",
    .request = &quire__v1__get_stats_request__descriptor,
    .received = on_get_stats,
};
