/* tokenizer_json_pre_tokenizer.c - the field "pre_tokenizer"; see tokenizer_json.h. */
#include <stdio.h>
#include <string.h>

#include "runtime/tokenizer/tokenizer_json.h"
#include "runtime/tokenizer/unicode_versions.h"

/* A character of a word: \w as in Unicode Technical Standard 18. */
#define WORD                                                                  \
    "[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}" \
    "\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}]"

struct reader {
    struct qr_json_place place;
    struct qr_pre_tokenizer *out;
    bool has_byte_level;
    struct qr_pre_tokenizer_step *byte_level;
};

static enum qr_status add_step(struct reader *reader, struct qr_pre_tokenizer_step **step)
{
    if (reader->out->n_steps == QR_MAX_PRE_TOKENIZER_STEPS)
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "pretokenizers",
                            "more than %d steps", QR_MAX_PRE_TOKENIZER_STEPS);
    if (reader->has_byte_level) /* from there on the text is in the byte alphabet */
        reader->byte_level->maps_bytes = true;
    *step = &reader->out->steps[reader->out->n_steps++];
    return QR_OK;
}

/* A step that is this pattern and no more. */
static enum qr_status compile(struct reader *reader, struct qr_pre_tokenizer_step *step,
                              const char *pattern)
{
    return qr_regex_compile(pattern, &step->regex, reader->place.err);
}

/* What becomes of the matches of a step, by the name in these files. */
static enum qr_status read_behavior(struct reader *reader, const json_t *object, const char *usual,
                                    bool inverts, struct qr_pre_tokenizer_step *step)
{
    static const char *const names[] = {"Isolated", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"}; /* enum qr_joins */
    const char *behavior = json_string_value(json_object_get(object, "behavior"));

    behavior = behavior != NULL ? behavior : usual;
    step->inverts = inverts;
    if (strcmp(behavior, "Removed") == 0) {
        step->drops_matches = !inverts;
        step->drops_gaps = inverts;
        return QR_OK;
    }
    for (int i = QR_JOINS_NONE; i <= QR_JOINS_MATCHES; i++) {
        if (strcmp(behavior, names[i]) == 0) {
            step->joins = (enum qr_joins)i;
            return QR_OK;
        }
    }
    return qr_json_fail(&reader->place, QR_ERR_INVALID, "behavior",
                        "\"%s\" is not known; Removed, Isolated, MergedWithPrevious, "
                        "MergedWithNext and Contiguous are",
                        behavior);
}

static enum qr_status read_split(struct reader *reader, const json_t *object)
{
    struct qr_pre_tokenizer_step *step = NULL;
    bool invert = false;

    QR_TRY(add_step(reader, &step));
    QR_TRY(qr_json_bool(&reader->place, object, "invert", &invert));
    QR_TRY(read_behavior(reader, object, "(none)", invert, step));
    return qr_json_read_pattern(&reader->place, object, &step->regex);
}

/* One that cuts at a delimiter, {"delimiter": "x"}, and drops it. */
static enum qr_status read_delimiter(struct reader *reader, const json_t *object)
{
    struct qr_pre_tokenizer_step *step = NULL;
    char delimiter[QR_MAX_CHAR_BYTES + 1];
    char pattern[QR_MAX_CHAR_BYTES + 5];

    QR_TRY(add_step(reader, &step));
    QR_TRY(qr_json_read_char(&reader->place, object, "delimiter", "", delimiter));
    snprintf(pattern, sizeof(pattern), "\\Q%s\\E", delimiter);
    step->drops_matches = true;
    return compile(reader, step, pattern);
}

static enum qr_status read_metaspace(struct reader *reader, const json_t *object)
{
    static const char *const schemes[] = {"never", "first", "always"}; /* enum qr_prepends */
    struct qr_pre_tokenizer_step *step = NULL;
    bool add_prefix_space = true;
    bool split = true;
    char pattern[QR_MAX_CHAR_BYTES + 5];

    if (reader->has_byte_level)
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "pretokenizers",
                            "Metaspace after ByteLevel is not supported");
    QR_TRY(add_step(reader, &step));
    QR_TRY(qr_json_read_char(&reader->place, object, "replacement", "\xe2\x96\x81", step->space));
    QR_TRY(qr_json_bool(&reader->place, object, "split", &split));
    QR_TRY(qr_json_bool(&reader->place, object, "add_prefix_space", &add_prefix_space));
    step->prepends = add_prefix_space ? QR_PREPENDS_ALWAYS : QR_PREPENDS_NEVER;
    for (int i = QR_PREPENDS_NEVER; i <= QR_PREPENDS_ALWAYS; i++) {
        if (qr_json_is(object, "prepend_scheme", schemes[i]))
            step->prepends = (enum qr_prepends)i;
    }
    step->joins = QR_JOINS_WITH_NEXT;
    snprintf(pattern, sizeof(pattern), "\\Q%s\\E", step->space);
    return split ? compile(reader, step, pattern) : QR_OK;
}

