/* tokenizer_json_decoder.c - the field "decoder"; see tokenizer_json.h. */
#include <string.h>

#include "runtime/tokenizer/tokenizer_json.h"

enum { MAX_STRIP = 1 << 20 };

struct reader {
    struct qr_json_place place;
    struct qr_decoder *out;
    struct qr_strip *strip;
    bool has_bytes; /* bytes wait to be put together */
    bool is_fused;  /* what follows acts on the whole text */
};

/* A step that acts on single tokens. */
static enum qr_status add_step(struct reader *reader, const json_t *object,
                               enum qr_decoder_kind kind, struct qr_decoder_step **step)
{
    if (reader->has_bytes || reader->is_fused)
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "decoders",
                            "%s after %s is not supported", qr_json_type_name(object),
                            reader->is_fused ? "Fuse" : "ByteFallback");
    *step = qr_decoder_add(reader->out, kind);
    return *step != NULL ? QR_OK
                         : qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "decoders",
                                        "more than %d steps", QR_MAX_DECODER_STEPS);
}

static enum qr_status read_replace(struct reader *reader, const json_t *object)
{
    struct qr_decoder_step *step = NULL;

    QR_TRY(add_step(reader, object, QR_DECODER_REPLACE, &step));
    step->replace.kind = QR_NORMALIZER_REPLACE;
    step->replace.content.arena = QR_ARENA_ENGINE;
    return qr_json_read_replace(&reader->place, object, &step->replace);
}

static enum qr_status read_metaspace(struct reader *reader, const json_t *object)
{
    struct qr_decoder_step *step = NULL;
    bool add_prefix_space = true;

    QR_TRY(add_step(reader, object, QR_DECODER_METASPACE, &step));
    QR_TRY(qr_json_read_char(&reader->place, object, "replacement", "\xe2\x96\x81", step->space));
    QR_TRY(qr_json_bool(&reader->place, object, "add_prefix_space", &add_prefix_space));
    step->drops_first = json_object_get(object, "prepend_scheme") != NULL
                            ? !qr_json_is(object, "prepend_scheme", "never")
                            : add_prefix_space;
    return QR_OK;
}

static enum qr_status read_count(struct reader *reader, const json_t *object, const char *key,
                                 uint32_t *out)
{
    const json_t *count = json_object_get(object, key);

    if (!json_is_integer(count) || json_integer_value(count) < 0 ||
        json_integer_value(count) > MAX_STRIP)
        return qr_json_fail(&reader->place, QR_ERR_INVALID, key,
                            "must be a whole number in [0, %d]", MAX_STRIP);
    *out = (uint32_t)json_integer_value(count);
    return QR_OK;
}

static enum qr_status read_strip(struct reader *reader, const json_t *object)
{
    struct qr_decoder_step read = {.kind = QR_DECODER_STRIP};
    struct qr_decoder_step *step = NULL;

    QR_TRY(qr_json_read_char(&reader->place, object, "content", " ", read.space));
    QR_TRY(read_count(reader, object, "start", &read.n_left));
    QR_TRY(read_count(reader, object, "stop", &read.n_right));
    if (!reader->is_fused) {
        QR_TRY(add_step(reader, object, QR_DECODER_STRIP, &step));
        *step = read;
        return QR_OK;
    }
    if (read.n_right > 0 || reader->strip->count > 0)
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "decoders",
                            "a Strip of the whole text's end, or a second one, is not supported");
    reader->strip->n_bytes = (uint8_t)strlen(read.space);
    memcpy(reader->strip->text, read.space, reader->strip->n_bytes);
    reader->strip->count = read.n_left;
    return QR_OK;
}

static enum qr_status read_step(void *arg, const json_t *object)
{
    struct reader *reader = arg;
    struct qr_decoder_step *step = NULL;

    if (qr_json_is(object, "type", "ByteLevel")) {
        QR_TRY(add_step(reader, object, QR_DECODER_BYTE_LEVEL, &step));
        reader->is_fused = true;
        return QR_OK;
    }
    if (qr_json_is(object, "type", "ByteFallback")) {
        QR_TRY(add_step(reader, object, QR_DECODER_BYTE_FALLBACK, &step));
        reader->has_bytes = true;
        return QR_OK;
    }
    if (qr_json_is(object, "type", "Fuse")) {
        reader->is_fused = true;
        return QR_OK;
    }
    if (qr_json_is(object, "type", "Replace"))
        return read_replace(reader, object);
    if (qr_json_is(object, "type", "Metaspace"))
        return read_metaspace(reader, object);
    if (qr_json_is(object, "type", "Strip"))
        return read_strip(reader, object);
    return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "type",
                        "\"%s\" is not supported; ByteLevel, ByteFallback, Fuse, Metaspace, "
                        "Replace, Strip and Sequence are",
                        qr_json_type_name(object));
}

enum qr_status qr_json_read_decoder(const char *name, const json_t *object, struct qr_decoder *out,
                                    struct qr_strip *strip, struct qr_error *err)
{
    struct reader reader = {.place = {name, "decoder", err}, .out = out, .strip = strip};
    return qr_json_read_steps(&reader.place, object, "decoders", read_step, &reader);
}
