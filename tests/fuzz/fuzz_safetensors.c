/* fuzz_safetensors.c - whatever a header says, the tensors lie within the file. */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/weights/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qr_tensor_list list = {0};
    uint8_t *copy = qr_aligned_alloc(QR_ARENA_ENGINE, 8, size); /* as aligned as a mapping */

    if (copy == NULL)
        return 0;
    if (size > 0)
        memcpy(copy, data, size);
    if (qr_safetensors_parse("fuzz", copy, size, &list, NULL) == QR_OK) {
        for (size_t i = 0; i < list.count; i++) {
            const struct qr_tensor_entry *entry = &list.entries[i];
            const uint8_t *begin = entry->tensor.data;
            QR_ASSERT(begin >= copy + 8);
            QR_ASSERT(begin + (entry->end - entry->begin) <= copy + size);
        }
    }
    qr_tensor_list_free(&list);
    qr_free(copy);
    return 0;
}
