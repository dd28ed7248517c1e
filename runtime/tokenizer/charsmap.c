/* charsmap.c - see charsmap.h for the contract. */
#include "runtime/tokenizer/charsmap.h"

#include <string.h>

#include "base/alloc.h"

static uint32_t read_u32(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

enum qr_status qr_charsmap_read(struct qr_charsmap *map, const void *data, size_t n_bytes)
{
    const unsigned char *bytes = data;
    size_t n_trie = n_bytes >= 4 ? read_u32(bytes) : 0;

    *map = (struct qr_charsmap){0};
    if (n_bytes < 4 || n_trie % 4 != 0 || n_trie == 0 || n_trie > n_bytes - 4)
        return QR_ERR_INVALID;
    size_t n_texts = n_bytes - 4 - n_trie;
    map->units = qr_calloc(QR_ARENA_ENGINE, n_trie / 4, sizeof(*map->units));
    map->texts = qr_calloc(QR_ARENA_ENGINE, n_texts + 1, 1);
    if (map->units == NULL || map->texts == NULL) {
        qr_charsmap_free(map);
        return QR_ERR_NOMEM;
    }
    map->n_units = n_trie / 4;
    map->n_texts = n_texts + 1;
    for (size_t i = 0; i < map->n_units; i++)
        map->units[i] = read_u32(bytes + 4 + i * 4);
    memcpy(map->texts, bytes + 4 + n_trie, n_texts);
    return QR_OK;
}

static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & (UINT32_C(1) << 9)) >> 6);
}

bool qr_charsmap_find(const struct qr_charsmap *map, const char *text, size_t n_bytes,
                      bool takes_longest, struct qr_charsmap_rule *rule)
{
    bool found = false;

    if (map->n_units == 0)
        return false;
    size_t at = offset_of(map->units[0]);
    for (size_t i = 0; i < n_bytes; i++) {
        at ^= (unsigned char)text[i];
        if (at >= map->n_units)
            break;
        uint32_t unit = map->units[at];
        if ((unit & (UINT32_C(1) << 31 | 0xff)) != (unsigned char)text[i])
            break;
        at ^= offset_of(unit);
        if (at >= map->n_units)
            break;
        if ((unit >> 8 & 1) == 0) /* no string ends here */
            continue;
        size_t value = map->units[at] & (UINT32_C(0x7fffffff));
        if (value >= map->n_texts)
            break;
        *rule = (struct qr_charsmap_rule){i + 1, map->texts + value};
        found = true;
        if (!takes_longest)
            break;
    }
    return found;
}

void qr_charsmap_free(struct qr_charsmap *map)
{
    qr_free(map->units);
    qr_free(map->texts);
    *map = (struct qr_charsmap){0};
}
