/* tokenizer_json_pattern.c - small fields that several parts have; see tokenizer_json.h. */
#include <ctype.h>
#include <string.h>

#include "base/buffer.h"
#include "base/utf8.h"
#include "runtime/tokenizer/tokenizer_json.h"

enum { MAX_SEQUENCES = 8 }; /* within each other */

static enum qr_status compile(const struct qr_json_place *place, const char *pattern,
                              struct qr_regex **out)
{
    struct qr_error why = {0};
    enum qr_status status = qr_regex_compile(pattern, out, &why);

    if (status == QR_ERR_INVALID)
        return qr_json_fail(place, status, "pattern", "%s", why.message);
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

/* A pattern in the dialect of these files, on its way to that of regex.h. */
struct translation {
    int depth;       /* of classes within each other */
    bool has_anchor; /* a ^ or $ */
    bool is_refused;
    struct qr_buffer *out;
};

/* One character of a class: a class within it adds its own characters. */
static enum qr_status translate_in_class(struct translation *translation, const char *p)
{
    if (*p == '[' && p[1] == ':') {
        translation->is_refused = true;
    } else if (*p == '[') {
        translation->depth++;
        translation->is_refused = translation->is_refused || p[1] == '^';
        return QR_OK;
    } else if (*p == ']' && --translation->depth > 0) {
        return QR_OK;
    } else if (*p == '&' && p[1] == '&') {
        translation->is_refused = true;
    }
    return qr_buffer_append(translation->out, p, 1);
}

static enum qr_status translate(struct translation *translation, const char *regex)
{
    for (const char *p = regex; *p != '\0'; p++) {
        if (*p == '\\' && p[1] != '\0') {
            QR_TRY(qr_buffer_append(translation->out, p++, 2));
            continue;
        }
        if (translation->depth > 0) {
            QR_TRY(translate_in_class(translation, p));
            continue;
        }
        QR_TRY(qr_buffer_append(translation->out, p, 1));
        translation->has_anchor = translation->has_anchor || *p == '^' || *p == '$';
        if (*p != '[')
            continue;
        translation->depth = 1;
        if (p[1] == '^') /* it belongs to the bracket */
            QR_TRY(qr_buffer_append(translation->out, ++p, 1));
    }
    return QR_OK;
}

/*
 * These files are written in Ruby's dialect: anchors match at the ends of lines, and classes
 * may hold classes.
 */
static enum qr_status write_regex(const struct qr_json_place *place, const char *regex,
                                  struct qr_buffer *out)
{
    struct qr_buffer translated = {.arena = QR_ARENA_ENGINE};
    struct translation translation = {.out = &translated};
    enum qr_status status = translate(&translation, regex);

    if (status == QR_OK && translation.is_refused)
        status = qr_json_fail(place, QR_ERR_UNSUPPORTED, "pattern",
                              "\"%.100s\" has classes of characters that are not supported", regex);
    else if (status == QR_OK)
        status =
            qr_buffer_printf(out, "%s%s", translation.has_anchor ? "(?m)" : "", translated.data);
    qr_buffer_free(&translated);
    return status;
}

enum qr_status qr_json_read_pattern(const struct qr_json_place *place, const json_t *object,
                                    struct qr_regex **out)
{
    const json_t *pattern = NULL;
    struct qr_buffer text = {.arena = QR_ARENA_ENGINE};

    QR_TRY(qr_json_object(place, object, "pattern", &pattern));
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *plain = json_object_get(pattern, "String");
    const json_t *given = json_is_string(regex) ? regex : plain;
    const char *value = json_string_value(given);
    if (value == NULL || strlen(value) != json_string_length(given) || value[0] == '\0')
        return qr_json_fail(place, QR_ERR_INVALID, "pattern",
                            "must be {\"Regex\": ...} or {\"String\": ...}, not empty and without "
                            "a NUL");
    enum qr_status status =
        given == regex ? write_regex(place, value, &text) : escape_pattern(value, &text);
    if (status == QR_OK)
        status = compile(place, text.data, out);
    qr_buffer_free(&text);
    return status;
}

enum qr_status qr_json_read_char(const struct qr_json_place *place, const json_t *object,
                                 const char *key, const char *usual,
                                 char out[QR_MAX_CHAR_BYTES + 1])
{
    const json_t *given = NULL;

    QR_TRY(qr_json_string(place, object, key, &given));
    const char *text = given != NULL ? json_string_value(given) : usual;
    size_t n_bytes = given != NULL ? json_string_length(given) : strlen(usual);
    if (n_bytes == 0 || text[0] == '\0' || qr_utf8_char_length(text, n_bytes) != (int)n_bytes)
        return qr_json_fail(place, QR_ERR_INVALID, key, "must be one character");
    memcpy(out, text, n_bytes);
    out[n_bytes] = '\0';
    return QR_OK;
}

static enum qr_status read_steps(const struct qr_json_place *place, const json_t *object,
                                 const char *key, qr_json_step_fn read, void *reader, int depth)
{
    const json_t *steps = NULL;
    const json_t *step;
    size_t i;

    if (!qr_json_is(object, "type", "Sequence"))
        return read(reader, object);
    if (depth == MAX_SEQUENCES)
        return qr_json_fail(place, QR_ERR_UNSUPPORTED, key,
                            "more than %d Sequences within each other", depth);
    QR_TRY(qr_json_array(place, object, key, &steps));
    json_array_foreach(steps, i, step)
        QR_TRY(read_steps(place, step, key, read, reader, depth + 1));
    return QR_OK;
}

enum qr_status qr_json_read_steps(const struct qr_json_place *place, const json_t *object,
                                  const char *key, qr_json_step_fn read, void *reader)
{
    return read_steps(place, object, key, read, reader, 0);
}

enum qr_status qr_json_read_content(const struct qr_json_place *place, const json_t *object,
                                    const char *key, struct qr_buffer *out)
{
    const json_t *content = NULL;

    QR_TRY(qr_json_string(place, object, key, &content));
    if (content == NULL)
        return qr_json_fail(place, QR_ERR_INVALID, key, "is missing");
    return qr_buffer_append(out, json_string_value(content), json_string_length(content));
}

enum qr_status qr_json_read_replace(const struct qr_json_place *place, const json_t *object,
                                    struct qr_normalizer_step *step)
{
    QR_TRY(qr_json_read_content(place, object, "content", &step->content));
    return qr_json_read_pattern(place, object, &step->regex);
}
