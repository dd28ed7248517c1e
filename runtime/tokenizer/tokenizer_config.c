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
                                         const char *json, size_t n_bytes, struct qr_error *err)
{
    const struct qr_json_place place = {name, "", err};
    bool add_bos_token = tok->bos_id >= 0; /* unless it says otherwise, as the tokenizer does */
    json_t *root;

    /* model_max_length is 10^30 in many files. */
    QR_TRY(qr_json_parse(name, json, n_bytes, true, &root, err));
    enum qr_status status = qr_json_bool(&place, root, "add_bos_token", &add_bos_token);
    if (status == QR_OK) {
        find_named(tok, root, "eos_token", &tok->eos_id);
        find_named(tok, root, "bos_token", &tok->bos_id);
        if (!add_bos_token)
            tok->bos_id = -1;
    }
    json_decref(root);
    return status;
}
