/*
 * cuda.h - one CUDA device as Quire uses it: kernels by name, memory, streams, and a latch for
 * the first failure.
 *
 * Work is only enqueued. A call that fails latches what failed (the op's name and its sizes) and
 * later work is skipped until qr_cuda_take_failure reads the latch, once a step: so no op has a
 * status of its own and nothing computes on what a failed op left behind.
 *
 * Threads: a struct qr_cuda belongs to one thread, the engine's. A second thread that copies
 * pages attaches itself, and uses a stream of its own through `driver`.
 */
#ifndef QUIRE_BASE_CUDA_CUDA_H
#define QUIRE_BASE_CUDA_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cuda/driver.h"
#include "base/status.h"

enum { QR_CUDA_MAX_IMAGES = 64 };

/* What the planning of a launch must know of the device. */
struct qr_cuda_properties {
    char name[128];
    int32_t ordinal;
    int32_t capability; /* 10 * major + minor: 80, 90 */
    int32_t n_sms;      /* multiprocessors */
    int32_t max_shared; /* bytes of shared memory that one block may ask for */
    int64_t l2_bytes;
    int64_t total_bytes; /* of device memory */
    bool reaches_pinned; /* kernels take addresses of host memory that was registered */
};

struct qr_cuda {
    const struct qr_cu_platform *platform; /* borrowed */
    const struct qr_cu_driver *driver;     /* the platform's */
    struct qr_cuda_properties properties;
    qr_cu_context context; /* the primary one */
    qr_cu_module modules[QR_CUDA_MAX_IMAGES];
    int32_t n_modules;
    qr_cu_stream stream; /* of the step: everything but swapping */
    bool launch_early; /* programmatic dependent launch: a kernel starts before the one ahead of it
                          has ended */
    enum qr_status status; /* QR_OK, or of the latched failure */
    struct qr_error failure;
};

/* A kernel, looked up once. */
struct qr_cuda_kernel {
    char name[64];
    qr_cu_function function;
    int32_t block_size;    /* threads */
    int32_t shared_bytes;  /* of dynamic shared memory, a block */
    int32_t blocks_per_sm; /* that fit on one multiprocessor at a time */
};

/* How many pieces of `by` cover n. */
static inline int32_t qr_divide_up(int32_t n, int32_t by)
{
    return (n + by - 1) / by;
}

QR_BEGIN_DECLS

/* The number of devices; 0 with a reason in err (may be NULL) when there is none. */
int32_t qr_cuda_count(const struct qr_cu_platform *platform, struct qr_error *err);

/*
 * Makes the device current for this thread and loads the kernels. ordinal in [0, count).
 * QR_ERR_NOT_FOUND: no driver or no such device. QR_ERR_UNSUPPORTED: the build has no kernels,
 * or the device is older than compute capability 8.0, or the driver is too old. err says which and
 * what to do.
 */
QR_MUST_CHECK enum qr_status qr_cuda_open(const struct qr_cu_platform *platform, int32_t ordinal,
                                          struct qr_cuda *out, struct qr_error *err);
/* Waits for what was enqueued. Accepts a zeroed struct. */
void qr_cuda_close(struct qr_cuda *cuda);
/* Makes the device current for the calling thread: each thread that uses it, once. */
QR_MUST_CHECK enum qr_status qr_cuda_attach_thread(const struct qr_cuda *cuda,
                                                   struct qr_error *err);

/* Finds a kernel and sets what it will be launched with. QR_ERR_NOT_FOUND: no module has it. */
QR_MUST_CHECK enum qr_status qr_cuda_find_kernel(struct qr_cuda *cuda, const char *name,
                                                 int32_t block_size, int32_t shared_bytes,
                                                 struct qr_cuda_kernel *out, struct qr_error *err);
/* Enqueues one launch on the step's stream; nothing for an empty grid. params: the kernel's one
 * struct, copied. */
void qr_cuda_launch(struct qr_cuda *cuda, const struct qr_cuda_kernel *kernel, int32_t grid_x,
                    int32_t grid_y, const void *params);

/* Device memory; 0 when exhausted, not latched: the caller says what it was for. */
qr_cu_address qr_cuda_alloc(struct qr_cuda *cuda, size_t n_bytes);
void qr_cuda_free(struct qr_cuda *cuda, qr_cu_address address); /* accepts 0 */
/* Pinned host memory, which copies reach at full speed; NULL when exhausted. */
void *qr_cuda_host_alloc(struct qr_cuda *cuda, size_t n_bytes);
void qr_cuda_host_free(struct qr_cuda *cuda, void *memory); /* accepts NULL */
int64_t qr_cuda_free_bytes(struct qr_cuda *cuda);

/* On the step's stream. `what` names the copy in a failure. Host memory of the asynchronous
 * copies must be pinned and stays untouched until the stream has passed. */
void qr_cuda_copy_to_device(struct qr_cuda *cuda, const char *what, qr_cu_address to,
                            const void *from, size_t n_bytes);
void qr_cuda_copy_to_host(struct qr_cuda *cuda, const char *what, void *to, qr_cu_address from,
                          size_t n_bytes);
void qr_cuda_zero(struct qr_cuda *cuda, const char *what, qr_cu_address to, size_t n_bytes);
/* Waits for the step's stream. */
void qr_cuda_synchronize(struct qr_cuda *cuda);

/* Latches a failure unless there is one already; `result` of the driver. True when it was QR_CU_OK.
 */
bool qr_cuda_check(struct qr_cuda *cuda, qr_cu_result result, const char *format, ...)
    QR_PRINTF(3, 4);
/* The latched failure, if any, into err; the latch is then open again. */
QR_MUST_CHECK enum qr_status qr_cuda_take_failure(struct qr_cuda *cuda, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_BASE_CUDA_CUDA_H */
