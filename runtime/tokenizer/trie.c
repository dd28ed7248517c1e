/* trie.c - see trie.h for the contract. */
#include "runtime/tokenizer/trie.h"

#include <string.h>

#include "base/array.h"
#include "base/assert.h"

enum { N_FIRST = 256 };

static enum qr_status add_node(struct qr_trie *trie, struct qr_trie_node node)
{
    void *grown = qr_array_grow(QR_ARENA_ENGINE, trie->nodes, trie->count, &trie->capacity,
                                sizeof(*trie->nodes));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    trie->nodes = grown;
    trie->nodes[trie->count++] = node;
    return QR_OK;
}

static enum qr_status add_first_nodes(struct qr_trie *trie)
{
    while (trie->count <= N_FIRST)
        QR_TRY(
            add_node(trie, (struct qr_trie_node){.value = -1, .byte = (uint8_t)(trie->count - 1)}));
    return QR_OK;
}

static int32_t find_child(const struct qr_trie *trie, int32_t node, uint8_t byte)
{
    int32_t child = trie->nodes[node].first_child;

    while (child != 0 && trie->nodes[child].byte != byte)
        child = trie->nodes[child].next_sibling;
    return child;
}

enum qr_status qr_trie_add(struct qr_trie *trie, const char *text, size_t n_bytes, int32_t value)
{
    QR_ASSERT(n_bytes > 0 && value >= 0);
    QR_TRY(add_first_nodes(trie));
    trie->n_begins += trie->begins[(uint8_t)text[0]] == 0;
    trie->begins[(uint8_t)text[0]] = 1;
    int32_t node = 1 + (uint8_t)text[0];
    for (size_t i = 1; i < n_bytes; i++) {
        uint8_t byte = (uint8_t)text[i];
        int32_t child = find_child(trie, node, byte);
        if (child == 0) {
            child = trie->count;
            QR_TRY(add_node(trie, (struct qr_trie_node){
                                      .next_sibling = trie->nodes[node].first_child,
                                      .value = -1,
                                      .byte = byte,
                                  }));
            trie->nodes[node].first_child = child;
        }
        node = child;
    }
    trie->nodes[node].value = value;
    return QR_OK;
}

int32_t qr_trie_step(const struct qr_trie *trie, int32_t node, uint8_t byte)
{
    if (trie->count <= N_FIRST)
        return 0;
    return node == 0 ? 1 + byte : find_child(trie, node, byte);
}

int32_t qr_trie_longest(const struct qr_trie *trie, const char *text, size_t n_bytes,
                        size_t *length)
{
    int32_t value = -1;
    int32_t node = 0;

    *length = 0;
    for (size_t i = 0; i < n_bytes;) {
        node = qr_trie_step(trie, node, (uint8_t)text[i++]);
        if (node == 0)
            break;
        if (trie->nodes[node].value >= 0) {
            value = trie->nodes[node].value;
            *length = i;
        }
    }
    return value;
}

size_t qr_trie_candidate(const struct qr_trie *trie, const char *text, size_t n_bytes, size_t from)
{
    if (trie->n_begins == 0 || from >= n_bytes)
        return n_bytes;
    if (trie->n_begins == 1) {
        const uint8_t *only = memchr(trie->begins, 1, sizeof(trie->begins));
        const char *at = memchr(text + from, (int)(only - trie->begins), n_bytes - from);
        return at != NULL ? (size_t)(at - text) : n_bytes;
    }
    while (from < n_bytes && trie->begins[(uint8_t)text[from]] == 0)
        from++;
    return from;
}

void qr_trie_free(struct qr_trie *trie)
{
    qr_free(trie->nodes);
    *trie = (struct qr_trie){0};
}
