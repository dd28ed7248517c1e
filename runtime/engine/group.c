/* group.c - see group.h for the contract. */
#include "runtime/engine/group.h"

#include <string.h>

#include "base/alloc.h"
#include "runtime/sampling/philox.h"

enum { STREAM_TOKENS = 64 }; /* events of one output that may wait for a slow reader */

/* A prompt of nothing but special tokens starts a text; any other is continued. */
static bool prompt_has_text(const struct qr_request *request, const struct qr_tokenizer *tokenizer)
{
    for (int32_t i = 0; i < request->n_prompt; i++) {
        if (!qr_tokenizer_is_special(tokenizer, request->prompt_ids[i]))
            return true;
    }
    return false;
}

static enum qr_status make_stop_ids(struct qr_group *group, const struct qr_model_config *config)
{
    const struct qr_request *request = group->request;
    size_t most = QR_MODEL_MAX_EOS + (size_t)request->n_stop_token_ids;

    group->stop_ids = qr_malloc(QR_ARENA_REQUEST, most * sizeof(*group->stop_ids));
    if (group->stop_ids == NULL)
        return QR_ERR_NOMEM;
    if (!request->ignore_eos) {
        for (int32_t i = 0; i < config->n_eos; i++)
            group->stop_ids[group->n_stop_ids++] = config->eos_ids[i];
    }
    for (int32_t i = 0; i < request->n_stop_token_ids; i++)
        group->stop_ids[group->n_stop_ids++] = request->stop_token_ids[i];
    return QR_OK;
}

/* What a withheld sequence keeps of each token. */
static enum qr_status make_records(struct qr_generation *seq, int32_t vocab_size)
{
    const struct qr_group *group = seq->group;
    size_t n_output = (size_t)(group->max_tokens - group->request->n_prompt);
    int32_t n_top = group->request->sampling.n_logprobs;

    seq->n_top = n_top < vocab_size ? n_top : vocab_size;
    seq->logprobs = qr_malloc(QR_ARENA_REQUEST, n_output * sizeof(*seq->logprobs));
    if (seq->logprobs == NULL)
        return QR_ERR_NOMEM;
    if (seq->n_top == 0)
        return QR_OK;
    seq->tops = qr_malloc(QR_ARENA_REQUEST, n_output * (size_t)seq->n_top * sizeof(*seq->tops));
    return seq->tops != NULL ? QR_OK : QR_ERR_NOMEM;
}

static enum qr_status make_sequence(struct qr_group *group, int32_t index, int32_t vocab_size)
{
    struct qr_generation *seq = &group->seqs[index];
    const struct qr_request *request = group->request;
    bool is_beam = request->beam.width > 0;

    seq->group = group;
    seq->sampling = request->sampling;
    if (!is_beam) /* one search has one seed, which it does not use */
        seq->sampling.seed = qr_philox_output_seed(request->sampling.seed, (uint32_t)index);
    seq->output = group->withheld ? -1 : index;
    seq->slot = -1;
    seq->n_scored = 1; /* nothing comes before the first token, so it has no probability */
    seq->finish = (struct qr_finish){.stop_string = -1, .stop_token_id = -1};
    seq->tokens = qr_malloc(QR_ARENA_REQUEST, (size_t)group->max_tokens * sizeof(*seq->tokens));
    if (seq->tokens == NULL)
        return QR_ERR_NOMEM;
    if (qr_sampling_penalizes(&seq->sampling)) {
        int32_t n_different = group->max_tokens < vocab_size ? group->max_tokens : vocab_size;
        QR_TRY(qr_token_counts_create(QR_ARENA_REQUEST, n_different, &seq->counts));
    }
    memcpy(seq->tokens, request->prompt_ids, (size_t)request->n_prompt * sizeof(*seq->tokens));
    seq->n_tokens = request->n_prompt;
    qr_group_begin_text(group, seq);
    if (is_beam) {
        seq->ranked =
            qr_malloc(QR_ARENA_REQUEST, (size_t)group->beam.n_ranked * sizeof(*seq->ranked));
        if (seq->ranked == NULL)
            return QR_ERR_NOMEM;
    }
    return group->withheld ? make_records(seq, vocab_size) : QR_OK;
}

/* Beams need the sequences that run, and as many that have ended. */
static enum qr_status make_beam_search(struct qr_group *group)
{
    struct qr_beam_search *beam = &group->beam;
    size_t width = (size_t)group->width;

