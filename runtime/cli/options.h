/*
 * options.h - command-line options from a table: parsing, checking, environment
 * variables and --help all read the same rows.
 *
 * `--name VALUE` and `--name=VALUE` both work; `--` ends the options. Each option
 * also has an environment variable, QUIRE_ and its name in capitals with
 * underscores; the command line wins.
 */
#ifndef QUIRE_RUNTIME_CLI_OPTIONS_H
#define QUIRE_RUNTIME_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/string_list.h"

enum qr_option_kind {
    QR_OPTION_FLAG,   /* bool *, no value */
    QR_OPTION_STRING, /* const char ** */
    QR_OPTION_INT,    /* int32_t *, in [min, max] */
    QR_OPTION_UINT64, /* uint64_t *, the whole range */
    QR_OPTION_FLOAT,  /* float *, in [min, max] */
    QR_OPTION_SIZE,   /* int64_t *, bytes in [min, max]; 512, 64KiB, 1.5GiB, 2GB */
    QR_OPTION_LIST,   /* struct qr_string_list *, may be repeated; borrows */
    QR_OPTION_SWITCH, /* bool *, "on" or "off" */
    QR_OPTION_CHOICE, /* an enum *: which of the metavar's words, "a|b|c" from 0 on; in any case */
};

struct qr_option {
    const char *name; /* without the dashes */
    enum qr_option_kind kind;
    const char *metavar; /* "SIZE"; NULL for a flag */
    void *dest;          /* holds the default before parsing */
    double min;
    double max;
    const char *help; /* one line: meaning, unit, range, default */
    bool *is_set;     /* may be NULL: set to true when a value was given */
};

struct qr_command_line {
    const char *command;     /* "serve" */
    const char *synopsis;    /* "[options]" */
    const char *description; /* a sentence or a few lines */
    const struct qr_option *options;
    int32_t n_options;
    int32_t min_positionals;
    int32_t max_positionals;
};

enum qr_parse_result {
    QR_PARSE_OK,
    QR_PARSE_HELP,  /* --help was asked for and has been printed */
    QR_PARSE_ERROR, /* said on stderr */
};

struct qr_positionals {
    int32_t count;
    char **items; /* borrowed from argv */
};

QR_BEGIN_DECLS

/* argv[0] is the command's name. Reorders argv: positionals last. */
enum qr_parse_result qr_options_parse(const struct qr_command_line *line, int argc, char **argv,
                                      struct qr_positionals *positionals);
void qr_options_help(const struct qr_command_line *line);
/* "64MiB" to bytes. QR_ERR_INVALID names the text. */
QR_MUST_CHECK enum qr_status qr_parse_size(const char *text, int64_t *bytes, struct qr_error *err);
/* "1,1.5,2": at most `capacity` numbers in [min, max]. QR_ERR_INVALID names the option. */
QR_MUST_CHECK enum qr_status qr_parse_numbers(const char *option, const char *text, double min,
                                              double max, int32_t capacity, double *numbers,
                                              int32_t *count, struct qr_error *err);
/* Bytes as "64.0 MiB"; returns `out`. */
const char *qr_format_size(int64_t bytes, char *out, size_t out_size);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_CLI_OPTIONS_H */
