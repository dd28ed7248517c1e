/* cuda_platform.c - see cuda_platform.h for the contract. */
#include "tests/support/cuda_platform.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cuda/emulator/emulator.h"

bool qr_test_cuda_is_real(void)
{
    const char *wanted = getenv("QUIRE_CUDA_PLATFORM");

    if (wanted == NULL || strcmp(wanted, "emulated") == 0)
        return false;
    if (strcmp(wanted, "real") == 0)
        return true;
    fprintf(stderr, "QUIRE_CUDA_PLATFORM is \"%s\", not \"emulated\" or \"real\"\n", wanted);
    exit(EXIT_FAILURE);
}

const struct qr_cu_platform *qr_test_cuda_platform(void)
{
    const struct qr_cu_platform *platform;
    struct qr_error err;

    if (!qr_test_cuda_is_real())
        return qr_cu_platform_emulated();
    if (qr_cu_platform_open(&platform, &err) == QR_OK)
        return platform;
    fprintf(stderr, "QUIRE_CUDA_PLATFORM is \"real\": %s\n", err.message);
    exit(EXIT_FAILURE);
}

void qr_test_cuda_open(struct qr_cuda *cuda)
{
    int32_t n_sms = qr_emulator_get_settings().n_sms;
    struct qr_error err;

    if (qr_cuda_open(qr_test_cuda_platform(), 0, cuda, &err) != QR_OK)
        fail_msg("%s", err.message);
    if (qr_test_cuda_is_real() && n_sms != qr_emulator_default_settings().n_sms)
        cuda->properties.n_sms = n_sms;
}
