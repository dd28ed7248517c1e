/* checkpoint_identity.c - what tells the content of a checkpoint's files without reading them all.
 */
#include <string.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/assert.h"
#include "runtime/weights/checkpoint_internal.h"

enum { N_SAMPLES = 64, SAMPLE_BYTES = 4096 };

static_assert(sizeof(XXH128_canonical_t) == QR_CHECKPOINT_ID_BYTES, "an id is such a hash");

static void add_number(XXH3_state_t *state, int64_t number)
{
    XXH3_128bits_update(state, &number, sizeof(number));
}

static void add_text(XXH3_state_t *state, const char *text)
{
    XXH3_128bits_update(state, text, strlen(text) + 1);
}

static void add_time(XXH3_state_t *state, struct timespec time)
{
    add_number(state, time.tv_sec);
    add_number(state, time.tv_nsec);
}

/*
 * The time of the last change cannot be set back, as that of the last writing can. The samples,
 * from the first bytes to the last, are for clocks and file systems that do not keep such times.
 */
static void add_file(XXH3_state_t *state, const struct qr_mapped_file *file)
{
    size_t n = file->size < SAMPLE_BYTES ? file->size : SAMPLE_BYTES;
    size_t step = (file->size - n) / (N_SAMPLES - 1);

    add_number(state, (int64_t)file->size);
    add_time(state, file->modified);
    add_time(state, file->changed);
    for (size_t i = 0; i < N_SAMPLES - 1 && n > 0; i++)
        XXH3_128bits_update(state, file->data + i * step, n);
    if (n > 0)
        XXH3_128bits_update(state, file->data + file->size - n, n);
    qr_mapped_file_forget(file, file->data, file->size); /* 2 MiB a sample, on huge pages */
}

static void add_tensor(XXH3_state_t *state, const struct qr_tensor_entry *entry)
{
    const struct qr_tensor *tensor = &entry->tensor;

    add_text(state, entry->name);
    add_text(state, entry->dtype_name);
    add_number(state, entry->begin);
    add_number(state, entry->end);
    add_number(state, entry->change);
    add_number(state, entry->n_heads);
    for (int32_t i = 0; entry->is_readable && i < tensor->n_dims; i++)
        add_number(state, tensor->dims[i]);
}

bool qr_checkpoint_identify(const struct qr_checkpoint *checkpoint,
                            uint8_t id[QR_CHECKPOINT_ID_BYTES])
{
    XXH3_state_t state;
    XXH128_canonical_t hash;

    if (checkpoint->is_synthetic)
        return false;
    XXH3_INITSTATE(&state);
    XXH3_128bits_reset(&state);
    for (size_t i = 0; i < checkpoint->n_shards; i++)
        add_file(&state, &checkpoint->shards[i].file);
    for (size_t i = 0; i < checkpoint->n_gguf_files; i++)
        add_file(&state, &checkpoint->gguf_files[i].mapping);
    for (size_t i = 0; i < checkpoint->tensors.count; i++)
        add_tensor(&state, &checkpoint->tensors.entries[i]);
    XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(&state));
    memcpy(id, &hash, sizeof(hash));
    return true;
}

static bool is_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_as_opened(const char *path, const struct qr_mapped_file *file)
{
    struct stat st;

    return stat(path, &st) == 0 && (size_t)st.st_size == file->size &&
           is_time(st.st_mtim, file->modified) && is_time(st.st_ctim, file->changed);
}

bool qr_checkpoint_is_unchanged(const struct qr_checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->n_shards; i++)
        if (!is_as_opened(checkpoint->shards[i].path, &checkpoint->shards[i].file))
            return false;
    for (size_t i = 0; i < checkpoint->n_gguf_files; i++)
        if (!is_as_opened(checkpoint->gguf_files[i].path, &checkpoint->gguf_files[i].mapping))
            return false;
    return true;
}
