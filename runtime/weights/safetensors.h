/*
 * safetensors.h - the tensors that the header of one safetensors file names.
 *
 * The file: 8 bytes of header length (little-endian), the header (a JSON object from
 * tensor names to dtype, shape and data_offsets), then the data, which the tensors
 * cover without holes or overlaps. Nothing the header claims is trusted.
 */
#ifndef QUIRE_RUNTIME_WEIGHTS_SAFETENSORS_H
#define QUIRE_RUNTIME_WEIGHTS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/weights/checkpoint.h"

struct qr_tensor_entry {
    char *name;              /* owned */
    const char *path;        /* of its file, borrowed from the caller of the parser */
    const char *dtype_name;  /* static; "I64" and the like too */
    bool is_readable;        /* tensor.dtype is valid: one of enum qr_dtype */
    struct qr_tensor tensor; /* data borrowed from the parsed bytes */
    int64_t begin;           /* first byte in the data section */
    int64_t end;             /* one past the last */
};

/* Entries of one or more files. Zero-initialise; release with qr_tensor_list_free. */
struct qr_tensor_list {
    struct qr_tensor_entry *entries;
    size_t count;
    size_t capacity;
};

QR_BEGIN_DECLS

/*
 * Appends the tensors of the file's bytes to `list`. `data` is aligned to 8 and must
 * outlive the list, as must `path`, which the errors name. On error the list may hold
 * some of them, and is still to be freed.
 */
QR_MUST_CHECK enum qr_status qr_safetensors_parse(const char *path, const uint8_t *data,
                                                  size_t size, struct qr_tensor_list *list,
                                                  struct qr_error *err);
/* One entry more, zeroed but for its name, which is copied, and its path. */
QR_MUST_CHECK enum qr_status qr_tensor_list_append(struct qr_tensor_list *list, const char *path,
                                                   const char *name, struct qr_tensor_entry **out,
                                                   struct qr_error *err);
void qr_tensor_list_free(struct qr_tensor_list *list);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_WEIGHTS_SAFETENSORS_H */
