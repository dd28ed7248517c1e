/* message.c - see message.h for the contract. */
#include "runtime/server/message.h"

#include <grpc/byte_buffer_reader.h>

#include "base/alloc.h"

enum {
    /* protobuf-c keeps about 30 bytes for each field it meets, so two bytes of an empty
     * field could cost a hundred times their size. Real requests stay far below this. */
    UNPACK_BASE_BYTES = 256 << 10,
    UNPACK_FACTOR = 8,
};

static void *allocate_within(void *data, size_t size)
{
    size_t *left = data;

    if (size > *left)
        return NULL;
    *left -= size;
    return qr_malloc(QR_ARENA_NETWORK, size);
}

static void release(void *data, void *block)
{
    (void)data;
    qr_free(block);
}

grpc_slice qr_message_pack_slice(const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
    protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    return slice;
}

grpc_byte_buffer *qr_message_pack(const ProtobufCMessage *message)
{
    grpc_slice slice = qr_message_pack_slice(message);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

ProtobufCMessage *qr_message_unpack_bytes(const ProtobufCMessageDescriptor *descriptor,
                                          const uint8_t *bytes, size_t n_bytes)
{
    size_t left = UNPACK_BASE_BYTES + UNPACK_FACTOR * n_bytes;
    ProtobufCAllocator allocator = {allocate_within, release, &left};

    return protobuf_c_message_unpack(descriptor, &allocator, n_bytes, bytes);
}

ProtobufCMessage *qr_message_unpack(const ProtobufCMessageDescriptor *descriptor,
                                    grpc_byte_buffer *buffer)
{
    grpc_byte_buffer_reader reader;

    if (!grpc_byte_buffer_reader_init(&reader, buffer))
        return NULL;
    grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
    ProtobufCMessage *message =
        qr_message_unpack_bytes(descriptor, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice));
    grpc_slice_unref(slice);
    grpc_byte_buffer_reader_destroy(&reader);
    return message;
}

void qr_message_free(ProtobufCMessage *message)
{
    ProtobufCAllocator allocator = {NULL, release, NULL};

    if (message != NULL)
        protobuf_c_message_free_unpacked(message, &allocator);
}
