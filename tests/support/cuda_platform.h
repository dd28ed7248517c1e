/*
 * cuda_platform.h - the CUDA platform that a test runs on, chosen in one place.
 *
 * By default the emulator. With QUIRE_CUDA_PLATFORM=real in the environment it is the driver of
 * this machine, with the kernels that nvcc made: `./dev gpu` runs the same programs so. A test
 * must not ask for more than a real device gives, and skips by qr_test_cuda_is_real() what only
 * the emulator has: faults to order, schedules, another capability or number of multiprocessors.
 */
#ifndef QUIRE_TESTS_SUPPORT_CUDA_PLATFORM_H
#define QUIRE_TESTS_SUPPORT_CUDA_PLATFORM_H

#include <stdbool.h>

#include "base/cuda/cuda.h"
#include "base/cuda/driver.h"

QR_BEGIN_DECLS

/* QUIRE_CUDA_PLATFORM is "real" rather than "emulated" or absent; another value ends the test. */
bool qr_test_cuda_is_real(void);
/* Never NULL: where a real device was asked for and there is none, the test ends as failed. */
const struct qr_cu_platform *qr_test_cuda_platform(void);
/*
 * Opens device 0 of the platform; fails the test when that does not work. The emulator runs as it
 * was set (emulator.h). On a real device schedules and capabilities are what they are, and of the
 * settings only another number of multiprocessors than usual is followed, by what plans for them.
 */
void qr_test_cuda_open(struct qr_cuda *cuda);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_CUDA_PLATFORM_H */
