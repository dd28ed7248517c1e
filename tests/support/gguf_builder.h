/* gguf_builder.h - writes GGUF files for tests, also such as no writer would. */
#ifndef QUIRE_TESTS_SUPPORT_GGUF_BUILDER_H
#define QUIRE_TESTS_SUPPORT_GGUF_BUILDER_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/dtype.h"
#include "runtime/weights/gguf.h"
#include "tests/support/temp_dir.h"

/* Zero-initialise. Fails the running test when memory is out. */
struct gguf_builder {
    struct qr_buffer values;
    struct qr_buffer tensors;
    struct qr_buffer data;
    uint64_t n_values;
    uint64_t n_tensors;
    uint32_t version;   /* 0: 3 */
    uint32_t alignment; /* 0: 32, and the file does not say */
};

void gguf_add_int(struct gguf_builder *gguf, const char *key, enum qr_gguf_type type,
                  uint64_t value);
void gguf_add_u32(struct gguf_builder *gguf, const char *key, uint32_t value);
void gguf_add_f32(struct gguf_builder *gguf, const char *key, float value);
void gguf_add_string(struct gguf_builder *gguf, const char *key, const char *value);
/* Items [n_bytes] as they are to stand in the file. */
void gguf_add_array(struct gguf_builder *gguf, const char *key, enum qr_gguf_type type,
                    uint64_t count, const void *items, size_t n_bytes);
void gguf_add_strings(struct gguf_builder *gguf, const char *key, int n, const char *const *items);
/* dims with the outermost first; `bytes` [n_bytes]. Returns the offset of the data. */
uint64_t gguf_add_tensor(struct gguf_builder *gguf, const char *name, uint32_t ggml_type,
                         int n_dims, const int64_t *dims, const void *bytes, size_t n_bytes);
/* The directory entry alone. */
void gguf_add_entry(struct gguf_builder *gguf, const char *name, uint32_t ggml_type, int n_dims,
                    const int64_t *dims, uint64_t offset);
/* The number of a dtype in files. */
uint32_t gguf_type_of(enum qr_dtype dtype);

/* The whole file into `out`, which is zeroed or cleared. */
void gguf_build(const struct gguf_builder *gguf, struct qr_buffer *out);
void gguf_write(const struct gguf_builder *gguf, const struct qr_temp_dir *dir, const char *name);
void gguf_free(struct gguf_builder *gguf);

#endif /* QUIRE_TESTS_SUPPORT_GGUF_BUILDER_H */
