/*
 * tile_file.h - packed matrices (packed.h) in a file, to be mapped at the next start.
 *
 * Little-endian. struct qr_tile_head, then the tiles of each matrix at a multiple of 64 bytes, then
 * the index: a struct qr_tile_record for each matrix, its name behind it with a NUL, up to a
 * multiple of 8. Checksums are XXH3 with 64 bits.
 */
#ifndef QUIRE_RUNTIME_OPS_CPU_TILE_FILE_H
#define QUIRE_RUNTIME_OPS_CPU_TILE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/status.h"

enum { QR_TILE_KEY_BYTES = 16, QR_TILE_NAME_MAX = 512, QR_TILE_FILE_VERSION = 1 };

#define QR_TILE_MAGIC "QRTILES" /* and a NUL */

struct qr_tile_head {
    char magic[8];
    uint32_t version;
    uint32_t n_matrices;
    uint8_t key[QR_TILE_KEY_BYTES]; /* stands for what the tiles were made of, and how */
    uint64_t index_at;              /* where the index begins; it ends the file */
    uint64_t file_bytes;
    uint64_t checksum; /* of the head with a checksum of 0 and of the index, one behind the other */
    uint64_t reserved; /* 0 */
};

struct qr_tile_record {
    uint64_t tiles_at;
    uint64_t checksum; /* of the tiles */
    int64_t n_out;
    int64_t n_in;
    char dtype[8];       /* qr_dtype_name */
    uint32_t name_bytes; /* with the NUL */
    uint32_t reserved;   /* 0 */
};

/* A matrix of a file. */
struct qr_tile_entry {
    const char *name; /* borrowed from the file's bytes, or owned by the writer */
    enum qr_dtype dtype;
    int64_t n_out;
    int64_t n_in;
    const uint8_t *tiles; /* [n_bytes] */
    size_t n_bytes;
    uint64_t checksum;
};

struct qr_tile_index {
    struct qr_tile_entry *entries; /* [n], in the order that they were written */
    int32_t n;
};

QR_BEGIN_DECLS

/*
 * `data` is aligned to 8 and must outlive *out, which qr_tile_index_free releases, also on error.
 * QR_ERR_INVALID: the file is none, damaged, or of another key. The tiles themselves are not looked
 * at, but lie within the file; see qr_tile_entry_is_whole.
 */
QR_MUST_CHECK enum qr_status qr_tile_file_parse(const char *path, const uint8_t *data, size_t size,
                                                const uint8_t key[QR_TILE_KEY_BYTES],
                                                struct qr_tile_index *out, struct qr_error *err);
void qr_tile_index_free(struct qr_tile_index *index); /* accepts a zeroed one */

/* Bytes of the tiles of a matrix; 0: of one that is none, or that no memory holds. */
size_t qr_tile_bytes(enum qr_dtype dtype, int64_t n_out, int64_t n_in);
uint64_t qr_tile_checksum(const void *bytes, size_t n_bytes);
/* What head->checksum is to be. */
uint64_t qr_tile_head_checksum(const struct qr_tile_head *head, const void *index,
                               size_t index_bytes);
/* Whether the tiles have the checksum that the index says. */
bool qr_tile_entry_is_whole(const struct qr_tile_entry *entry);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CPU_TILE_FILE_H */
