/* read_input.h - a whole file or standard input as bytes. */
#ifndef QUIRE_RUNTIME_CLI_READ_INPUT_H
#define QUIRE_RUNTIME_CLI_READ_INPUT_H

#include <stdio.h>

#include "base/buffer.h"

QR_BEGIN_DECLS

/* Appends everything up to the end of `file`. */
QR_MUST_CHECK enum qr_status qr_read_all(FILE *file, struct qr_buffer *buffer,
                                         struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_CLI_READ_INPUT_H */