    beam->active = qr_calloc(QR_ARENA_REQUEST, width, sizeof(struct qr_generation *));
    beam->ended = qr_calloc(QR_ARENA_REQUEST, width, sizeof(struct qr_generation *));
    beam->idle = qr_calloc(QR_ARENA_REQUEST, 2 * width, sizeof(struct qr_generation *));
    if (beam->active == NULL || beam->ended == NULL || beam->idle == NULL)
        return QR_ERR_NOMEM;
    beam->n_ranked = group->width + group->n_stop_ids;
    beam->active[beam->n_active++] = &group->seqs[0];
    for (int32_t i = group->n_seqs - 1; i > 0; i--)
        beam->idle[beam->n_idle++] = &group->seqs[i];
    return QR_OK;
}

static enum qr_status allocate(struct qr_group *group, const struct qr_group_context *context)
{
    const struct qr_request *request = group->request;

    group->text_bytes = qr_tokenizer_max_push_bytes(context->tokenizer) + QR_MAX_STOP_BYTES;
    /* A pushed token passes through the detokenizer into the first half, then through
     * the stop matcher into the second. */
    group->text = qr_malloc(QR_ARENA_REQUEST, 2 * group->text_bytes);
    group->chosen = qr_calloc(QR_ARENA_REQUEST, (size_t)request->n, sizeof(struct qr_generation *));
    group->seqs = qr_calloc(QR_ARENA_REQUEST, (size_t)group->n_seqs, sizeof(*group->seqs));
    if (group->text == NULL || group->chosen == NULL || group->seqs == NULL)
        return QR_ERR_NOMEM;
    QR_TRY(make_stop_ids(group, context->config));
    if (request->beam.width > 0)
        QR_TRY(make_beam_search(group));
    for (int32_t i = 0; i < group->n_seqs; i++)
        QR_TRY(make_sequence(group, i, context->config->vocab_size));
    struct qr_stream_config config = {
        .n_outputs = request->n,
        .token_capacity = STREAM_TOKENS,
        /* All scores of a prompt can come in one step. */
        .n_prompt_events = request->score_prompt ? request->n_prompt : 0,
        .max_bytes_per_token = group->text_bytes,
        .bell = context->bell,
        .group = context->group,
        .owner = context->owner,
    };
    return qr_stream_create(&config, &group->stream);
}

enum qr_status qr_group_create(const struct qr_group_context *context, struct qr_request *request,
                               int64_t now_ns, struct qr_group **out, struct qr_stream **stream)
{
    *out = NULL;
    *stream = NULL;
    struct qr_group *group = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*group));
    if (group == NULL)
        return QR_ERR_NOMEM;
    group->request = request;
    group->tokenizer = context->tokenizer;
    group->width = qr_request_width(request);
    group->n_seqs = request->beam.width > 0 ? 2 * group->width : group->width;
    group->withheld = qr_request_is_withheld(request);
    group->max_tokens = qr_request_max_seq_tokens(request, context->max_seq_tokens);
    group->queued = true;
    group->tenant = -1;
    group->submit_ns = now_ns;
    if (allocate(group, context) != QR_OK) {
        group->request = NULL; /* still the caller's */
        qr_group_destroy(group);
        return QR_ERR_NOMEM;
    }
    *stream = group->stream;
    *out = group;
    return QR_OK;
}

void qr_group_destroy(struct qr_group *group)
{
    if (group == NULL)
        return;
    for (int32_t i = 0; group->seqs != NULL && i < group->n_seqs; i++) {
        qr_free(group->seqs[i].tokens);
        qr_token_counts_destroy(group->seqs[i].counts);
        qr_free(group->seqs[i].logprobs);
        qr_free(group->seqs[i].tops);
        qr_free(group->seqs[i].ranked);
    }
    qr_free(group->seqs);
    qr_free(group->chosen);
    qr_free(group->beam.active);
    qr_free(group->beam.ended);
    qr_free(group->beam.idle);
    qr_free(group->stop_ids);
    qr_free(group->text);
    qr_request_destroy(group->request);
    qr_free(group);
}

void qr_group_begin_text(const struct qr_group *group, struct qr_generation *seq)
{
    const struct qr_request *request = group->request;

    qr_detokenizer_init(&seq->detokenizer, group->tokenizer, !request->show_special,
                        prompt_has_text(request, group->tokenizer));
    qr_stop_matcher_init(&seq->stop_matcher, (const char *const *)request->stop_strings,
                         request->n_stop_strings);
}
