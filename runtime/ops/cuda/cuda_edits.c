/*
 * cuda_edits.c - the rows of a step's logits that penalties, bias or bans change: their edits go to
 * the device, selections of the edited rows come back.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/ops/cuda/cuda_device_internal.h"

/* What is copied to the device stands first, in one piece: draws, rows, edits. */
static struct qr_cuda_edit_block place_block(const struct qr_device_needs *needs, void *memory)
{
    struct qr_cuda_draw *draws = memory;
    struct qr_cuda_edited_row *rows =
        (struct qr_cuda_edited_row *)(void *)(draws + needs->max_draws);
    struct qr_logit_edit *edits = (struct qr_logit_edit *)(void *)(rows + needs->max_seqs);
    return (struct qr_cuda_edit_block){.draws = draws, .rows = rows, .edits = edits};
}

static size_t block_bytes(const struct qr_device_needs *needs, size_t n_edits)
{
    return (size_t)needs->max_draws * sizeof(struct qr_cuda_draw) +
           (size_t)needs->max_seqs * sizeof(struct qr_cuda_edited_row) +
           n_edits * sizeof(struct qr_logit_edit);
}

static size_t answer_bytes(const struct qr_device_needs *needs)
{
    return qr_cuda_answer_bytes(needs, needs->max_seqs, qr_cuda_edited_bytes(QR_SELECTION_MAX));
}

/* The block, then the answers, then what the edits change. */
size_t qr_cuda_edits_device_bytes(const struct qr_device_needs *needs)
{
    size_t n_edits = (size_t)needs->max_edits;
    return block_bytes(needs, n_edits) + answer_bytes(needs) + n_edits * sizeof(float);
}

enum qr_status qr_cuda_edits_open(struct qr_cuda_device *cuda, void *memory, struct qr_error *err)
{
    const struct qr_device_needs *needs = &cuda->needs;
    struct qr_cuda_edited *edited = &cuda->edited;
    size_t n_block = block_bytes(needs, (size_t)needs->max_edits);

    void *block = qr_cuda_host_alloc(&cuda->cuda, n_block);
    edited->answers.host = qr_cuda_host_alloc(&cuda->cuda, answer_bytes(needs));
    edited->rows = qr_calloc(QR_ARENA_ENGINE, (size_t)needs->max_seqs, sizeof(*edited->rows));
    edited->row_of = qr_calloc(QR_ARENA_ENGINE, (size_t)needs->max_logit_rows, sizeof(int32_t));
    edited->host = place_block(needs, block);
    if (block == NULL || edited->answers.host == NULL || edited->rows == NULL ||
        edited->row_of == NULL)
        return qr_fail(err, QR_ERR_NOMEM,
                       "no pinned host memory for what penalties change in rows of %d sequences",
                       needs->max_seqs);
    memset(block, 0, block_bytes(needs, 0));
    edited->device = place_block(needs, memory);
    edited->answers.device = (unsigned char *)memory + n_block;
    edited->saved = (float *)(void *)(edited->answers.device + answer_bytes(needs));
    return QR_OK;
}

void qr_cuda_edits_close(struct qr_cuda_device *cuda)
{
    qr_cuda_host_free(&cuda->cuda, cuda->edited.host.draws);
    qr_cuda_host_free(&cuda->cuda, cuda->edited.answers.host);
}

void qr_cuda_edits_begin(struct qr_cuda_device *cuda)
{
    qr_cuda_answers_begin(&cuda->edited.answers);
    cuda->edited.n_edits = 0;
}

void qr_cuda_edits_note(struct qr_cuda_device *cuda, int32_t i, const struct qr_logit_wish *wish)
{
    struct qr_cuda_edited *edited = &cuda->edited;
    int32_t at = edited->answers.sizes.n_rows;

    edited->row_of[i] = -1;
    if (wish->n_edits == 0)
        return;
    QR_ASSERT(at < cuda->needs.max_seqs &&
              edited->n_edits + wish->n_edits <= cuda->needs.max_edits);
    edited->row_of[i] = at;
    edited->host.rows[at] = (struct qr_cuda_edited_row){
        .logit_row = i, .first_edit = edited->n_edits, .n_edits = wish->n_edits};
    memcpy(edited->host.edits + edited->n_edits, wish->edits,
           (size_t)wish->n_edits * sizeof(*wish->edits));
    edited->n_edits += wish->n_edits;
    /* Of what is drawn from on the device nothing more is needed; one token says that it is there.
     */
    edited->rows[at] = qr_cuda_answers_add(
        &edited->answers, cuda, wish, wish->n_draws > 0 ? 1 : wish->n_tokens, edited->host.draws);
}

void qr_cuda_edits_send(struct qr_cuda_device *cuda)
{
    struct qr_cuda_edited *edited = &cuda->edited;

    if (edited->n_edits > 0)
        qr_cuda_copy_to_device(&cuda->cuda, "edits of logits",
                               qr_cuda_address(edited->device.draws), edited->host.draws,
                               block_bytes(&cuda->needs, (size_t)edited->n_edits));
}

void qr_cuda_edits_select(struct qr_cuda_device *cuda, float *logits)
{
    struct qr_cuda_edited *edited = &cuda->edited;
    const struct qr_cuda_answers *answers = &edited->answers;
    const struct qr_cuda_draws draws = qr_cuda_answers_draws(answers, edited->device.draws);
    const struct qr_cuda_edits edits = {
        .rows = edited->device.rows, .edits = edited->device.edits, .saved = edited->saved};

    if (answers->sizes.n_rows == 0)
        return;
    qr_cuda_select_edited(&cuda->select, logits, answers->sizes, &edits, &draws,
                          qr_cuda_answers_selected(answers));
    qr_cuda_answers_fetch(answers, cuda, qr_cuda_edited_bytes(answers->sizes.n_told),
                          "drawn tokens and selected logits of edited rows");
}

struct qr_selection qr_cuda_edited_selection(const struct qr_cuda_device *cuda, int32_t i)
{
    const struct qr_cuda_edited *edited = &cuda->edited;
    const struct qr_cuda_answers *answers = &edited->answers;
    const struct qr_cuda_selected *selected;
    int32_t at = edited->row_of[i];

    if (at < 0)
        return (struct qr_selection){.n = 0};
    struct qr_selection selection =
        qr_cuda_answer(answers, at, &edited->rows[at], qr_cuda_edited_bytes(answers->sizes.n_told),
                       cuda->needs.vocab_size, &selected);
    selection.unedited =
        (const float *)(const void *)(selected->candidates + answers->sizes.n_told);
    return selection;
}
