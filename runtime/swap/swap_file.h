/*
 * swap_file.h - the file that the disk tier's slots lie in: without a name, of full size
 * from the start, past the page cache where the file system allows that.
 */
#ifndef QUIRE_RUNTIME_SWAP_SWAP_FILE_H
#define QUIRE_RUNTIME_SWAP_SWAP_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* What O_DIRECT asks of addresses, lengths and offsets on every common disk. */
enum { QR_SWAP_ALIGNMENT = 4096 };

struct qr_swap_file {
    int fd;      /* -1: not open */
    bool direct; /* opened past the page cache */
};

QR_BEGIN_DECLS

/*
 * Makes a file of n_slots * slot_bytes bytes in the folder `dir` and writes and reads its
 * first slot once. slot_bytes is a multiple of QR_SWAP_ALIGNMENT. On error the file is
 * closed and err names the folder and what to do: QR_ERR_NOT_FOUND, QR_ERR_INVALID (no
 * folder), QR_ERR_IO (not writable, no room, or it failed), QR_ERR_NOMEM.
 */
QR_MUST_CHECK enum qr_status qr_swap_file_open(struct qr_swap_file *file, const char *dir,
                                               int64_t slot_bytes, int32_t n_slots,
                                               struct qr_error *err);
void qr_swap_file_close(struct qr_swap_file *file);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SWAP_SWAP_FILE_H */
