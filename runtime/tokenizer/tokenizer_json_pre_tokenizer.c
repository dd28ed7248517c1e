/* tokenizer_json_pre_tokenizer.c - the field "pre_tokenizer"; see tokenizer_json.h. */
#include <ctype.h>
#include <string.h>

#include "base/buffer.h"
#include "runtime/tokenizer/tokenizer_json.h"

struct reader {
    struct qr_json_place place;
    struct qr_pre_tokenizer *out;
    bool has_byte_level;
};

static enum qr_status add_step(struct reader *reader, struct qr_pre_tokenizer_step **step)
{
    if (reader->out->n_steps == QR_MAX_PRE_TOKENIZER_STEPS)
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "pretokenizers",
                            "more than %d steps", QR_MAX_PRE_TOKENIZER_STEPS);
    /* Nothing may cut after ByteLevel: from there on the text is in the byte alphabet. */
    if (reader->has_byte_level)
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "pretokenizers",
                            "a step after ByteLevel is not supported");
    *step = &reader->out->steps[reader->out->n_steps++];
    return QR_OK;
}

static enum qr_status compile(struct reader *reader, struct qr_pre_tokenizer_step *step,
                              const char *pattern)
{
    struct qr_error why = {0};
    enum qr_status status = qr_regex_compile(pattern, &step->regex, &why);

    if (status == QR_ERR_INVALID)
        return qr_json_fail(&reader->place, status, "pattern", "%s", why.message);
    return status;
}

/* Plain text as a pattern. */
static enum qr_status escape_pattern(const char *text, struct qr_buffer *out)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (ispunct((unsigned char)*p) || *p == ' ')
            QR_TRY(qr_buffer_append(out, "\\", 1));
        QR_TRY(qr_buffer_append(out, p, 1));
    }
    return QR_OK;
}

static enum qr_status read_pattern(struct reader *reader, const json_t *object,
                                   struct qr_pre_tokenizer_step *step)
{
    const json_t *pattern = NULL;
    struct qr_buffer escaped = {.arena = QR_ARENA_ENGINE};

    QR_TRY(qr_json_object(&reader->place, object, "pattern", &pattern));
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *text = json_string_value(json_object_get(pattern, "String"));
    if (regex != NULL)
        return compile(reader, step, regex);
    if (text == NULL || text[0] == '\0')
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "pattern",
                            "must be {\"Regex\": ...} or {\"String\": ...}");
    enum qr_status status = escape_pattern(text, &escaped);
    if (status == QR_OK)
        status = compile(reader, step, escaped.data);
    qr_buffer_free(&escaped);
    return status;
}

static enum qr_status read_split(struct reader *reader, const json_t *object)
{
    struct qr_pre_tokenizer_step *step = NULL;
    bool invert = false;

    QR_TRY(add_step(reader, &step));
    QR_TRY(qr_json_bool(&reader->place, object, "invert", &invert));
    if (qr_json_is(object, "behavior", "Removed")) {
        step->drops_matches = !invert;
        step->drops_gaps = invert;
    } else if (!qr_json_is(object, "behavior", "Isolated")) {
        const char *behavior = json_string_value(json_object_get(object, "behavior"));
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "behavior",
                            "\"%s\" is not supported; Isolated and Removed are",
                            behavior != NULL ? behavior : "(none)");
    }
    return read_pattern(reader, object, step);
}

static enum qr_status read_byte_level(struct reader *reader, const json_t *object)
{
    struct qr_pre_tokenizer_step *step = NULL;
    bool use_regex = true;
    bool add_prefix_space = true;

    QR_TRY(add_step(reader, &step));
    reader->has_byte_level = true;
    QR_TRY(qr_json_bool(&reader->place, object, "add_prefix_space", &add_prefix_space));
    QR_TRY(qr_json_bool(&reader->place, object, "use_regex", &use_regex));
    step->add_prefix_space = add_prefix_space;
    return use_regex ? compile(reader, step, QR_GPT2_PATTERN) : QR_OK;
}

static enum qr_status read_digits(struct reader *reader, const json_t *object)
{
    struct qr_pre_tokenizer_step *step = NULL;
    bool individual_digits = false;

    QR_TRY(add_step(reader, &step));
    QR_TRY(qr_json_bool(&reader->place, object, "individual_digits", &individual_digits));
    return compile(reader, step, individual_digits ? "\\p{N}" : "\\p{N}+");
}

static enum qr_status read_step(struct reader *reader, const json_t *object)
{
    if (qr_json_is(object, "type", "Split"))
        return read_split(reader, object);
    if (qr_json_is(object, "type", "ByteLevel"))
        return read_byte_level(reader, object);
    if (qr_json_is(object, "type", "Digits"))
        return read_digits(reader, object);
    return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "type",
                        "\"%s\" is not supported; ByteLevel, Digits, Split and Sequence are",
                        qr_json_type_name(object));
}

static enum qr_status read_steps(struct reader *reader, const json_t *object)
{
    const json_t *steps = NULL;
    const json_t *step;
    size_t i;

    if (!qr_json_is(object, "type", "Sequence"))
        return read_step(reader, object);
    QR_TRY(qr_json_array(&reader->place, object, "pretokenizers", &steps));
    json_array_foreach(steps, i, step) QR_TRY(read_step(reader, step));
    return QR_OK;
}

enum qr_status qr_json_read_pre_tokenizer(const char *name, const json_t *object,
                                          struct qr_pre_tokenizer *out, struct qr_error *err)
{
    struct reader reader = {.place = {name, "pre_tokenizer", err}, .out = out};

    QR_TRY(read_steps(&reader, object));
    if (!reader.has_byte_level)
        return qr_json_fail(&reader.place, QR_ERR_UNSUPPORTED, "type",
                            "\"%s\" without a ByteLevel is not supported",
                            qr_json_type_name(object));
    return QR_OK;
}
