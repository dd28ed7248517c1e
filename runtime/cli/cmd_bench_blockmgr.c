/* cmd_bench_blockmgr.c - `quire bench blockmgr`: nanoseconds for each page operation. */
#include <stdio.h>
#include <stdlib.h>

#include "runtime/bench/blockmgr.h"
#include "runtime/bench/report.h"
#include "runtime/cli/bench_commands.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/options.h"

enum { N_SIZES = 4, LIMIT_NS = 100 };

static const int32_t sizes[N_SIZES] = {10000, 100000, 1000000, 10000000};

struct blockmgr_command {
    int32_t n_runs;
    int32_t max_pages;
    const char *json;
};

struct times {
    double runs[QR_PAGE_OPERATIONS][N_SIZES][QR_MAX_RUNS];
    double median[QR_PAGE_OPERATIONS][N_SIZES];
    int32_t n_sizes;
};

static enum qr_status measure(const struct blockmgr_command *command, struct times *times,
                              struct qr_error *err)
{
    double ns[QR_PAGE_OPERATIONS];

    while (times->n_sizes < N_SIZES && sizes[times->n_sizes] <= command->max_pages)
        times->n_sizes++;
    for (int32_t run = 0; run < command->n_runs; run++) {
        for (int32_t i = 0; i < times->n_sizes; i++) {
            if (qr_measure_page_operations(sizes[i], ns) != QR_OK)
                return qr_fail(err, QR_ERR_NOMEM, "not enough memory for %d pages", sizes[i]);
            for (int op = 0; op < QR_PAGE_OPERATIONS; op++)
                times->runs[op][i][run] = ns[op];
        }
    }
    for (int op = 0; op < QR_PAGE_OPERATIONS; op++) {
        for (int32_t i = 0; i < times->n_sizes; i++)
            times->median[op][i] = qr_median(times->runs[op][i], command->n_runs);
    }
    return QR_OK;
}

static void print(const struct blockmgr_command *command, const struct times *times)
{
    printf("ns of CPU time of the thread for each page, page size 16, median of %d run%s; "
           "limit %d ns, flat\n\n%-26s",
           command->n_runs, command->n_runs == 1 ? "" : "s", LIMIT_NS, "pages in the pool");
    for (int32_t i = 0; i < times->n_sizes; i++)
        printf(" %10d", sizes[i]);
    printf("\n");
    for (int op = 0; op < QR_PAGE_OPERATIONS; op++) {
        printf("%-26s", qr_page_operation_name((enum qr_page_operation)op));
        for (int32_t i = 0; i < times->n_sizes; i++)
            printf(" %10.1f", times->median[op][i]);
        printf("\n");
    }
}

static json_t *times_json(const struct blockmgr_command *command, const struct times *times)
{
    json_t *operations = json_object();

    for (int op = 0; op < QR_PAGE_OPERATIONS; op++) {
        json_t *by_size = json_array();
        for (int32_t i = 0; i < times->n_sizes; i++) {
            json_t *runs = json_array();
            for (int32_t run = 0; run < command->n_runs; run++)
                json_array_append_new(runs, json_real(times->runs[op][i][run]));
            json_array_append_new(by_size, json_pack("{s:i, s:f, s:o}", "pages", sizes[i], "median",
                                                     times->median[op][i], "runs", runs));
        }
        json_object_set_new(operations, qr_page_operation_name((enum qr_page_operation)op),
                            by_size);
    }
    return operations;
}

static enum qr_status write_json(const struct blockmgr_command *command, const struct times *times,
                                 int argc, char **argv, struct qr_error *err)
{
    json_t *root =
        json_pack("{s:i, s:o}", "limit_ns", LIMIT_NS, "ns_a_page", times_json(command, times));
    return qr_bench_json_write(root, argc, argv, command->json, err);
}

static enum qr_status run_blockmgr(const struct blockmgr_command *command, int argc, char **argv,
                                   struct qr_error *err)
{
    struct times *times = calloc(1, sizeof(*times));

    if (times == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory");
    enum qr_status status = measure(command, times, err);
    if (status == QR_OK)
        print(command, times);
    if (status == QR_OK && command->json != NULL)
        status = write_json(command, times, argc, argv, err);
    free(times);
    return status;
}

int qr_cmd_bench_blockmgr(int argc, char **argv)
{
    struct blockmgr_command command = {.n_runs = 5, .max_pages = sizes[N_SIZES - 1]};
    struct qr_positionals positionals;
    struct qr_error err = {""};
    const struct qr_option options[] = {
        {"runs", QR_OPTION_INT, "N", &command.n_runs, 1, QR_MAX_RUNS, "1 to 32; default 5", NULL},
        {"max-pages", QR_OPTION_INT, "N", &command.max_pages, 10000, 10000000,
         "the largest pool, of 10 thousand, 100 thousand, 1 million and 10 million pages; the "
         "last takes 4 GiB; default 10000000",
         NULL},
        {"json", QR_OPTION_STRING, "FILE", &command.json, 0, 0, "write the figures there", NULL},
    };
    const struct qr_command_line line = {
        .command = "bench blockmgr",
        .synopsis = "[options]",
        .description = "Measures append, fork, free and lookup of the block manager in pools of "
                       "different sizes.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    return qr_command_exit("bench blockmgr", run_blockmgr(&command, argc, argv, &err), &err);
}
