/*
 * safetensors.h - the tensors that the header of one safetensors file names.
 *
 * The file: 8 bytes of header length (little-endian), the header (a JSON object from
 * tensor names to dtype, shape and data_offsets), then the data, which the tensors
 * cover without holes or overlaps. Nothing the header claims is trusted.
 */
#ifndef QUIRE_RUNTIME_WEIGHTS_SAFETENSORS_H
#define QUIRE_RUNTIME_WEIGHTS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/weights/tensor_list.h"

QR_BEGIN_DECLS

/*
 * Appends the tensors of the file's bytes to `list`. `data` is aligned to 8 and must
 * outlive the list, as must `path`, which the errors name. On error the list may hold
 * some of them, and is still to be freed.
 */
QR_MUST_CHECK enum qr_status qr_safetensors_parse(const char *path, const uint8_t *data,
                                                  size_t size, struct qr_tensor_list *list,
                                                  struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_WEIGHTS_SAFETENSORS_H */
