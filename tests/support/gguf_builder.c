/* gguf_builder.c - see gguf_builder.h for the contract. */
#include "tests/support/gguf_builder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { DEFAULT_ALIGNMENT = 32, DEFAULT_VERSION = 3 };

static void put(struct qr_buffer *buffer, const void *bytes, size_t n)
{
    assert_int_equal(qr_buffer_append(buffer, bytes, n), QR_OK);
}

static void put_number(struct qr_buffer *buffer, uint64_t value, size_t n_bytes)
{
    put(buffer, &value, n_bytes); /* little-endian, as the machines are that tests run on */
}

static void put_string(struct qr_buffer *buffer, const char *text)
{
    put_number(buffer, strlen(text), sizeof(uint64_t));
    put(buffer, text, strlen(text));
}

static void begin_value(struct gguf_builder *gguf, const char *key, enum qr_gguf_type type)
{
    put_string(&gguf->values, key);
    put_number(&gguf->values, (uint64_t)type, sizeof(uint32_t));
    gguf->n_values++;
}

void gguf_add_int(struct gguf_builder *gguf, const char *key, enum qr_gguf_type type,
                  uint64_t value)
{
    static const size_t bytes[QR_GGUF_TYPES] = {
        [QR_GGUF_UINT8] = 1,  [QR_GGUF_INT8] = 1,   [QR_GGUF_UINT16] = 2,
        [QR_GGUF_INT16] = 2,  [QR_GGUF_UINT32] = 4, [QR_GGUF_INT32] = 4,
        [QR_GGUF_UINT64] = 8, [QR_GGUF_INT64] = 8,  [QR_GGUF_BOOL] = 1,
    };
    begin_value(gguf, key, type);
    put_number(&gguf->values, value, type < QR_GGUF_TYPES ? bytes[type] : 0);
}

void gguf_add_u32(struct gguf_builder *gguf, const char *key, uint32_t value)
{
    gguf_add_int(gguf, key, QR_GGUF_UINT32, value);
}

void gguf_add_f32(struct gguf_builder *gguf, const char *key, float value)
{
    begin_value(gguf, key, QR_GGUF_FLOAT32);
    put(&gguf->values, &value, sizeof(value));
}

void gguf_add_string(struct gguf_builder *gguf, const char *key, const char *value)
{
    begin_value(gguf, key, QR_GGUF_STRING);
    put_string(&gguf->values, value);
}

void gguf_add_array(struct gguf_builder *gguf, const char *key, enum qr_gguf_type type,
                    uint64_t count, const void *items, size_t n_bytes)
{
    begin_value(gguf, key, QR_GGUF_ARRAY);
    put_number(&gguf->values, (uint64_t)type, sizeof(uint32_t));
    put_number(&gguf->values, count, sizeof(count));
    put(&gguf->values, items, n_bytes);
}

void gguf_add_strings(struct gguf_builder *gguf, const char *key, int n, const char *const *items)
{
    gguf_add_array(gguf, key, QR_GGUF_STRING, (uint64_t)n, "", 0);
    for (int i = 0; i < n; i++)
        put_string(&gguf->values, items[i]);
}

void gguf_add_entry(struct gguf_builder *gguf, const char *name, uint32_t ggml_type, int n_dims,
                    const int64_t *dims, uint64_t offset)
{
    put_string(&gguf->tensors, name);
    put_number(&gguf->tensors, (uint64_t)n_dims, sizeof(uint32_t));
    for (int i = n_dims - 1; i >= 0; i--)
        put_number(&gguf->tensors, (uint64_t)dims[i], sizeof(uint64_t));
    put_number(&gguf->tensors, ggml_type, sizeof(uint32_t));
    put_number(&gguf->tensors, offset, sizeof(offset));
    gguf->n_tensors++;
}

static size_t alignment_of(const struct gguf_builder *gguf)
{
    return gguf->alignment > 0 ? gguf->alignment : DEFAULT_ALIGNMENT;
}

static void pad(struct qr_buffer *buffer, size_t alignment)
{
    while (buffer->length % alignment != 0)
        put_number(buffer, 0, 1);
}

uint64_t gguf_add_tensor(struct gguf_builder *gguf, const char *name, uint32_t ggml_type,
                         int n_dims, const int64_t *dims, const void *bytes, size_t n_bytes)
{
    pad(&gguf->data, alignment_of(gguf));
    uint64_t offset = gguf->data.length;
    gguf_add_entry(gguf, name, ggml_type, n_dims, dims, offset);
    put(&gguf->data, bytes, n_bytes);
    return offset;
}

uint32_t gguf_type_of(enum qr_dtype dtype)
{
    static const uint32_t types[QR_DTYPE_END] = {
        [QR_DTYPE_F32] = 0,   [QR_DTYPE_F16] = 1,   [QR_DTYPE_BF16] = 30, [QR_DTYPE_Q4_0] = 2,
        [QR_DTYPE_Q4_1] = 3,  [QR_DTYPE_Q5_0] = 6,  [QR_DTYPE_Q5_1] = 7,  [QR_DTYPE_Q8_0] = 8,
        [QR_DTYPE_Q4_K] = 12, [QR_DTYPE_Q5_K] = 13, [QR_DTYPE_Q6_K] = 14,
    };
    return types[dtype];
}

void gguf_build(const struct gguf_builder *gguf, struct qr_buffer *out)
{
    put(out, "GGUF", 4);
    put_number(out, gguf->version > 0 ? gguf->version : DEFAULT_VERSION, sizeof(uint32_t));
    put_number(out, gguf->n_tensors, sizeof(uint64_t));
    put_number(out, gguf->n_values + (gguf->alignment > 0), sizeof(uint64_t));
    put(out, gguf->values.data, gguf->values.length);
    if (gguf->alignment > 0) {
        put_string(out, "general.alignment");
        put_number(out, QR_GGUF_UINT32, sizeof(uint32_t));
        put_number(out, gguf->alignment, sizeof(uint32_t));
    }
    put(out, gguf->tensors.data, gguf->tensors.length);
    pad(out, alignment_of(gguf));
    put(out, gguf->data.data, gguf->data.length);
}

void gguf_write(const struct gguf_builder *gguf, const struct qr_temp_dir *dir, const char *name)
{
    struct qr_buffer file = {0};

    gguf_build(gguf, &file);
    qr_temp_dir_write(dir, name, file.data, file.length);
    qr_buffer_free(&file);
}

void gguf_free(struct gguf_builder *gguf)
{
    qr_buffer_free(&gguf->values);
    qr_buffer_free(&gguf->tensors);
    qr_buffer_free(&gguf->data);
    *gguf = (struct gguf_builder){0};
}
