/* options.c - see options.h for the contract. */
#include "runtime/cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ENV_NAME_MAX = 64 };

static void env_name(const char *option, char *out)
{
    int n = snprintf(out, ENV_NAME_MAX, "QUIRE_%s", option);
    for (int i = 0; i < n && i < ENV_NAME_MAX - 1; i++)
        out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
}

enum qr_status qr_parse_size(const char *text, int64_t *bytes, struct qr_error *err)
{
    static const struct {
        const char *name;
        double factor;
    } units[] = {
        {"", 1},       {"B", 1},        {"K", 0x1p10},   {"KiB", 0x1p10}, {"KB", 1e3},
        {"M", 0x1p20}, {"MiB", 0x1p20}, {"MB", 1e6},     {"G", 0x1p30},   {"GiB", 0x1p30},
        {"GB", 1e9},   {"T", 0x1p40},   {"TiB", 0x1p40}, {"TB", 1e12},
    };
    char *end;
    double value = strtod(text, &end);

    if (end != text && isdigit((unsigned char)text[0]) && isfinite(value)) {
        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
            double product = value * units[i].factor;
            if (strcasecmp(end, units[i].name) == 0 && product < 0x1p62) {
                *bytes = (int64_t)product;
                return QR_OK;
            }
        }
    }
    return qr_fail(err, QR_ERR_INVALID, "\"%s\" is not a size; write 512, 64KiB, 1.5GiB or 2GB",
                   text);
}

enum qr_status qr_parse_numbers(const char *option, const char *text, double min, double max,
                                int32_t capacity, double *numbers, int32_t *count,
                                struct qr_error *err)
{
    const char *at = text;

    for (*count = 0; *at != '\0'; (*count)++) {
        char *end;
        double value = strtod(at, &end);
        if (end == at || (*end != ',' && *end != '\0') || !(value >= min) || value > max ||
            *count == capacity)
            return qr_fail(err, QR_ERR_INVALID,
                           "--%s: \"%s\" is no list of at most %d numbers from %g to %g", option,
                           text, capacity, min, max);
        numbers[*count] = value;
        at = *end == ',' ? end + 1 : end;
    }
    return QR_OK;
}

const char *qr_format_size(int64_t bytes, char *out, size_t out_size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;

    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    snprintf(out, out_size, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

static enum qr_status check_range(const struct qr_option *option, double value, const char *text,
                                  struct qr_error *err)
{
    if (value >= option->min && value <= option->max)
        return QR_OK;
    return qr_fail(err, QR_ERR_INVALID, "\"%s\" is out of range [%.12g, %.12g]", text, option->min,
                   option->max);
}

static enum qr_status parse_number(const struct qr_option *option, const char *text,
                                   struct qr_error *err)
{
    char *end;

    errno = 0;
    if (option->kind == QR_OPTION_INT) {
        long long value = strtoll(text, &end, 10);
        if (end == text || *end != '\0' || errno != 0)
            return qr_fail(err, QR_ERR_INVALID, "\"%s\" is not a whole number", text);
        QR_TRY(check_range(option, (double)value, text, err));
        *(int32_t *)option->dest = (int32_t)value;
        return QR_OK;
    }
    if (option->kind == QR_OPTION_UINT64) {
        unsigned long long value = strtoull(text, &end, 10);
        if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0)
            return qr_fail(err, QR_ERR_INVALID, "\"%s\" is not a whole number of 0 to 2^64 - 1",
                           text);
        *(uint64_t *)option->dest = value;
        return QR_OK;
    }
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value))
        return qr_fail(err, QR_ERR_INVALID, "\"%s\" is not a number", text);
    QR_TRY(check_range(option, value, text, err));
    *(float *)option->dest = (float)value;
    return QR_OK;
}

static enum qr_status parse_flag(bool *dest, const char *text, struct qr_error *err)
{
    if (text == NULL || strcmp(text, "1") == 0 || strcmp(text, "true") == 0)
        *dest = true;
    else if (strcmp(text, "0") == 0 || strcmp(text, "false") == 0)
        *dest = false;
    else
        return qr_fail(err, QR_ERR_INVALID, "\"%s\" is neither true nor false", text);
    return QR_OK;
}

static enum qr_status parse_switch(bool *dest, const char *text, struct qr_error *err)
{
    bool on = strcmp(text, "on") == 0;

    if (!on && strcmp(text, "off") != 0)
        return qr_fail(err, QR_ERR_INVALID, "\"%s\" is neither on nor off", text);
    *dest = on;
    return QR_OK;
}

static enum qr_status parse_choice(const struct qr_option *option, const char *text,
                                   struct qr_error *err)
{
    size_t length = strlen(text);
    int value = 0;

    for (const char *word = option->metavar; word != NULL; value++) {
        const char *bar = strchr(word, '|');
        size_t word_length = bar != NULL ? (size_t)(bar - word) : strlen(word);
        if (word_length == length && strncasecmp(word, text, length) == 0) {
            *(int *)option->dest = value;
            return QR_OK;
        }
        word = bar != NULL ? bar + 1 : NULL;
    }
    return qr_fail(err, QR_ERR_INVALID, "\"%s\" is none of %s", text, option->metavar);
}

static enum qr_status set_option(const struct qr_option *option, const char *text,
                                 struct qr_error *err)
{
    struct qr_string_list *list = option->dest;
    int64_t bytes;

