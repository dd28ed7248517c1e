/*
 * gguf.h - what a GGUF file holds: metadata as typed values by key, and tensors.
 *
 * The file, little-endian: "GGUF", the version, the numbers of tensors and of values, the values
 * (a key, a type, then a number, a string or an array of these), the tensors (a name, dimensions
 * with the innermost first, a ggml type, an offset), then the data, each tensor at a multiple of
 * general.alignment. Versions 2 and 3 are alike. Nothing of it is trusted; nothing is copied but
 * the tensors' names. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
 */
#ifndef QUIRE_RUNTIME_WEIGHTS_GGUF_H
#define QUIRE_RUNTIME_WEIGHTS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mapped_file.h"
#include "base/status.h"
#include "runtime/weights/tensor_list.h"

enum qr_gguf_type { /* the numbers of the format */
                    QR_GGUF_UINT8,
                    QR_GGUF_INT8,
                    QR_GGUF_UINT16,
                    QR_GGUF_INT16,
                    QR_GGUF_UINT32,
                    QR_GGUF_INT32,
                    QR_GGUF_FLOAT32,
                    QR_GGUF_BOOL,
                    QR_GGUF_STRING,
                    QR_GGUF_ARRAY,
                    QR_GGUF_UINT64,
                    QR_GGUF_INT64,
                    QR_GGUF_FLOAT64,
                    QR_GGUF_TYPES,
};

enum { QR_GGUF_ARCHITECTURE_MAX = 60, QR_GGUF_KEY_SIZE = 160 };

/* Bytes of the file, with no NUL after them; any bytes, UTF-8 where the writer kept to it. */
struct qr_gguf_text {
    const char *bytes; /* NULL: there is none */
    size_t n_bytes;
};

struct qr_gguf_value {
    struct qr_gguf_text key;
    enum qr_gguf_type type; /* of the value, or of an array's items; never QR_GGUF_ARRAY */
    bool is_array;
    uint64_t count;      /* items; 1 unless it is an array */
    const uint8_t *data; /* of the first item, as the file has it, unaligned */
};

struct qr_gguf {
    const char *path;             /* borrowed; what errors name */
    struct qr_gguf_value *values; /* [n_values], sorted by key */
    size_t n_values;
    struct qr_tensor_list tensors; /* under their names in the file, by their place in it */
};

/* A file, mapped and read. */
struct qr_gguf_file {
    char *path;
    struct qr_mapped_file mapping;
    struct qr_gguf gguf;
};

QR_BEGIN_DECLS

/* Whether `path` ends in ".gguf". */
bool qr_gguf_is_path(const char *path);

/*
 * `data` is aligned to 8 and must outlive *out, as must `path`. Release *out with qr_gguf_free,
 * also on error. QR_ERR_INVALID: the file contradicts itself; QR_ERR_UNSUPPORTED: another version
 * or byte order, or a type that this reader does not know.
 */
QR_MUST_CHECK enum qr_status qr_gguf_parse(const char *path, const uint8_t *data, size_t size,
                                           struct qr_gguf *out, struct qr_error *err);
void qr_gguf_free(struct qr_gguf *gguf); /* accepts a zeroed one */

/* On error *out is zeroed and needs no close. */
QR_MUST_CHECK enum qr_status qr_gguf_open(const char *path, struct qr_gguf_file *out,
                                          struct qr_error *err);
void qr_gguf_close(struct qr_gguf_file *file); /* accepts a zeroed one */

/* NULL: there is no such key. */
const struct qr_gguf_value *qr_gguf_find(const struct qr_gguf *gguf, const char *key);

/*
 * Values by key. Where there is no such key, the default; a value of another kind or out of
 * range is an error that names the key. Integers may have any integer type, numbers also F32 and
 * F64. An array stands for its items where these are all equal: some writers give each layer its
 * own.
 */
QR_MUST_CHECK enum qr_status qr_gguf_get_int(const struct qr_gguf *gguf, const char *key,
                                             int64_t min, int64_t max, int64_t default_value,
                                             int64_t *out, struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_gguf_get_number(const struct qr_gguf *gguf, const char *key,
                                                double min, double max, double default_value,
                                                double *out, struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_gguf_get_bool(const struct qr_gguf *gguf, const char *key,
                                              bool default_value, bool *out, struct qr_error *err);
/* Absent: out->bytes is NULL. */
QR_MUST_CHECK enum qr_status qr_gguf_get_string(const struct qr_gguf *gguf, const char *key,
                                                struct qr_gguf_text *out, struct qr_error *err);
/* general.architecture, of 1 to QR_GGUF_ARCHITECTURE_MAX bytes. QR_ERR_INVALID: it is not there. */
QR_MUST_CHECK enum qr_status qr_gguf_get_architecture(const struct qr_gguf *gguf,
                                                      struct qr_gguf_text *out,
                                                      struct qr_error *err);
/* The key "<architecture>.`name`"; `name` is shorter than QR_GGUF_KEY_SIZE -
 * QR_GGUF_ARCHITECTURE_MAX - 1. */
void qr_gguf_architecture_key(struct qr_gguf_text architecture, const char *name,
                              char out[QR_GGUF_KEY_SIZE]);
/* The array at `key` with items of this type; NULL where there is none, or one of another type. */
const struct qr_gguf_value *qr_gguf_get_array(const struct qr_gguf *gguf, const char *key,
                                              enum qr_gguf_type type);

/* Item i of an integer value, of a number. i in [0, count) */
int64_t qr_gguf_int_at(const struct qr_gguf_value *value, uint64_t i);
double qr_gguf_number_at(const struct qr_gguf_value *value, uint64_t i);
/* The string at *cursor, which moves to the next one: begin with value->data, count times. */
struct qr_gguf_text qr_gguf_next_string(const uint8_t **cursor);
bool qr_gguf_text_is(struct qr_gguf_text text, const char *words);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_WEIGHTS_GGUF_H */
