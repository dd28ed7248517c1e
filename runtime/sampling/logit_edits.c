/* logit_edits.c - see logit_edits.h for the contract. */
#include "runtime/sampling/logit_edits.h"

#include <math.h>

#include "base/alloc.h"

struct qr_logit_editor {
    int32_t vocab_size;
    int32_t n;
    int32_t *place;              /* [vocab_size] 1 + index of the token's edit; 0: it has none */
    struct qr_logit_edit *edits; /* [vocab_size], the first n in use */
};

enum qr_status qr_logit_editor_create(int32_t vocab_size, struct qr_logit_editor **out)
{
    size_t n = (size_t)vocab_size;

    *out = NULL;
    struct qr_logit_editor *editor = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*editor));
    if (editor == NULL)
        return QR_ERR_NOMEM;
    editor->vocab_size = vocab_size;
    editor->place = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*editor->place));
    editor->edits = qr_malloc(QR_ARENA_ENGINE, n * sizeof(*editor->edits));
    if (editor->place == NULL || editor->edits == NULL) {
        qr_logit_editor_destroy(editor);
        return QR_ERR_NOMEM;
    }
    *out = editor;
    return QR_OK;
}

void qr_logit_editor_destroy(struct qr_logit_editor *editor)
{
    if (editor == NULL)
        return;
    qr_free(editor->edits);
    qr_free(editor->place);
    qr_free(editor);
}

bool qr_sampling_changes_row(const struct qr_sampling_params *params, int32_t n_banned)
{
    return params->n_logit_bias > 0 || n_banned > 0 || params->repetition_penalty != 1.0f ||
           params->presence_penalty != 0 || params->frequency_penalty != 0;
}

static struct qr_logit_edit *edit_of(struct qr_logit_editor *editor, int32_t token_id)
{
    if (editor->place[token_id] == 0) {
        editor->edits[editor->n++] = (struct qr_logit_edit){.token_id = token_id, .repetition = 1};
        editor->place[token_id] = editor->n;
    }
    return &editor->edits[editor->place[token_id] - 1];
}

static void note_repetition(struct qr_logit_editor *editor, const int32_t *token_ids, int32_t n,
                            float penalty)
{
    for (int32_t i = 0; i < n; i++)
        edit_of(editor, token_ids[i])->repetition = penalty;
}

static void note_frequency(struct qr_logit_editor *editor, const struct qr_sampling_params *params,
                           const int32_t *output, int32_t n_output)
{
    for (int32_t i = 0; i < n_output; i++)
        edit_of(editor, output[i])->subtract++; /* their number, until all are counted */
    for (int32_t i = 0; i < editor->n; i++) {
        struct qr_logit_edit *edit = &editor->edits[i];
        if (edit->subtract > 0)
            edit->subtract = params->presence_penalty + params->frequency_penalty * edit->subtract;
    }
}

int32_t qr_logit_edits_make(struct qr_logit_editor *editor, const struct qr_sampling_params *params,
                            const struct qr_token_history *history,
                            const struct qr_logit_edit **edits)
{
    for (int32_t i = 0; i < editor->n; i++)
        editor->place[editor->edits[i].token_id] = 0;
    editor->n = 0;
    *edits = editor->edits;
    for (int32_t i = 0; i < params->n_logit_bias; i++)
        edit_of(editor, params->logit_bias[i].token_id)->add += params->logit_bias[i].bias;
    for (int32_t i = 0; i < history->n_banned; i++)
        edit_of(editor, history->banned[i])->add = -INFINITY;
    if (params->repetition_penalty != 1.0f) {
        note_repetition(editor, history->prompt, history->n_prompt, params->repetition_penalty);
        note_repetition(editor, history->output, history->n_output, params->repetition_penalty);
    }
    if (params->presence_penalty != 0 || params->frequency_penalty != 0)
        note_frequency(editor, params, history->output, history->n_output);
    return editor->n;
}
