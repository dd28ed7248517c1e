/* commands.c - see commands.h for the contract: what all commands share. */
#include "runtime/cli/commands.h"

#include <stdio.h>

#include "base/log.h"

int qr_command_exit(const char *command, enum qr_status status, const struct qr_error *err)
{
    if (status == QR_OK)
        return QR_EXIT_OK;
    fprintf(stderr, "quire %s: %s\n", command,
            err->message[0] != '\0' ? err->message : qr_status_name(status));
    return QR_EXIT_FAILED;
}

enum qr_status qr_command_log_level(const char *name, struct qr_error *err)
{
    enum qr_log_level level;

    if (!qr_log_parse_level(name, &level))
        return qr_fail(err, QR_ERR_INVALID,
                       "--log-level: \"%s\" is none of debug, info, warn, error, off", name);
    qr_log_set_level(level);
    return QR_OK;
}
