/*
 * sampling_edit.cu - rows of logits as bias, bans and penalties make them, and back.
 *
 * qr_edit_logits: a block takes the edits of a row, keeps what they change and changes it.
 * qr_restore_logits: it puts that back, and tells what the tokens that were selected meanwhile had
 * been: a row's log-probabilities are the model's own.
 */
#include "base/cuda/primitives.cuh"
#include "runtime/ops/cuda/select_params.h"

/* The same bits as those of the host (runtime/sampling/logit_edits.h). */
QR_DEVICE float edited(float logit, const qr_select_edit &edit)
{
    float sum = logit + edit.add;
    float penalized = sum > 0.0f ? sum / edit.repetition : qr_mul(sum, edit.repetition);
    return penalized - edit.subtract;
}

QR_KERNEL(qr_edit_logits, struct qr_edit_params, QR_SELECT_THREADS, 2)
{
    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    qr_select_edited_row row = p.rows[qr_block_index()];
    float *logits = p.logits + (size_t)row.logit_row * (size_t)p.vocab_size;
    for (int i = qr_thread_index(); i < row.n_edits; i += QR_SELECT_THREADS) {
        qr_select_edit edit = p.edits[row.first_edit + i];
        float logit = logits[edit.token_id];
        p.saved[row.first_edit + i] = logit;
        logits[edit.token_id] = edited(logit, edit);
    }
}

QR_KERNEL(qr_restore_logits, struct qr_edit_params, QR_SELECT_THREADS, 2)
{
    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    int index = qr_block_index();
    qr_select_edited_row row = p.rows[index];
    float *logits = p.logits + (size_t)row.logit_row * (size_t)p.vocab_size;
    const qr_select_candidate *told =
        (const qr_select_candidate *)((unsigned char *)p.out + (size_t)index * (size_t)p.out_bytes +
                                      sizeof(qr_selected_head));
    float *unedited = (float *)(told + p.n_told);

    for (int i = qr_thread_index(); i < row.n_edits; i += QR_SELECT_THREADS)
        logits[p.edits[row.first_edit + i].token_id] = p.saved[row.first_edit + i];
    qr_sync_block();
    for (int i = qr_thread_index(); i < p.n_told; i += QR_SELECT_THREADS) {
        int32_t id = told[i].token_id;
        unedited[i] = id >= 0 ? logits[id] : 0.0f;
    }
    for (int i = qr_thread_index(); i < p.n_draws; i += QR_SELECT_THREADS) {
        int32_t id = p.drawn[i].token_id;
        if (p.draws[i].row == index && id >= 0)
            p.drawn[i].unedited = logits[id];
    }
}
