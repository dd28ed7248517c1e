/* buffer.c - see buffer.h for the contract. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum qr_status qr_buffer_reserve(struct qr_buffer *buffer, size_t n_bytes)
{
    size_t needed;
    if (__builtin_add_overflow(buffer->length, n_bytes, &needed) || needed == SIZE_MAX)
        return QR_ERR_NOMEM;
    if (++needed <= buffer->capacity)
        return QR_OK;

    size_t capacity = buffer->capacity < 64 ? 64 : buffer->capacity;
    while (capacity < needed)
        capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
    char *data = qr_realloc(buffer->arena, buffer->data, capacity);
    if (data == NULL)
        return QR_ERR_NOMEM;
    data[buffer->length] = '\0';
    buffer->data = data;
    buffer->capacity = capacity;
    return QR_OK;
}

enum qr_status qr_buffer_append(struct qr_buffer *buffer, const void *bytes, size_t n_bytes)
{
    QR_TRY(qr_buffer_reserve(buffer, n_bytes));
    if (n_bytes > 0)
        memcpy(buffer->data + buffer->length, bytes, n_bytes);
    buffer->length += n_bytes;
    buffer->data[buffer->length] = '\0';
    return QR_OK;
}

enum qr_status qr_buffer_printf(struct qr_buffer *buffer, const char *fmt, ...)
{
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);

    enum qr_status status = n < 0 ? QR_ERR_INVALID : qr_buffer_reserve(buffer, (size_t)n);
    if (status == QR_OK) {
        vsnprintf(buffer->data + buffer->length, (size_t)n + 1, fmt, again);
        buffer->length += (size_t)n;
    }
    va_end(again);
    return status;
}

void qr_buffer_clear(struct qr_buffer *buffer)
{
    buffer->length = 0;
    if (buffer->data != NULL)
        buffer->data[0] = '\0';
}

void qr_buffer_free(struct qr_buffer *buffer)
{
    qr_free(buffer->data);
    buffer->data = NULL;
    buffer->length = buffer->capacity = 0;
}
