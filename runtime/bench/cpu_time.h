/* cpu_time.h - time that the calling thread ran: other programs on the machine do not count. */
#ifndef QUIRE_RUNTIME_BENCH_CPU_TIME_H
#define QUIRE_RUNTIME_BENCH_CPU_TIME_H

#include <stdint.h>
#include <time.h>

#include "base/clock.h"

static inline int64_t qr_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * QR_NS_PER_SEC + now.tv_nsec;
}

#endif /* QUIRE_RUNTIME_BENCH_CPU_TIME_H */
