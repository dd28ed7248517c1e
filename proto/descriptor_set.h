/*
 * descriptor_set.h - the descriptors of all served protocols, embedded in the binary.
 *
 * A serialized google.protobuf.FileDescriptorSet, imports included, dependencies
 * first; server reflection hands out its files.
 */
#ifndef QUIRE_PROTO_DESCRIPTOR_SET_H
#define QUIRE_PROTO_DESCRIPTOR_SET_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

QR_BEGIN_DECLS

/* Static storage of *size bytes. */
const uint8_t *qr_descriptor_set(size_t *size);

QR_END_DECLS

#endif /* QUIRE_PROTO_DESCRIPTOR_SET_H */
