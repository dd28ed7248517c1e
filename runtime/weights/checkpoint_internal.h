/* checkpoint_internal.h - a checkpoint's state, shared by the files that fill it. */
#ifndef QUIRE_RUNTIME_WEIGHTS_CHECKPOINT_INTERNAL_H
#define QUIRE_RUNTIME_WEIGHTS_CHECKPOINT_INTERNAL_H

#include "base/mapped_file.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/gguf.h"
#include "runtime/weights/tensor_list.h"

struct qr_checkpoint_shard {
    char *path;
    struct qr_mapped_file file;
};

/* Data that stand in no file as they are wanted; owned. */
struct qr_checkpoint_copy {
    void *data;
    size_t n_bytes;
};

struct qr_checkpoint {
    char *dir;                          /* as it was opened: a directory or a file */
    struct qr_checkpoint_shard *shards; /* [n_shards] of safetensors */
    size_t n_shards;
    struct qr_gguf_file *gguf_files; /* [n_gguf_files] */
    size_t n_gguf_files;
    struct qr_tensor_list tensors; /* sorted by name; of a synthetic one: as they were asked for */
    struct qr_checkpoint_copy *copies; /* [n_copies] */
    int32_t n_copies;
    int32_t copies_capacity;
    bool is_synthetic;
    bool device_fills; /* tensors of a synthetic one: they have no data here */
    enum qr_dtype synthetic_dtype;
};

QR_BEGIN_DECLS

enum qr_status qr_checkpoint_no_memory(const struct qr_checkpoint *checkpoint,
                                       struct qr_error *err);
/* checkpoint_safetensors.c, checkpoint_gguf.c: fill `tensors` from what `dir` names. */
QR_MUST_CHECK enum qr_status qr_checkpoint_load_safetensors(struct qr_checkpoint *checkpoint,
                                                            struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_checkpoint_load_gguf(struct qr_checkpoint *checkpoint,
                                                     struct qr_error *err);
/* The tensors of `gguf`, a part of the model whose settings are in `first`, under their Hugging
 * Face names; borrowed. */
QR_MUST_CHECK enum qr_status qr_checkpoint_add_gguf(struct qr_checkpoint *checkpoint,
                                                    const struct qr_gguf *first,
                                                    const struct qr_gguf *gguf,
                                                    struct qr_error *err);
/* Sorts by name. QR_ERR_INVALID: two files have the same tensor. */
QR_MUST_CHECK enum qr_status qr_checkpoint_sort(struct qr_checkpoint *checkpoint,
                                                struct qr_error *err);
/* NULL: there is none. */
struct qr_tensor_entry *qr_checkpoint_find_entry(const struct qr_checkpoint *checkpoint,
                                                 const char *name);

/*
 * checkpoint_copies.c: makes the entry's tensor what a model is to get: undoes `change` in a
 * copy, gives FP8 its scales, and vectors of blocks become F32. Once for each entry; later calls
 * do nothing.
 */
QR_MUST_CHECK enum qr_status qr_checkpoint_finish(struct qr_checkpoint *checkpoint,
                                                  struct qr_tensor_entry *entry,
                                                  struct qr_error *err);
/* Memory that lives as long as the checkpoint, aligned to 64; NULL when exhausted. */
QR_MUST_CHECK void *qr_checkpoint_take(struct qr_checkpoint *checkpoint, size_t n_bytes);
/* False: a tensor of this name holds the scales of another, or factors of RoPE. */
bool qr_checkpoint_is_parameter(const char *name);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_WEIGHTS_CHECKPOINT_INTERNAL_H */
