/*
 * fuzz_tile_file.c - whatever a file of tiles says, its matrices lie within it. Checksum and key,
 * which no chance would find, are made to fit.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/ops/cpu/packed.h"
#include "runtime/ops/cpu/tile_file.h"

static void parse(const uint8_t *data, size_t size, const uint8_t *key)
{
    struct qr_tile_index index;

    if (qr_tile_file_parse("fuzz", data, size, key, &index, NULL) == QR_OK) {
        for (int32_t i = 0; i < index.n; i++) {
            const struct qr_tile_entry *entry = &index.entries[i];
            QR_ASSERT(entry->tiles >= data + sizeof(struct qr_tile_head));
            QR_ASSERT(entry->tiles + entry->n_bytes <= data + size);
            QR_ASSERT((uintptr_t)entry->tiles % QR_PACK_ALIGN == 0);
            QR_ASSERT(strlen(entry->name) < QR_TILE_NAME_MAX && qr_packs(entry->dtype));
            (void)qr_tile_entry_is_whole(entry);
        }
    }
    qr_tile_index_free(&index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = qr_aligned_alloc(QR_ARENA_ENGINE, QR_PACK_ALIGN, size);
    struct qr_tile_head head = {.magic = ""};

    if (copy == NULL)
        return 0;
    if (size > 0)
        memcpy(copy, data, size);
    memcpy(&head, data, size < sizeof(head) ? size : sizeof(head));
    parse(copy, size, head.key);
    if (size >= sizeof(head) && head.index_at <= size) {
        head.file_bytes = size;
        head.checksum =
            qr_tile_head_checksum(&head, copy + head.index_at, size - (size_t)head.index_at);
        memcpy(copy, &head, sizeof(head));
        parse(copy, size, head.key);
    }
    qr_free(copy);
    return 0;
}
