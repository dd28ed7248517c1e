/* commands.h - the commands of the binary; each stands in its own cmd_*.c. */
#ifndef QUIRE_RUNTIME_CLI_COMMANDS_H
#define QUIRE_RUNTIME_CLI_COMMANDS_H

#include "base/status.h"

/* Exit codes of every command. */
enum {
    QR_EXIT_OK = 0,
    QR_EXIT_FAILED = 1, /* it was understood and did not work */
    QR_EXIT_USAGE = 2,  /* the command line is wrong */
};

QR_BEGIN_DECLS

/* What a command ends with: its exit code, after saying on stderr why it failed. */
int qr_command_exit(const char *command, enum qr_status status, const struct qr_error *err);
/* Sets the level that --log-level names. */
QR_MUST_CHECK enum qr_status qr_command_log_level(const char *name, struct qr_error *err);

/* argv[0] is the command's name. Each returns the exit code. */
int qr_cmd_generate(int argc, char **argv);
int qr_cmd_score(int argc, char **argv);
int qr_cmd_tokenize(int argc, char **argv);
int qr_cmd_detokenize(int argc, char **argv);
int qr_cmd_train_tokenizer(int argc, char **argv);
int qr_cmd_info(int argc, char **argv);
int qr_cmd_serve(int argc, char **argv);
int qr_cmd_bench(int argc, char **argv);
int qr_cmd_replay(int argc, char **argv);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_CLI_COMMANDS_H */
