/*
 * thread_pool.h - a fixed team of threads that runs one function at a time over a
 * range of work items.
 *
 * Items must be independent: which thread runs an item, and how many threads there
 * are, must not change any result (design, decision 4). The caller's thread takes
 * part, so a pool of one starts no thread. One caller at a time. Idle workers sleep.
 */
#ifndef QUIRE_BASE_THREAD_POOL_H
#define QUIRE_BASE_THREAD_POOL_H

#include <stdint.h>

#include "base/status.h"

struct qr_thread_pool;

/*
 * Runs items [first, last). `worker` is in [0, n_threads): it indexes per-thread
 * scratch memory and nothing else.
 */
typedef void (*qr_work_fn)(void *arg, int64_t first, int64_t last, int32_t worker);

QR_BEGIN_DECLS

/* Cores that this process may run on. */
int32_t qr_usable_cores(void);

/* n_threads in [1, 1024], the caller's included. */
QR_MUST_CHECK enum qr_status qr_thread_pool_create(int32_t n_threads, struct qr_thread_pool **out);
void qr_thread_pool_destroy(struct qr_thread_pool *pool); /* accepts NULL */
int32_t qr_thread_pool_size(const struct qr_thread_pool *pool);

/*
 * Splits [0, n_items) into pieces of `grain` items (at least 1), hands them out
 * and returns when all are done. Allocates nothing.
 */
void qr_thread_pool_run(struct qr_thread_pool *pool, int64_t n_items, int64_t grain, qr_work_fn fn,
                        void *arg);

QR_END_DECLS

#endif /* QUIRE_BASE_THREAD_POOL_H */
