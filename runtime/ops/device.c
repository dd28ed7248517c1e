/* device.c - the table of backends, and the one place that knows which were built in. */
#include <string.h>

#include "runtime/ops/cpu/cpu_device.h"
#include "runtime/ops/ops.h"

enum qr_status qr_device_open(const char *backend, const struct qr_device_config *config,
                              struct qr_device **out, struct qr_error *err)
{
    *out = NULL;
    if (backend == NULL || strcmp(backend, "auto") == 0 || strcmp(backend, "cpu") == 0)
        return qr_cpu_device_open(config, out, err);
    return qr_fail(err, QR_ERR_UNSUPPORTED, "backend \"%s\" is not in this build; use auto or cpu",
                   backend);
}

void qr_device_close(struct qr_device *dev)
{
    if (dev != NULL)
        dev->ops->destroy(dev);
}
