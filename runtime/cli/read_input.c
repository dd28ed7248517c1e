/* read_input.c - see read_input.h for the contract. */
#include "runtime/cli/read_input.h"

#include <errno.h>
#include <string.h>

enum qr_status qr_read_all(FILE *file, struct qr_buffer *buffer, struct qr_error *err)
{
    char piece[65536];
    size_t n;

    while ((n = fread(piece, 1, sizeof(piece), file)) > 0) {
        if (qr_buffer_append(buffer, piece, n) != QR_OK)
            return qr_fail(err, QR_ERR_NOMEM, "the input is too large for the memory");
    }
    if (ferror(file))
        return qr_fail(err, QR_ERR_IO, "cannot read the input: %s", strerror(errno));
    return QR_OK;
}