    if (option->is_set != NULL)
        *option->is_set = true;
    switch (option->kind) {
    case QR_OPTION_FLAG:
        return parse_flag(option->dest, text, err);
    case QR_OPTION_STRING:
        *(const char **)option->dest = text;
        return QR_OK;
    case QR_OPTION_SIZE:
        QR_TRY(qr_parse_size(text, &bytes, err));
        QR_TRY(check_range(option, (double)bytes, text, err));
        *(int64_t *)option->dest = bytes;
        return QR_OK;
    case QR_OPTION_LIST:
        if (list->count == QR_LIST_MAX)
            return qr_fail(err, QR_ERR_INVALID, "given more than %d times", QR_LIST_MAX);
        list->items[list->count++] = text;
        return QR_OK;
    case QR_OPTION_SWITCH:
        return parse_switch(option->dest, text, err);
    case QR_OPTION_CHOICE:
        return parse_choice(option, text, err);
    case QR_OPTION_INT:
    case QR_OPTION_UINT64:
    case QR_OPTION_FLOAT:
        return parse_number(option, text, err);
    }
    return QR_ERR_INVALID;
}

static enum qr_status read_environment(const struct qr_command_line *line, struct qr_error *err)
{
    for (int32_t i = 0; i < line->n_options; i++) {
        char name[ENV_NAME_MAX];
        env_name(line->options[i].name, name);
        const char *value = getenv(name);
        if (value == NULL)
            continue;
        enum qr_status status = set_option(&line->options[i], value, err);
        if (status != QR_OK) {
            qr_error_prefix(err, "environment variable %s", name);
            return status;
        }
    }
    return QR_OK;
}

static const struct qr_option *find_option(const struct qr_command_line *line, const char *name,
                                           size_t length)
{
    for (int32_t i = 0; i < line->n_options; i++) {
        const char *candidate = line->options[i].name;
        if (strlen(candidate) == length && memcmp(candidate, name, length) == 0)
            return &line->options[i];
    }
    return NULL;
}

/* Takes argv[*index] (and the word after it, when that is its value). */
static enum qr_status take_option(const struct qr_command_line *line, int argc, char **argv,
                                  int *index, struct qr_error *err)
{
    const char *word = argv[*index] + 2;
    const char *equals = strchr(word, '=');
    size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
    const struct qr_option *option = find_option(line, word, length);
    const char *value = equals != NULL ? equals + 1 : NULL;

    if (option == NULL)
        return qr_fail(err, QR_ERR_INVALID, "unknown option --%.*s; see quire %s --help",
                       (int)length, word, line->command);
    if (value == NULL && option->kind != QR_OPTION_FLAG) {
        if (*index + 1 >= argc)
            return qr_fail(err, QR_ERR_INVALID, "--%s wants a value (%s)", option->name,
                           option->metavar);
        value = argv[++*index];
    }
    enum qr_status status = set_option(option, value, err);
    if (status != QR_OK)
        qr_error_prefix(err, "--%s", option->name);
    return status;
}

static enum qr_status parse_words(const struct qr_command_line *line, int argc, char **argv,
                                  struct qr_positionals *positionals, bool *help,
                                  struct qr_error *err)
{
    bool options_ended = false;

    positionals->count = 0;
    positionals->items = argv + 1; /* filled from the front: never past the word being read */
    QR_TRY(read_environment(line, err));
    for (int i = 1; i < argc; i++) {
        bool is_option = !options_ended && argv[i][0] == '-' && argv[i][1] != '\0';
        if (is_option && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            *help = true;
            return QR_OK;
        }
        if (is_option && strcmp(argv[i], "--") == 0)
            options_ended = true;
        else if (is_option && argv[i][1] == '-')
            QR_TRY(take_option(line, argc, argv, &i, err));
        else if (is_option)
            return qr_fail(err, QR_ERR_INVALID, "unknown option %s; see quire %s --help", argv[i],
                           line->command);
        else
            positionals->items[positionals->count++] = argv[i];
    }
    if (positionals->count < line->min_positionals)
        return qr_fail(err, QR_ERR_INVALID, "something is missing: quire %s %s", line->command,
                       line->synopsis);
    if (positionals->count > line->max_positionals)
        return qr_fail(err, QR_ERR_INVALID, "unexpected argument \"%s\": quire %s %s",
                       positionals->items[line->max_positionals], line->command, line->synopsis);
    return QR_OK;
}

enum qr_parse_result qr_options_parse(const struct qr_command_line *line, int argc, char **argv,
                                      struct qr_positionals *positionals)
{
    struct qr_error err = {{0}};
    bool help = false;

    if (parse_words(line, argc, argv, positionals, &help, &err) != QR_OK) {
        fprintf(stderr, "quire %s: %s\n", line->command, err.message);
        return QR_PARSE_ERROR;
    }
    if (help) {
        qr_options_help(line);
        return QR_PARSE_HELP;
    }
    return QR_PARSE_OK;
}

void qr_options_help(const struct qr_command_line *line)
{
    printf("usage: quire %s %s\n\n%s\n", line->command, line->synopsis, line->description);
    if (line->n_options == 0)
        return;
    printf("\noptions (each also as an environment variable: --%s is ", line->options[0].name);
    char name[ENV_NAME_MAX];
    env_name(line->options[0].name, name);
    printf("%s):\n", name);
    for (int32_t i = 0; i < line->n_options; i++) {
        const struct qr_option *option = &line->options[i];
        char left[64];
        snprintf(left, sizeof(left), "--%s%s%s", option->name, option->metavar != NULL ? " " : "",
                 option->metavar != NULL ? option->metavar : "");
        printf("  %-28s %s\n", left, option->help);
    }
}
