/* cmd_bench.c - `quire bench`: finds the benchmark and hands over to it. */
#include <stdio.h>
#include <string.h>

#include "runtime/cli/bench_commands.h"
#include "runtime/cli/commands.h"

struct benchmark {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct benchmark benchmarks[] = {
    {"pressure", qr_cmd_bench_pressure, "the real server on a trace, with too few KV pages"},
    {"server", qr_cmd_bench_server, "start, streaming clients and memory of the server"},
    {"simulate", qr_cmd_bench_simulate, "the scheduler alone on a trace, with a device model"},
    {"blockmgr", qr_cmd_bench_blockmgr, "nanoseconds for each page operation"},
    {"cpu", qr_cmd_bench_cpu, "prefill and decode steps on the processor, against its limits"},
    {"cuda", qr_cmd_bench_cuda, "attention, products, steps and swapping on a CUDA device"},
    {"tokenizer", qr_cmd_bench_tokenizer, "megabytes and tokens a second of encoding"},
};

enum { N_BENCHMARKS = sizeof(benchmarks) / sizeof(benchmarks[0]) };

static void print_usage(FILE *out)
{
    fprintf(out, "usage: quire bench BENCHMARK [options]\n\nbenchmarks:\n");
    for (int i = 0; i < N_BENCHMARKS; i++)
        fprintf(out, "  %-16s %s\n", benchmarks[i].name, benchmarks[i].summary);
    fprintf(out, "\nquire bench BENCHMARK --help lists its options.\n");
}

int qr_cmd_bench(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return QR_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return QR_EXIT_OK;
    }
    for (int i = 0; i < N_BENCHMARKS; i++) {
        if (strcmp(argv[1], benchmarks[i].name) == 0)
            return benchmarks[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "quire bench: no benchmark \"%s\"; see quire bench --help\n", argv[1]);
    return QR_EXIT_USAGE;
}
