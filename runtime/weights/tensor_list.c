/* tensor_list.c - see tensor_list.h for the contract. */
#include "runtime/weights/tensor_list.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

enum qr_status qr_tensor_list_append(struct qr_tensor_list *list, const char *path,
                                     const char *tensor, struct qr_tensor_entry **out,
                                     struct qr_error *err)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 64;
        struct qr_tensor_entry *grown =
            qr_realloc(QR_ARENA_ENGINE, list->entries, capacity * sizeof(*grown));
        if (grown == NULL)
            return qr_fail(err, QR_ERR_NOMEM, "%s: out of memory for its header", path);
        list->entries = grown;
        list->capacity = capacity;
    }
    char *name = qr_strdup(QR_ARENA_ENGINE, tensor);
    if (name == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "%s: out of memory for its header", path);
    *out = &list->entries[list->count++];
    **out = (struct qr_tensor_entry){.name = name, .path = path};
    return QR_OK;
}

void qr_tensor_list_free(struct qr_tensor_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        qr_free(list->entries[i].name);
    qr_free(list->entries);
    *list = (struct qr_tensor_list){0};
}

bool qr_tensor_name_ends(const char *name, const char *end)
{
    size_t length = strlen(name);
    size_t tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

static int by_begin(const void *a, const void *b)
{
    const struct qr_tensor_entry *x = a;
    const struct qr_tensor_entry *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

void qr_tensor_entries_sort(struct qr_tensor_entry *entries, size_t count)
{
    if (count > 0)
        qsort(entries, count, sizeof(*entries), by_begin);
}
