/* cuda_ops_rig.c - see cuda_ops_rig.h. */
#include "tests/support/cuda_ops_rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/dtype.h"
#include "runtime/sampling/philox.h"
#include "tests/support/cuda_platform.h"

void cuda_ops_rig_open(struct cuda_ops_rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    qr_test_cuda_open(&rig->cuda);
}

void cuda_ops_rig_check(struct cuda_ops_rig *rig)
{
    struct qr_error err = {""};

    qr_cuda_synchronize(&rig->cuda);
    if (qr_cuda_take_failure(&rig->cuda, &err) != QR_OK)
        fail_msg("%s", err.message);
}

void cuda_ops_rig_close(struct cuda_ops_rig *rig)
{
    cuda_ops_rig_check(rig);
    for (int32_t i = 0; i < rig->n_pieces; i++)
        qr_cuda_free(&rig->cuda, (qr_cu_address)(uintptr_t)rig->pieces[i]);
    qr_cuda_close(&rig->cuda);
}

void *cuda_ops_rig_alloc(struct cuda_ops_rig *rig, size_t n_bytes)
{
    qr_cu_address address = qr_cuda_alloc(&rig->cuda, n_bytes > 0 ? n_bytes : 1);

    assert_true(address != 0);
    assert_true(rig->n_pieces < 64);
    rig->pieces[rig->n_pieces++] = (void *)(uintptr_t)address;
    return (void *)(uintptr_t)address;
}

void *cuda_ops_rig_upload(struct cuda_ops_rig *rig, const void *data, size_t n_bytes)
{
    void *piece = cuda_ops_rig_alloc(rig, n_bytes);

    qr_cuda_copy_to_device(&rig->cuda, "a test's data", (qr_cu_address)(uintptr_t)piece, data,
                           n_bytes);
    cuda_ops_rig_check(rig);
    return piece;
}

void cuda_ops_rig_download(struct cuda_ops_rig *rig, const void *from, void *to, size_t n_bytes)
{
    qr_cuda_copy_to_host(&rig->cuda, "a test's result", to, (qr_cu_address)(uintptr_t)from,
                         n_bytes);
    cuda_ops_rig_check(rig);
}

float cuda_ops_random(uint64_t seed, uint64_t i)
{
    return (float)(qr_philox_uniform(seed, i) * 2 - 1);
}

/* The nearest of all numbers of the format; of two, the one with the even mantissa. */
static uint8_t float_to_e4m3(float value)
{
    float magnitude = fabsf(value);
    uint8_t best = 0;

    for (uint8_t bits = 1; bits < 0x7f; bits++) {
        double distance = fabs((double)qr_e4m3_to_f32(bits) - (double)magnitude);
        double nearest = fabs((double)qr_e4m3_to_f32(best) - (double)magnitude);
        if (distance < nearest || (distance == nearest && bits % 2 == 0))
            best = bits;
    }
    return (uint8_t)(best | (signbit(value) ? 0x80 : 0));
}

float cuda_ops_get(enum qr_cuda_type type, const void *data, size_t i)
{
    switch (type) {
    case QR_CUDA_F32:
        return ((const float *)data)[i];
    case QR_CUDA_F16:
        return qr_f16_to_f32(((const uint16_t *)data)[i]);
    case QR_CUDA_BF16:
        return qr_bf16_to_f32(((const uint16_t *)data)[i]);
    case QR_CUDA_E4M3:
        return qr_e4m3_to_f32(((const uint8_t *)data)[i]);
    default:
        return (float)((const int8_t *)data)[i];
    }
}

void cuda_ops_put(enum qr_cuda_type type, void *data, size_t i, float value)
{
    switch (type) {
    case QR_CUDA_F32:
        ((float *)data)[i] = value;
        break;
    case QR_CUDA_F16:
        ((uint16_t *)data)[i] = qr_f32_to_f16(value);
        break;
    case QR_CUDA_BF16:
        ((uint16_t *)data)[i] = qr_f32_to_bf16(value);
        break;
    case QR_CUDA_E4M3:
        ((uint8_t *)data)[i] = float_to_e4m3(value);
        break;
    default:
        ((int8_t *)data)[i] = (int8_t)rintf(value);
        break;
    }
}
