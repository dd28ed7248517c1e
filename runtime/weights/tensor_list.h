/* tensor_list.h - the tensors that the files of a checkpoint name, as they are found. */
#ifndef QUIRE_RUNTIME_WEIGHTS_TENSOR_LIST_H
#define QUIRE_RUNTIME_WEIGHTS_TENSOR_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/weights/tensor.h"

enum {
    QR_TENSOR_NAME_MAX = 256, /* bytes of a name in a GGUF file, and of those made of it */
    QR_STACK_MAX = 4096,      /* tensors that one of a GGUF file holds: the experts of a layer */
};

/* How a file's tensor differs from what a Hugging Face checkpoint has under the same name. */
enum qr_tensor_change {
    QR_TENSOR_SAME,
    QR_TENSOR_PAIRED_ROWS, /* of each head, rows 2i and 2i + 1 are to be i and i + half a head */
    QR_TENSOR_PLUS_ONE,    /* 1 was added to each element */
    QR_TENSOR_TRANSPOSED,  /* [n_out][n_in], where GPT-2's have [n_in][n_out] */
};

struct qr_tensor_entry {
    char *name;              /* owned */
    const char *path;        /* of its file, borrowed from the caller of the parser */
    const char *dtype_name;  /* static; "I64" and the like too */
    bool is_readable;        /* tensor.dtype is valid: one of enum qr_dtype */
    struct qr_tensor tensor; /* data borrowed from the parsed bytes */
    int64_t begin;           /* first byte in the data section */
    int64_t end;             /* one past the last */
    enum qr_tensor_change change;
    int32_t n_heads; /* of QR_TENSOR_PAIRED_ROWS */
};

/* Entries of one or more files. Zero-initialise; release with qr_tensor_list_free. */
struct qr_tensor_list {
    struct qr_tensor_entry *entries;
    size_t count;
    size_t capacity;
};

QR_BEGIN_DECLS

/* One entry more, zeroed but for its name, which is copied, and its path. */
QR_MUST_CHECK enum qr_status qr_tensor_list_append(struct qr_tensor_list *list, const char *path,
                                                   const char *name, struct qr_tensor_entry **out,
                                                   struct qr_error *err);
void qr_tensor_list_free(struct qr_tensor_list *list);
/* Whether a tensor's name ends in `end`. */
bool qr_tensor_name_ends(const char *name, const char *end);
/* Sorts by `begin`, then by `end`. */
void qr_tensor_entries_sort(struct qr_tensor_entry *entries, size_t count);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_WEIGHTS_TENSOR_LIST_H */
