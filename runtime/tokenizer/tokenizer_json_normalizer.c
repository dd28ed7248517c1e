/* tokenizer_json_normalizer.c - the field "normalizer"; see tokenizer_json.h. */
#include <string.h>

#include "base/buffer.h"
#include "runtime/tokenizer/base64.h"
#include "runtime/tokenizer/tokenizer_json.h"

struct reader {
    struct qr_json_place place;
    struct qr_normalizer *out;
};

static enum qr_status add_step(struct reader *reader, enum qr_normalizer_kind kind,
                               struct qr_normalizer_step **step)
{
    *step = qr_normalizer_add(reader->out, kind);
    return *step != NULL ? QR_OK
                         : qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "normalizers",
                                        "more than %d steps", QR_MAX_NORMALIZER_STEPS);
}

static enum qr_status read_replace(struct reader *reader, const json_t *object)
{
    struct qr_normalizer_step *step = NULL;

    QR_TRY(add_step(reader, QR_NORMALIZER_REPLACE, &step));
    return qr_json_read_replace(&reader->place, object, step);
}

static enum qr_status read_prepend(struct reader *reader, const json_t *object)
{
    struct qr_normalizer_step *step = NULL;

    QR_TRY(add_step(reader, QR_NORMALIZER_PREPEND, &step));
    return qr_json_read_content(&reader->place, object, "prepend", &step->content);
}

static enum qr_status read_strip(struct reader *reader, const json_t *object)
{
    struct qr_normalizer_step *step = NULL;

    QR_TRY(add_step(reader, QR_NORMALIZER_STRIP, &step));
    QR_TRY(qr_json_bool(&reader->place, object, "strip_left", &step->strips_left));
    return qr_json_bool(&reader->place, object, "strip_right", &step->strips_right);
}

static enum qr_status read_precompiled(struct reader *reader, const json_t *object)
{
    struct qr_normalizer_step *step = NULL;
    struct qr_buffer bytes = {.arena = QR_ARENA_ENGINE};
    const json_t *map = NULL;

    QR_TRY(add_step(reader, QR_NORMALIZER_CHARSMAP, &step));
    QR_TRY(qr_json_string(&reader->place, object, "precompiled_charsmap", &map));
    if (map == NULL || json_string_length(map) == 0) /* maps nothing */
        return QR_OK;
    enum qr_status status =
        qr_base64_decode(json_string_value(map), json_string_length(map), &bytes);
    if (status == QR_OK)
        status = qr_charsmap_read(&step->charsmap, bytes.data, bytes.length);
    qr_buffer_free(&bytes);
    if (status == QR_ERR_INVALID)
        return qr_json_fail(&reader->place, status, "precompiled_charsmap",
                            "is damaged; get the file anew");
    return status;
}

static enum qr_status read_form(struct reader *reader, const json_t *object, bool *is_form)
{
    static const char *const names[] = {"NFC", "NFD", "NFKC", "NFKD"}; /* qr_unicode_form */
    struct qr_normalizer_step *step = NULL;

    *is_form = false;
    for (int form = QR_NFC; form <= QR_NFKD; form++) {
        if (!qr_json_is(object, "type", names[form]))
            continue;
        *is_form = true;
        QR_TRY(add_step(reader, QR_NORMALIZER_FORM, &step));
        step->form = (enum qr_unicode_form)form;
    }
    return QR_OK;
}

static enum qr_status read_step(void *arg, const json_t *object)
{
    struct reader *reader = arg;
    struct qr_normalizer_step *step = NULL;
    bool is_form;

    QR_TRY(read_form(reader, object, &is_form));
    if (is_form)
        return QR_OK;
    if (qr_json_is(object, "type", "Lowercase"))
        return add_step(reader, QR_NORMALIZER_LOWERCASE, &step);
    if (qr_json_is(object, "type", "StripAccents"))
        return add_step(reader, QR_NORMALIZER_UNACCENT, &step);
    if (qr_json_is(object, "type", "Prepend"))
        return read_prepend(reader, object);
    if (qr_json_is(object, "type", "Replace"))
        return read_replace(reader, object);
    if (qr_json_is(object, "type", "Strip"))
        return read_strip(reader, object);
    if (qr_json_is(object, "type", "Precompiled"))
        return read_precompiled(reader, object);
    return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "type",
                        "\"%s\" is not supported; NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, "
                        "Prepend, Replace, Strip, Precompiled and Sequence are",
                        qr_json_type_name(object));
}

enum qr_status qr_json_read_normalizer(const char *name, const json_t *object,
                                       struct qr_normalizer *out, struct qr_error *err)
{
    struct reader reader = {.place = {name, "normalizer", err}, .out = out};
    return qr_json_read_steps(&reader.place, object, "normalizers", read_step, &reader);
}
