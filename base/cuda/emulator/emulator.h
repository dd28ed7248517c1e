/*
 * emulator.h - how a test steers the emulated GPU: schedules, the device's figures, faults.
 *
 * The emulator runs kernels on the CPU as a GPU would: a CUDA thread is a fiber, a block is a set
 * of fibers on one OS thread. It stops the process with a message that names the kernel, the
 * block and the thread when a kernel breaks a rule of the execution model:
 *   - a barrier, a warp function or an mbarrier that can never be passed (divergence, deadlock),
 *   - lanes of a warp that meet in different functions,
 *   - misaligned 16-byte accesses, copies and matrix rows; addresses that are not shared memory,
 *   - an mbarrier that was not initialised, was overwritten, or got too many arrivals,
 *   - the end of a thread or block with copies in flight,
 *   - writes past the block's shared memory, or around a piece of device memory.
 * Shared memory before a block, and fresh device and pinned memory, hold NaN in every format.
 * Copies in the background land as late as the kernel's own waits allow, or at once.
 *
 * Only tests link it. Settings are for the whole process: change them while nothing runs.
 */
#ifndef QUIRE_BASE_CUDA_EMULATOR_EMULATOR_H
#define QUIRE_BASE_CUDA_EMULATOR_EMULATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cuda/driver.h"

enum qr_emulator_async {
    QR_EMULATOR_LATE,   /* a copy lands when it is waited for: shows a missing wait */
    QR_EMULATOR_EARLY,  /* at once: shows memory that is overwritten while still being read */
    QR_EMULATOR_RANDOM, /* by the seed, each copy by itself */
};

struct qr_emulator_settings {
    uint64_t seed; /* order of threads and blocks: 0 ascending, 1 descending, else random by seed */
    enum qr_emulator_async async; /* cp.async and bulk copies inside a kernel */
    /* Work of a stream runs when something waits for it, not when enqueued; and of a launch that
     * may start early all that it does before it waits for the one ahead comes before that one. */
    bool late_streams;
    int32_t n_workers;  /* OS threads that run the blocks of a launch */
    int32_t capability; /* 80 or 90 */
    int32_t n_sms;
    int32_t n_devices;    /* 0 or 1 */
    int64_t device_bytes; /* of device memory */
};

QR_BEGIN_DECLS

/*
 * What the process started with: QUIRE_EMULATOR_SEED (0), _ASYNC (late, early, random), _STREAMS
 * (now, late), _THREADS (1; 2 under ThreadSanitizer), _CAPABILITY (90), and 4 multiprocessors, 1
 * GiB.
 */
struct qr_emulator_settings qr_emulator_default_settings(void);
/* Those in force: the defaults until something else is set. */
struct qr_emulator_settings qr_emulator_get_settings(void);
void qr_emulator_set(const struct qr_emulator_settings *settings);

/*
 * Faults. `nth` counts from 1, the next one. A result for which qr_cu_loses_device holds is
 * told by every later call, as the driver does, until qr_emulator_heal; others by the call itself.
 */
void qr_emulator_fail_allocation(int32_t nth); /* device or pinned; out of memory */
void qr_emulator_fail_launch(const char *kernel, int32_t nth, qr_cu_result result);
void qr_emulator_fail_copy(int32_t nth, qr_cu_result result); /* copies and memset, any direction */
/* Takes back all faults, also those that have not happened yet. */
void qr_emulator_heal(void);

/* Launches since the start of the process; those of one kernel when `kernel` is not NULL. */
int64_t qr_emulator_count_launches(const char *kernel);
/* Bytes that copies from the device to the host were asked for, since the start of the process. */
int64_t qr_emulator_bytes_to_host(void);
/* Bytes of device and pinned memory that are allocated now: tests for leaks. */
int64_t qr_emulator_bytes_in_use(void);

QR_END_DECLS

#endif /* QUIRE_BASE_CUDA_EMULATOR_EMULATOR_H */
