/* clock.h - time in nanoseconds; the scheduler is handed clock values, it never reads one. */
#ifndef QUIRE_BASE_CLOCK_H
#define QUIRE_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define QR_NS_PER_SEC INT64_C(1000000000)
#define QR_TIME_NEVER INT64_MAX

/* Nanoseconds of the monotonic clock: only differences mean anything. */
static inline int64_t qr_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * QR_NS_PER_SEC + now.tv_nsec;
}

static inline double qr_seconds_between(int64_t from_ns, int64_t to_ns)
{
    return (double)(to_ns - from_ns) / QR_NS_PER_SEC;
}

#endif /* QUIRE_BASE_CLOCK_H */
