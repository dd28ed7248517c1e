/*
 * fuzz_gguf.c - whatever a GGUF file says, its values and tensors lie within it, its tensors can be
 * had as a model wants them, and its settings and vocabulary are taken or refused.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/models/config_fields.h"
#include "runtime/models/gguf_config.h"
#include "runtime/models/model_tokenizer.h"
#include "runtime/weights/checkpoint_internal.h"

static void check_values(const struct qr_gguf *gguf, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < gguf->n_values; i++) {
        const struct qr_gguf_value *value = &gguf->values[i];
        const uint8_t *cursor = value->data;
        for (uint64_t k = 0; k < value->count; k++) {
            if (value->type != QR_GGUF_STRING) {
                volatile double number = qr_gguf_number_at(value, k);
                (void)number;
                continue;
            }
            struct qr_gguf_text text = qr_gguf_next_string(&cursor);
            QR_ASSERT((const uint8_t *)text.bytes >= data);
            QR_ASSERT(text.n_bytes <= size && cursor <= data + size);
        }
    }
}

/* Each tensor in the form that a model gets, to its last byte. */
static void finish_tensors(struct qr_checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        struct qr_tensor_entry *entry = &checkpoint->tensors.entries[i];
        if (!entry->is_readable || qr_checkpoint_finish(checkpoint, entry, NULL) != QR_OK)
            continue;
        const volatile uint8_t *data = entry->tensor.data;
        (void)data[qr_tensor_n_bytes(&entry->tensor) - 1];
    }
}

static void check_settings(const struct qr_gguf *gguf, const struct qr_checkpoint *checkpoint)
{
    struct qr_model_config config;
    json_t *root;

    if (qr_gguf_config_to_json(gguf, checkpoint, &root, NULL) != QR_OK)
        return;
    if (qr_model_config_from_json("fuzz", root, &config, NULL) == QR_OK)
        QR_ASSERT(qr_model_config_n_parameters(&config) > 0);
    json_decref(root);
}

static void check_model(const struct qr_gguf *gguf)
{
    char name[] = "fuzz";
    struct qr_checkpoint checkpoint = {.dir = name};
    struct qr_tokenizer *tok;

    if (qr_tokenizer_from_gguf(gguf, &tok, NULL) == QR_OK)
        qr_tokenizer_close(tok);
    if (qr_checkpoint_add_gguf(&checkpoint, gguf, gguf, NULL) == QR_OK &&
        qr_checkpoint_sort(&checkpoint, NULL) == QR_OK) {
        check_settings(gguf, &checkpoint);
        finish_tensors(&checkpoint);
    }
    qr_tensor_list_free(&checkpoint.tensors);
    for (int32_t i = 0; i < checkpoint.n_copies; i++)
        qr_free(checkpoint.copies[i].data);
    qr_free(checkpoint.copies);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qr_gguf gguf;
    uint8_t *copy = qr_aligned_alloc(QR_ARENA_ENGINE, 64, size); /* as aligned as a mapping */

    if (copy == NULL)
        return 0;
    if (size > 0)
        memcpy(copy, data, size);
    if (qr_gguf_parse("fuzz", copy, size, &gguf, NULL) == QR_OK) {
        check_values(&gguf, copy, size);
        check_model(&gguf);
        for (size_t i = 0; i < gguf.tensors.count; i++) {
            const struct qr_tensor_entry *entry = &gguf.tensors.entries[i];
            const uint8_t *begin = entry->tensor.data;
            QR_ASSERT(begin >= copy && (uintptr_t)begin % 8 == 0);
            QR_ASSERT(begin + (entry->end - entry->begin) <= copy + size);
        }
    }
    qr_gguf_free(&gguf);
    qr_free(copy);
    return 0;
}
