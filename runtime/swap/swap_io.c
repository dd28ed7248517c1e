/*
 * swap_io.c - see swap_io.h for the contract.
 *
 * A kernel may permit io_uring when the ring is made and refuse it later (a seccomp filter
 * that comes into force, memory that runs out). Then what the ring has not taken, and all
 * that follows, goes by pread and pwrite; what it has taken still ends in it.
 */
#include "runtime/swap/swap_io.h"

#include <errno.h>
#include <liburing.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"

struct qr_swap_io {
    int fd;
    int32_t depth;
    int32_t n_begun; /* and not yet reaped */
    struct io_uring ring;
    bool has_ring;
    bool uses_ring;                      /* for new requests */
    int32_t n_queued;                    /* in the ring, not yet handed to the kernel */
    struct qr_swap_io_request *requests; /* [depth], those n_queued, oldest first */
    int32_t n_done;
    struct qr_swap_io_result *done; /* [depth], ended without the ring */
};

static void open_ring(struct qr_swap_io *io, int wake_fd)
{
    int rc = io_uring_queue_init((unsigned)io->depth, &io->ring, 0);

    if (rc == 0) {
        io->has_ring = true;
        rc = io_uring_register_eventfd(&io->ring, wake_fd);
    }
    io->uses_ring = rc == 0;
    if (!io->uses_ring)
        qr_log(QR_LOG_INFO, "swap_without_io_uring", "reason=\"%s\"", strerror(-rc));
}

enum qr_status qr_swap_io_create(int fd, int wake_fd, int32_t depth, struct qr_swap_io **out)
{
    *out = NULL;
    struct qr_swap_io *io = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*io));
    if (io == NULL)
        return QR_ERR_NOMEM;
    io->fd = fd;
    io->depth = depth;
    io->requests = qr_calloc(QR_ARENA_ENGINE, (size_t)depth, sizeof(*io->requests));
    io->done = qr_calloc(QR_ARENA_ENGINE, (size_t)depth, sizeof(*io->done));
    if (io->requests == NULL || io->done == NULL) {
        qr_swap_io_destroy(io);
        return QR_ERR_NOMEM;
    }
    open_ring(io, wake_fd);
    *out = io;
    return QR_OK;
}

void qr_swap_io_destroy(struct qr_swap_io *io)
{
    if (io == NULL)
        return;
    QR_ASSERT(io->n_begun == 0);
    if (io->has_ring)
        io_uring_queue_exit(&io->ring);
    qr_free(io->requests);
    qr_free(io->done);
    qr_free(io);
}

bool qr_swap_io_uses_uring(const struct qr_swap_io *io)
{
    return io->uses_ring;
}

static void end_without_ring(struct qr_swap_io *io, int32_t tag, int32_t result)
{
    io->done[io->n_done++] = (struct qr_swap_io_result){.tag = tag, .result = result};
}

static void run_now(struct qr_swap_io *io, const struct qr_swap_io_request *request)
{
    ssize_t n = request->write ? pwrite(io->fd, request->data, request->n_bytes, request->offset)
                               : pread(io->fd, request->data, request->n_bytes, request->offset);
    end_without_ring(io, request->tag, n < 0 ? -errno : (int32_t)n);
}

void qr_swap_io_begin(struct qr_swap_io *io, const struct qr_swap_io_request *request)
{
    QR_ASSERT(io->n_begun < io->depth);
    io->n_begun++;
    if (!io->uses_ring) {
        run_now(io, request);
        return;
    }
    struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);
    QR_ASSERT(sqe != NULL); /* the ring has room for all that may be begun */
    if (request->write)
        io_uring_prep_write(sqe, io->fd, request->data, request->n_bytes,
                            (uint64_t)request->offset);
    else
        io_uring_prep_read(sqe, io->fd, request->data, request->n_bytes, (uint64_t)request->offset);
    sqe->user_data = (__u64)request->tag;
    io->requests[io->n_queued++] = *request;
}

static void leave_ring(struct qr_swap_io *io, int failure)
{
    int32_t n_left = (int32_t)io_uring_sq_ready(&io->ring);

    qr_log(QR_LOG_WARN, "swap_without_io_uring", "reason=\"%s\"", strerror(failure));
    io->uses_ring = false;
    for (int32_t i = io->n_queued - n_left; i < io->n_queued; i++)
        run_now(io, &io->requests[i]);
    io->n_queued = 0;
}

void qr_swap_io_flush(struct qr_swap_io *io)
{
    if (!io->uses_ring || io->n_queued == 0)
        return;
    /* The kernel may take them in several portions. */
    while (io_uring_sq_ready(&io->ring) > 0) {
        int rc = io_uring_submit(&io->ring);
        if (rc <= 0 && rc != -EINTR) {
            leave_ring(io, rc == 0 ? EAGAIN : -rc);
            return;
        }
    }
    io->n_queued = 0;
}

void qr_swap_io_pretend(struct qr_swap_io *io, int32_t tag, int32_t result)
{
    QR_ASSERT(io->n_begun < io->depth);
    io->n_begun++;
    end_without_ring(io, tag, result);
}

int32_t qr_swap_io_reap(struct qr_swap_io *io, struct qr_swap_io_result *results)
{
    struct io_uring_cqe *cqe;
    int32_t n = io->n_done;

    memcpy(results, io->done, (size_t)n * sizeof(*results));
    io->n_done = 0;
    while (io->has_ring && n < io->depth && io_uring_peek_cqe(&io->ring, &cqe) == 0) {
        results[n++] =
            (struct qr_swap_io_result){.tag = (int32_t)cqe->user_data, .result = cqe->res};
        io_uring_cqe_seen(&io->ring, cqe);
    }
    io->n_begun -= n;
    return n;
}
