/* cuda_device.h - the CUDA backend's entry for the backend table. */
#ifndef QUIRE_RUNTIME_OPS_CUDA_CUDA_DEVICE_H
#define QUIRE_RUNTIME_OPS_CUDA_CUDA_DEVICE_H

#include "base/cuda/driver.h"
#include "runtime/ops/ops.h"

QR_BEGIN_DECLS

/*
 * The device config->device (-1: number 0) of this platform. Errors as qr_cuda_open has them.
 *
 * Memory is taken in three pieces: weights and workspace in `prepare`, the KV pool by the engine.
 * Of what is free then, QR_CUDA_RESERVE_BYTES or a sixteenth of the device, whichever is less,
 * stays free for what the driver needs (graphs, libraries).
 */
QR_MUST_CHECK enum qr_status qr_cuda_device_open(const struct qr_cu_platform *platform,
                                                 const struct qr_device_config *config,
                                                 struct qr_device **out, struct qr_error *err);

QR_END_DECLS

#define QR_CUDA_RESERVE_BYTES (INT64_C(512) << 20)

#endif /* QUIRE_RUNTIME_OPS_CUDA_CUDA_DEVICE_H */
