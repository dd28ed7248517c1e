/* cpu_device.h - the CPU backend's entry for the backend table. */
#ifndef QUIRE_RUNTIME_OPS_CPU_CPU_DEVICE_H
#define QUIRE_RUNTIME_OPS_CPU_CPU_DEVICE_H

#include "runtime/ops/ops.h"

QR_BEGIN_DECLS

/* config->n_threads 0 means one a core; an instruction set that does not run here is an error. */
QR_MUST_CHECK enum qr_status qr_cpu_device_open(const struct qr_device_config *config,
                                                struct qr_device **out, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CPU_CPU_DEVICE_H */
