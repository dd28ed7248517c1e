/*
 * swap_io.h - reads and writes of one file, several at a time: by io_uring (Axboe,
 * "Efficient IO with io_uring", 2019), or one after the other by pread and pwrite where
 * the system does not permit that, as in some containers.
 *
 * One thread at a time. Nothing allocates after create.
 */
#ifndef QUIRE_RUNTIME_SWAP_SWAP_IO_H
#define QUIRE_RUNTIME_SWAP_SWAP_IO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct qr_swap_io;

struct qr_swap_io_request {
    int32_t tag; /* comes back with the result */
    bool write;
    void *data; /* [n_bytes], left alone until the result is there */
    uint32_t n_bytes;
    int64_t offset;
};

struct qr_swap_io_result {
    int32_t tag;
    int32_t result; /* bytes read or written, or -errno */
};

QR_BEGIN_DECLS

/*
 * fd: the file. wake_fd: an eventfd that is written to when a result is there. Both are
 * borrowed. At most `depth` requests are begun and not yet reaped. QR_ERR_NOMEM.
 */
QR_MUST_CHECK enum qr_status qr_swap_io_create(int fd, int wake_fd, int32_t depth,
                                               struct qr_swap_io **out);
/* Nothing may be under way. Accepts NULL. */
void qr_swap_io_destroy(struct qr_swap_io *io);
bool qr_swap_io_uses_uring(const struct qr_swap_io *io);

/* Requests may wait until the flush. */
void qr_swap_io_begin(struct qr_swap_io *io, const struct qr_swap_io_request *request);
void qr_swap_io_flush(struct qr_swap_io *io);
/* A result without an access, in place of one. */
void qr_swap_io_pretend(struct qr_swap_io *io, int32_t tag, int32_t result);
/* Does not wait. Returns how many results [depth] were written. */
int32_t qr_swap_io_reap(struct qr_swap_io *io, struct qr_swap_io_result *results);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SWAP_SWAP_IO_H */
