/* message.h - protobuf messages to and from the byte buffers of gRPC. Any thread. */
#ifndef QUIRE_RUNTIME_SERVER_MESSAGE_H
#define QUIRE_RUNTIME_SERVER_MESSAGE_H

#include <grpc/byte_buffer.h>
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

QR_BEGIN_DECLS

/* The caller destroys the result (grpc_byte_buffer_destroy). */
grpc_byte_buffer *qr_message_pack(const ProtobufCMessage *message);
/* The caller unrefs the result. */
grpc_slice qr_message_pack_slice(const ProtobufCMessage *message);

/*
 * NULL when the bytes are no such message, or would take unreasonably more memory
 * than they are long. Unknown fields are skipped. A singular message that comes twice,
 * which protobuf would merge, protobuf-c 1.4 refuses. Release with qr_message_free.
 */
ProtobufCMessage *qr_message_unpack(const ProtobufCMessageDescriptor *descriptor,
                                    grpc_byte_buffer *buffer);
ProtobufCMessage *qr_message_unpack_bytes(const ProtobufCMessageDescriptor *descriptor,
                                          const uint8_t *bytes, size_t n_bytes);
void qr_message_free(ProtobufCMessage *message); /* accepts NULL */

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SERVER_MESSAGE_H */