static enum qr_status read_byte_level(struct reader *reader, const json_t *object)
{
    struct qr_pre_tokenizer_step *step = NULL;
    bool use_regex = true;
    bool add_prefix_space = true;

    if (reader->has_byte_level)
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "pretokenizers",
                            "a second ByteLevel is not supported");
    QR_TRY(add_step(reader, &step));
    reader->has_byte_level = true;
    reader->byte_level = step;
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

static enum qr_status read_punctuation(struct reader *reader, const json_t *object)
{
    struct qr_pre_tokenizer_step *step = NULL;

    QR_TRY(add_step(reader, &step));
    QR_TRY(read_behavior(reader, object, "Isolated", false, step));
    return compile(reader, step, qr_unicode_punctuation());
}

/* Words and runs of other marks; white space goes. */
static enum qr_status read_white_space(struct reader *reader, const char *pattern, bool inverts)
{
    struct qr_pre_tokenizer_step *step = NULL;

    QR_TRY(add_step(reader, &step));
    step->drops_matches = !inverts;
    step->drops_gaps = inverts;
    return compile(reader, step, pattern);
}

static enum qr_status read_step(void *arg, const json_t *object)
{
    struct reader *reader = arg;

    if (qr_json_is(object, "type", "Split"))
        return read_split(reader, object);
    if (qr_json_is(object, "type", "ByteLevel"))
        return read_byte_level(reader, object);
    if (qr_json_is(object, "type", "Metaspace"))
        return read_metaspace(reader, object);
    if (qr_json_is(object, "type", "Digits"))
        return read_digits(reader, object);
    if (qr_json_is(object, "type", "Punctuation"))
        return read_punctuation(reader, object);
    if (qr_json_is(object, "type", "Whitespace"))
        return read_white_space(reader, WORD "+|(?:(?!" WORD ")\\S)+", true);
    if (qr_json_is(object, "type", "WhitespaceSplit"))
        return read_white_space(reader, "\\s+", false);
    if (qr_json_is(object, "type", "CharDelimiterSplit"))
        return read_delimiter(reader, object);
    return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "type",
                        "\"%s\" is not supported; ByteLevel, CharDelimiterSplit, Digits, "
                        "Metaspace, Punctuation, Split, Whitespace, WhitespaceSplit and Sequence "
                        "are",
                        qr_json_type_name(object));
}

enum qr_status qr_json_read_pre_tokenizer(const char *name, const json_t *object,
                                          struct qr_pre_tokenizer *out, bool *has_byte_level,
                                          struct qr_error *err)
{
    struct reader reader = {.place = {name, "pre_tokenizer", err}, .out = out};
    enum qr_status status =
        qr_json_read_steps(&reader.place, object, "pretokenizers", read_step, &reader);

    *has_byte_level = reader.has_byte_level;
    return status;
}
