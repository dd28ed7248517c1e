/* trie.h - finds which of a set of strings a text begins with. */
#ifndef QUIRE_RUNTIME_TOKENIZER_TRIE_H
#define QUIRE_RUNTIME_TOKENIZER_TRIE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct qr_trie_node {
    int32_t first_child;  /* 0: none */
    int32_t next_sibling; /* 0: none */
    int32_t value;        /* -1: no string ends here */
    uint8_t byte;
};

/*
 * Zero-initialise; release with qr_trie_free. Nodes 1..256 are the first bytes, so that
 * most positions of a text are dismissed at a glance; node 0 is none.
 */
struct qr_trie {
    struct qr_trie_node *nodes; /* [count], NULL while empty */
    int32_t count;
    int32_t capacity;
    uint8_t begins[256]; /* 1: a string begins with the byte */
    int32_t n_begins;
};

QR_BEGIN_DECLS

/* `value` >= 0; n_bytes > 0. A string added twice keeps its last value. */
QR_MUST_CHECK enum qr_status qr_trie_add(struct qr_trie *trie, const char *text, size_t n_bytes,
                                         int32_t value);
/* The value of the longest string that text[n_bytes] begins with, -1: none. */
int32_t qr_trie_longest(const struct qr_trie *trie, const char *text, size_t n_bytes,
                        size_t *length);
/*
 * A walk along a text: the node that `byte` leads to from `node`, at first from 0; 0 when no
 * string goes on with it.
 */
int32_t qr_trie_step(const struct qr_trie *trie, int32_t node, uint8_t byte);
/* The first position at or after `from` where one of the strings may stand; else n_bytes. */
size_t qr_trie_candidate(const struct qr_trie *trie, const char *text, size_t n_bytes, size_t from);
void qr_trie_free(struct qr_trie *trie);

/* The value of the string that ends at the node, -1: none does. */
static inline int32_t qr_trie_value(const struct qr_trie *trie, int32_t node)
{
    return trie->nodes[node].value;
}

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TRIE_H */
