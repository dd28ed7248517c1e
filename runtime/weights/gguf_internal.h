/* gguf_internal.h - what the files that read GGUF share. */
#ifndef QUIRE_RUNTIME_WEIGHTS_GGUF_INTERNAL_H
#define QUIRE_RUNTIME_WEIGHTS_GGUF_INTERNAL_H

#include "runtime/weights/gguf.h"

/* How ggml stores numbers of one type. */
struct qr_ggml_type {
    const char *name;
    int32_t block;    /* elements */
    int64_t bytes;    /* of a block */
    bool is_readable; /* it is one of enum qr_dtype: */
    enum qr_dtype dtype;
};

QR_BEGIN_DECLS

/* By its number in files. False: no such type. */
bool qr_ggml_type_find(uint64_t number, struct qr_ggml_type *out);
size_t qr_gguf_type_bytes(enum qr_gguf_type type); /* 0 of strings and arrays */
/* n_bytes in [1, 8] */
uint64_t qr_gguf_little_endian(const uint8_t *bytes, size_t n_bytes);
/* The order of the keys, as of memcmp; a key before those it begins. */
int qr_gguf_compare(struct qr_gguf_text a, struct qr_gguf_text b);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_WEIGHTS_GGUF_INTERNAL_H */
