/* bench_commands.h - the benchmarks of `quire bench`; each stands in its own cmd_bench_*.c. */
#ifndef QUIRE_RUNTIME_CLI_BENCH_COMMANDS_H
#define QUIRE_RUNTIME_CLI_BENCH_COMMANDS_H

#include "base/status.h"

QR_BEGIN_DECLS

/* argv[0] is the benchmark's name. Each returns the exit code. */
int qr_cmd_bench_pressure(int argc, char **argv);
int qr_cmd_bench_server(int argc, char **argv);
int qr_cmd_bench_simulate(int argc, char **argv);
int qr_cmd_bench_blockmgr(int argc, char **argv);
int qr_cmd_bench_cpu(int argc, char **argv);
int qr_cmd_bench_cuda(int argc, char **argv);
int qr_cmd_bench_tokenizer(int argc, char **argv);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_CLI_BENCH_COMMANDS_H */
