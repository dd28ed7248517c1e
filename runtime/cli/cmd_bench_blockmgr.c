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
};

struct figures {
    struct times warm;
    struct times cold; /* caches, before each step */
    int32_t n_sizes;
};

static enum qr_status run_once(int32_t size, int32_t run, bool cold, struct times *times,
                               struct qr_error *err)
{
    double ns[QR_PAGE_OPERATIONS];

    if (qr_measure_page_operations(sizes[size], cold, ns) != QR_OK)
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory for %d pages", sizes[size]);
    for (int op = 0; op < QR_PAGE_OPERATIONS; op++)
        times->runs[op][size][run] = ns[op];
    return QR_OK;
}

static void find_medians(const struct blockmgr_command *command, int32_t n_sizes,
                         struct times *times)
{
    for (int op = 0; op < QR_PAGE_OPERATIONS; op++) {
        for (int32_t i = 0; i < n_sizes; i++)
            times->median[op][i] = qr_median(times->runs[op][i], command->n_runs);
    }
}

static enum qr_status measure(const struct blockmgr_command *command, struct figures *figures,
                              struct qr_error *err)
{
    enum qr_status status = QR_OK;

    while (figures->n_sizes < N_SIZES && sizes[figures->n_sizes] <= command->max_pages)
        figures->n_sizes++;
    for (int32_t run = 0; run < command->n_runs && status == QR_OK; run++) {
        for (int32_t i = 0; i < figures->n_sizes && status == QR_OK; i++) {
            status = run_once(i, run, false, &figures->warm, err);
            if (status == QR_OK)
                status = run_once(i, run, true, &figures->cold, err);
        }
    }
    if (status == QR_OK) {
        find_medians(command, figures->n_sizes, &figures->warm);
        find_medians(command, figures->n_sizes, &figures->cold);
    }
    return status;
}

static void print_times(const char *title, const struct times *times, int32_t n_sizes)
{
    printf("\n%-26s", title);
    for (int32_t i = 0; i < n_sizes; i++)
        printf(" %10d", sizes[i]);
    printf("   last/first\n");
    for (int op = 0; op < QR_PAGE_OPERATIONS; op++) {
        const double *median = times->median[op];
        printf("%-26s", qr_page_operation_name((enum qr_page_operation)op));
        for (int32_t i = 0; i < n_sizes; i++)
            printf(" %10.1f", median[i]);
        printf(" %12.2f\n", median[n_sizes - 1] / median[0]);
    }
}

static void print(const struct blockmgr_command *command, const struct figures *figures)
{
    printf("ns of CPU time of the thread for each page, page size 16, median of %d run%s; "
           "limit %d ns, flat\n",
           command->n_runs, command->n_runs == 1 ? "" : "s", LIMIT_NS);
    print_times("warm caches, pages:", &figures->warm, figures->n_sizes);
    print_times("cold caches, pages:", &figures->cold, figures->n_sizes);
}

static json_t *times_json(const struct blockmgr_command *command, const struct times *times,
                          int32_t n_sizes)
{
    json_t *operations = json_object();

    for (int op = 0; op < QR_PAGE_OPERATIONS; op++) {
        json_t *by_size = json_array();
        for (int32_t i = 0; i < n_sizes; i++) {
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

static enum qr_status write_json(const struct blockmgr_command *command,
                                 const struct figures *figures, int argc, char **argv,
                                 struct qr_error *err)
{
    json_t *root =
        json_pack("{s:i, s:o, s:o}", "limit_ns", LIMIT_NS, "ns_a_page",
                  times_json(command, &figures->warm, figures->n_sizes), "ns_a_page_cold_caches",
                  times_json(command, &figures->cold, figures->n_sizes));
    return qr_bench_json_write(root, argc, argv, command->json, err);
}

static enum qr_status run_blockmgr(const struct blockmgr_command *command, int argc, char **argv,
                                   struct qr_error *err)
{
    struct figures *figures = calloc(1, sizeof(*figures));

    if (figures == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory");
    enum qr_status status = measure(command, figures, err);
    if (status == QR_OK)
        print(command, figures);
    if (status == QR_OK && command->json != NULL)
        status = write_json(command, figures, argc, argv, err);
    free(figures);
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
                       "different sizes, with warm caches and with cold ones.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    return qr_command_exit("bench blockmgr", run_blockmgr(&command, argc, argv, &err), &err);
}
