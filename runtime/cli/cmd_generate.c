#include "runtime/cli/commands.h"
int qr_cmd_generate(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return QR_EXIT_FAILED;
}
