/* logit_edits.c - see logit_edits.h for the contract. */
#include "runtime/sampling/logit_edits.h"

#include <math.h>

#include "base/alloc.h"

struct qr_logit_editor {
    int32_t n;
    int32_t n_placed; /* of these, the first ones: bias and bans */
    int32_t *place;   /* [vocab_size] 1 + index of a placed token's edit; 0: it has none */
    struct qr_logit_edit *edits; /* [vocab_size], the first n in use */
};

enum qr_status qr_logit_editor_create(int32_t vocab_size, struct qr_logit_editor **out)
{
    size_t n = (size_t)vocab_size;

    *out = NULL;
    struct qr_logit_editor *editor = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*editor));
    if (editor == NULL)
        return QR_ERR_NOMEM;
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

bool qr_sampling_penalizes(const struct qr_sampling_params *params)
{
    return params->repetition_penalty != 1.0f || params->presence_penalty != 0 ||
           params->frequency_penalty != 0;
}

bool qr_sampling_changes_row(const struct qr_sampling_params *params, int32_t n_banned)
{
    return params->n_logit_bias > 0 || n_banned > 0 || qr_sampling_penalizes(params);
}

static struct qr_logit_edit *add_edit(struct qr_logit_editor *editor, int32_t token_id)
{
    struct qr_logit_edit *edit = &editor->edits[editor->n++];

    *edit = (struct qr_logit_edit){.token_id = token_id, .repetition = 1};
    return edit;
}

static struct qr_logit_edit *placed_edit(struct qr_logit_editor *editor, int32_t token_id)
{
    int32_t place = editor->place[token_id];

    if (place > 0)
        return &editor->edits[place - 1];
    editor->place[token_id] = editor->n_placed = editor->n + 1;
    return add_edit(editor, token_id);
}

static void note_penalties(struct qr_logit_editor *editor, const struct qr_sampling_params *params,
                           const struct qr_token_count *counts, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        struct qr_token_count count = counts[i];
        if (params->repetition_penalty == 1.0f && count.n_output == 0)
            continue;
        bool is_placed = editor->n_placed > 0 && editor->place[count.token_id] > 0;
        struct qr_logit_edit *edit =
            is_placed ? placed_edit(editor, count.token_id) : add_edit(editor, count.token_id);
        edit->repetition = params->repetition_penalty;
        if (count.n_output > 0)
            edit->subtract =
                params->presence_penalty + params->frequency_penalty * (float)count.n_output;
    }
}

int32_t qr_logit_edits_make(struct qr_logit_editor *editor, const struct qr_sampling_params *params,
                            const struct qr_token_history *history,
                            const struct qr_logit_edit **edits)
{
    const struct qr_token_count *counts;

    for (int32_t i = 0; i < editor->n_placed; i++)
        editor->place[editor->edits[i].token_id] = 0;
    editor->n = editor->n_placed = 0;
    *edits = editor->edits;
    for (int32_t i = 0; i < params->n_logit_bias; i++)
        placed_edit(editor, params->logit_bias[i].token_id)->add += params->logit_bias[i].bias;
    for (int32_t i = 0; i < history->n_banned; i++)
        placed_edit(editor, history->banned[i])->add = -INFINITY;
    if (!qr_sampling_penalizes(params))
        return editor->n;
    qr_token_counts_update(history->counts, history->prompt, history->n_prompt, history->output,
                           history->n_output);
    int32_t n = qr_token_counts_get(history->counts, &counts);
    note_penalties(editor, params, counts, n);
    return editor->n;
}
