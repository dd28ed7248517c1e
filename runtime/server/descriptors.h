/* descriptors.h - finds files, symbols and services in a FileDescriptorSet. Any thread. */
#ifndef QUIRE_RUNTIME_SERVER_DESCRIPTORS_H
#define QUIRE_RUNTIME_SERVER_DESCRIPTORS_H

#include <stddef.h>

#include "base/status.h"
#include "proto/google/protobuf/descriptor.pb-c.h"

QR_BEGIN_DECLS

/* NULL when there is none. `name` as in an import: "quire/v1/inference.proto". */
const Google__Protobuf__FileDescriptorProto *qr_descriptors_find_file(
    const Google__Protobuf__FileDescriptorSet *set, const char *name);
/*
 * The file that defines a message, enum, enum value, field, service, method or
 * extension by its full name ("quire.v1.InferenceService.Generate"); NULL when none does.
 */
const Google__Protobuf__FileDescriptorProto *qr_descriptors_find_symbol(
    const Google__Protobuf__FileDescriptorSet *set, const char *symbol);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SERVER_DESCRIPTORS_H */
