/* device.c - the table of backends, and the one place that knows which were built in. */
#include <string.h>

#include "base/cuda/cuda.h"
#include "base/log.h"
#include "runtime/ops/cpu/cpu_device.h"
#include "runtime/ops/cpu/kernels.h"
#include "runtime/ops/cuda/cuda_device.h"
#include "runtime/ops/ops.h"

/* Defined where the emulator is linked, as it is in tests. */
#pragma weak qr_cu_platform_emulated

static enum qr_status refuse_for_gpu(const struct qr_device_config *config, struct qr_error *err)
{
    if (config->quantize == QR_QUANTIZE_NONE)
        return QR_OK;
    return qr_fail(err, QR_ERR_UNSUPPORTED,
                   "--quantize is for the CPU; on a GPU --weights fp8 or int8 makes matrices "
                   "smaller, or choose --backend cpu");
}

static enum qr_status open_cuda(const struct qr_device_config *config, struct qr_device **out,
                                struct qr_error *err)
{
    const struct qr_cu_platform *platform;

    QR_TRY(refuse_for_gpu(config, err));
    QR_TRY(qr_cu_platform_open(&platform, err));
    return qr_cuda_device_open(platform, config, out, err);
}

/* A machine without a device, or a build without kernels, has a CPU. */
static enum qr_status open_auto(const struct qr_device_config *config, struct qr_device **out,
                                struct qr_error *err)
{
    const struct qr_cu_platform *platform;
    char quoted[600];

    if (qr_cu_platform_open(&platform, err) != QR_OK || platform->n_images == 0 ||
        qr_cuda_count(platform, err) == 0)
        return qr_cpu_device_open(config, out, err);
    QR_TRY(refuse_for_gpu(config, err));
    if (qr_cuda_device_open(platform, config, out, err) == QR_OK)
        return QR_OK;
    qr_log(QR_LOG_WARN, "cuda_unusable", "reason=%s backend=cpu",
           qr_log_quote(err->message, quoted, sizeof(quoted)));
    return qr_cpu_device_open(config, out, err);
}

enum qr_status qr_device_open(const char *backend, const struct qr_device_config *config,
                              struct qr_device **out, struct qr_error *err)
{
    *out = NULL;
    if (backend == NULL || strcmp(backend, "auto") == 0)
        return open_auto(config, out, err);
    if (strcmp(backend, "cpu") == 0)
        return qr_cpu_device_open(config, out, err);
    if (strcmp(backend, "cuda") == 0)
        return open_cuda(config, out, err);
    if (strcmp(backend, "cuda-emulated") == 0 && qr_cu_platform_emulated != NULL) {
        QR_TRY(refuse_for_gpu(config, err));
        return qr_cuda_device_open(qr_cu_platform_emulated(), config, out, err);
    }
    return qr_fail(err, QR_ERR_INVALID, "backend \"%s\" is none of auto, cpu, cuda", backend);
}

void qr_device_close(struct qr_device *dev)
{
    if (dev != NULL)
        dev->ops->destroy(dev);
}

qr_select_row qr_host_select_row(void)
{
    return qr_cpu_kernels_of(qr_isa_best())->select;
}
