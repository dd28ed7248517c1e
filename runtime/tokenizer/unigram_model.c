/* unigram_model.c - see unigram_model.h for the contract. */
#include "runtime/tokenizer/unigram_model.h"

#include "base/alloc.h"

struct context {
    const struct qr_unigram_model *model;
    struct qr_pre_tokenizer_scans scans;
    struct qr_unigram_scratch scratch;
    struct qr_token_ids *ids;
    struct qr_error *err;
};

struct qr_unigram_model *qr_unigram_model_alloc(void)
{
    struct qr_unigram_model *model = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*model));

    if (model != NULL)
        qr_unigram_init(&model->unigram);
    return model;
}

static void destroy(void *arg)
{
    struct qr_unigram_model *model = arg;

    if (model == NULL)
        return;
    qr_pre_tokenizer_free(&model->pre_tokenizer);
    qr_unigram_destroy(&model->unigram);
    qr_free(model);
}

static void end(void *arg)
{
    struct context *context = arg;

    if (context == NULL)
        return;
    qr_pre_tokenizer_end(&context->scans);
    qr_unigram_scratch_free(&context->scratch);
    qr_free(context);
}

static enum qr_status begin(const void *model, void **out)
{
    struct context *context = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*context));

    *out = context;
    if (context == NULL)
        return QR_ERR_NOMEM;
    context->model = model;
    return qr_pre_tokenizer_begin(&context->model->pre_tokenizer, &context->scans);
}

static enum qr_status encode_piece(void *arg, const char *text, size_t n_bytes)
{
    struct context *context = arg;
    return qr_unigram_encode(&context->model->unigram, &context->scratch, text, n_bytes,
                             context->ids, context->err);
}

static enum qr_status encode(const void *model, void *arg, const struct qr_segment *segment,
                             struct qr_token_ids *ids, struct qr_error *err)
{
    struct context *context = arg;

    (void)model;
    context->ids = ids;
    context->err = err;
    return qr_pre_tokenizer_cut(&context->model->pre_tokenizer, &context->scans, segment->text,
                                segment->n_bytes, segment->at_start, encode_piece, context);
}

const struct qr_model_ops qr_unigram_ops = {
    .kind = "unigram",
    .begin = begin,
    .encode = encode,
    .end = end,
    .destroy = destroy,
};
