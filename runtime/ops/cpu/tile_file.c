/* tile_file.c - see tile_file.h for the contract. */
#include "runtime/ops/cpu/tile_file.h"

#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/alloc.h"
#include "runtime/ops/cpu/packed.h"

static_assert(sizeof(struct qr_tile_head) == 64, "as in the file");
static_assert(sizeof(struct qr_tile_record) == 48, "as in the file");

enum { RECORD_ALIGN = 8 };

uint64_t qr_tile_checksum(const void *bytes, size_t n_bytes)
{
    return XXH3_64bits(bytes, n_bytes);
}

uint64_t qr_tile_head_checksum(const struct qr_tile_head *head, const void *index,
                               size_t index_bytes)
{
    struct qr_tile_head plain = *head;
    XXH3_state_t state;

    plain.checksum = 0;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, &plain, sizeof(plain));
    XXH3_64bits_update(&state, index, index_bytes);
    return XXH3_64bits_digest(&state);
}

bool qr_tile_entry_is_whole(const struct qr_tile_entry *entry)
{
    return qr_tile_checksum(entry->tiles, entry->n_bytes) == entry->checksum;
}

size_t qr_tile_bytes(enum qr_dtype dtype, int64_t n_out, int64_t n_in)
{
    size_t n_bytes;

    if (n_out < 1 || n_in < 1 || n_out > INT32_MAX || n_in > INT32_MAX ||
        n_in % qr_dtype_block_size(dtype) != 0)
        return 0;
    size_t n_tiles = ((size_t)n_out + QR_PACK_ROWS - 1) / QR_PACK_ROWS;
    if (__builtin_mul_overflow(n_tiles, qr_packed_layout_of(dtype, n_in).tile_bytes, &n_bytes))
        return 0;
    return n_bytes;
}

static bool parse_dtype(const char name[8], enum qr_dtype *dtype)
{
    for (int i = 0; i < QR_DTYPE_END; i++) {
        *dtype = (enum qr_dtype)i;
        if (qr_packs(*dtype) && strncmp(name, qr_dtype_name(*dtype), 8) == 0)
            return true;
    }
    return false;
}

static enum qr_status check_head(const char *path, const uint8_t *data, size_t size,
                                 const uint8_t key[QR_TILE_KEY_BYTES], struct qr_tile_head *head,
                                 struct qr_error *err)
{
    if (size < sizeof(*head))
        return qr_fail(err, QR_ERR_INVALID, "%s: %zu bytes are no file of tiles", path, size);
    memcpy(head, data, sizeof(*head));
    if (memcmp(head->magic, QR_TILE_MAGIC, sizeof(head->magic)) != 0 ||
        head->version != QR_TILE_FILE_VERSION)
        return qr_fail(err, QR_ERR_INVALID, "%s: no file of tiles of version %d", path,
                       QR_TILE_FILE_VERSION);
    if (head->file_bytes != size || head->index_at < sizeof(*head) || head->index_at > size)
        return qr_fail(err, QR_ERR_INVALID, "%s: has %zu bytes, its head says %llu", path, size,
                       (unsigned long long)head->file_bytes);
    if (qr_tile_head_checksum(head, data + head->index_at, size - head->index_at) != head->checksum)
        return qr_fail(err, QR_ERR_INVALID, "%s: its head or index has another checksum", path);
    if (memcmp(head->key, key, sizeof(head->key)) != 0)
        return qr_fail(err, QR_ERR_INVALID, "%s: holds the tiles of something else", path);
    return QR_OK;
}

/* The record at data[*at], which moves behind it. False: it is no record of these bytes. */
static bool read_record(const uint8_t *data, const struct qr_tile_head *head, size_t *at,
                        struct qr_tile_entry *entry)
{
    size_t size = (size_t)head->file_bytes;
    struct qr_tile_record record;

    if (size - *at < sizeof(record))
        return false;
    memcpy(&record, data + *at, sizeof(record));
    *at += sizeof(record);
    size_t room = ((size_t)record.name_bytes + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
    if (record.name_bytes < 1 || record.name_bytes > QR_TILE_NAME_MAX || room > size - *at ||
        data[*at + record.name_bytes - 1] != '\0' || !parse_dtype(record.dtype, &entry->dtype))
        return false;
    entry->name = (const char *)data + *at;
    *at += room;
    entry->n_out = record.n_out;
    entry->n_in = record.n_in;
    entry->checksum = record.checksum;
    entry->n_bytes = qr_tile_bytes(entry->dtype, record.n_out, record.n_in);
    if (entry->n_bytes == 0 || record.tiles_at % QR_PACK_ALIGN != 0 ||
        record.tiles_at < sizeof(*head) || record.tiles_at > head->index_at ||
        entry->n_bytes > head->index_at - record.tiles_at)
        return false;
    entry->tiles = data + record.tiles_at;
    return true;
}

enum qr_status qr_tile_file_parse(const char *path, const uint8_t *data, size_t size,
                                  const uint8_t key[QR_TILE_KEY_BYTES], struct qr_tile_index *out,
                                  struct qr_error *err)
{
    struct qr_tile_head head;

    *out = (struct qr_tile_index){0};
    QR_TRY(check_head(path, data, size, key, &head, err));
    size_t at = (size_t)head.index_at;
    if (head.n_matrices > (size - at) / sizeof(struct qr_tile_record))
        return qr_fail(err, QR_ERR_INVALID, "%s: no room for an index of %u matrices", path,
                       head.n_matrices);
    out->entries = qr_calloc(QR_ARENA_ENGINE, head.n_matrices, sizeof(*out->entries));
    if (out->entries == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "%s: out of memory for its index", path);
    for (uint32_t i = 0; i < head.n_matrices; i++) {
        if (!read_record(data, &head, &at, &out->entries[i]))
            return qr_fail(err, QR_ERR_INVALID, "%s: record %u of its index is wrong", path, i);
        out->n++;
    }
    return QR_OK;
}

void qr_tile_index_free(struct qr_tile_index *index)
{
    qr_free(index->entries);
    *index = (struct qr_tile_index){0};
}
