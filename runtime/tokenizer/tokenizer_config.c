/* tokenizer_config.c - what a tokenizer_config.json adds; see tokenizer_impl.h. */
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/tokenizer_impl.h"

/*
 * A token is named by its text, or by an object that holds it as "content". Names that
 * the tokenizer does not know are left aside: such files are often copied along.
 */
static void find_named(const struct qr_tokenizer *tok, const json_t *root, const char *key,
                       int32_t *id)
{
    const json_t *name = json_object_get(root, key);

    if (json_is_object(name))
        name = json_object_get(name, "content");
    if (!json_is_string(name))
        return;
    int32_t found =
        qr_tokenizer_find_special(tok, json_string_value(name), json_string_length(name));
    if (found >= 0)
        *id = found;
}

enum qr_status qr_tokenizer_apply_config(struct qr_tokenizer *tok, const char *name,
                                         const json_t *config, struct qr_error *err)
{
    const struct qr_json_place place = {name, "", err};
    bool adds_bos = tok->before.count > 0; /* unless it says otherwise, as the tokenizer does */
    bool adds_eos = tok->after.count > 0;
    int32_t bos_id = qr_tokenizer_bos_id(tok);

    QR_TRY(qr_json_bool(&place, config, "add_bos_token", &adds_bos));
    QR_TRY(qr_json_bool(&place, config, "add_eos_token", &adds_eos));
    find_named(tok, config, "eos_token", &tok->eos_id);
    find_named(tok, config, "bos_token", &bos_id);
    if (!adds_bos || tok->before.count <= 1) /* else a template says more than the names do */
        qr_tokenizer_set_bos(tok, adds_bos ? bos_id : -1);
    if (!adds_eos || tok->after.count == 0)
        tok->after =
            (struct qr_around){.ids = {tok->eos_id}, .count = adds_eos && tok->eos_id >= 0};
    return QR_OK;
}
