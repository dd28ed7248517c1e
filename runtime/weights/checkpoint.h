/*
 * checkpoint.h - named weight tensors of a checkpoint on disk, memory-mapped.
 *
 * A Hugging Face directory: one model.safetensors, or several with
 * model.safetensors.index.json (https://github.com/huggingface/safetensors). Or a GGUF file, or
 * the first of one that was split (gguf.h); its tensors go by the names that a Hugging Face
 * checkpoint of the architecture has, the experts of a layer one by one.
 *
 * A tensor's data points into the mapping and lives as long as the checkpoint. Copied are only
 * tensors that a file has in another form: q and k of GGUF's "llama", whose rows stand in another
 * order, and vectors. Everything a file claims (lengths, offsets, dtype, overlaps, sizes) is
 * checked on open; errors name the file, the tensor and the value.
 *
 * Scales of FP8 weights are a tensor beside them, NAME_scale or NAME_scale_inv: one number, one
 * for each row, or one for each block of 128 times 128; they come with the weight.
 */
#ifndef QUIRE_RUNTIME_WEIGHTS_CHECKPOINT_H
#define QUIRE_RUNTIME_WEIGHTS_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/status.h"
#include "runtime/weights/tensor.h"

struct qr_checkpoint;
struct qr_gguf;

QR_BEGIN_DECLS

/* `dir` holds the safetensors file(s), or is a .gguf file. On QR_OK the caller owns *out. */
QR_MUST_CHECK enum qr_status qr_checkpoint_open(const char *dir, struct qr_checkpoint **out,
                                                struct qr_error *err);
/*
 * A checkpoint that has whatever tensor is asked for, once each, with seeded random numbers of
 * this dtype (synthetic.h). `name` stands for it in errors. device_fills: the tensors have no
 * data, but say what is to be filled in; they take no host memory.
 */
QR_MUST_CHECK enum qr_status qr_checkpoint_open_synthetic(const char *name, enum qr_dtype dtype,
                                                          bool device_fills,
                                                          struct qr_checkpoint **out,
                                                          struct qr_error *err);
void qr_checkpoint_close(struct qr_checkpoint *checkpoint); /* accepts NULL */

/* The metadata of a GGUF file, or of its first part; borrowed. NULL: it is no such file. */
const struct qr_gguf *qr_checkpoint_gguf(const struct qr_checkpoint *checkpoint);
/* As its file has it. NULL when there is no tensor of that name; always, of a synthetic one. */
const struct qr_tensor *qr_checkpoint_find(const struct qr_checkpoint *checkpoint,
                                           const char *name);
/* The tensor `name` with exactly these dimensions, or an error that says what was found. */
QR_MUST_CHECK enum qr_status qr_checkpoint_get(struct qr_checkpoint *checkpoint, const char *name,
                                               int32_t n_dims, const int64_t *dims,
                                               struct qr_tensor *out, struct qr_error *err);
/* Rows [first, first + n) of the tensor `name`, whose shape is `dims`. */
QR_MUST_CHECK enum qr_status qr_checkpoint_get_rows(struct qr_checkpoint *checkpoint,
                                                    const char *name, int32_t n_dims,
                                                    const int64_t *dims, int64_t first, int64_t n,
                                                    struct qr_tensor *out, struct qr_error *err);
/*
 * Rows [first, first + n) of the transpose [dims[0]][dims[1]] of the tensor `name`, which is
 * [dims[1]][dims[0]]: a copy that the checkpoint owns.
 */
QR_MUST_CHECK enum qr_status qr_checkpoint_get_transposed_rows(struct qr_checkpoint *checkpoint,
                                                               const char *name,
                                                               const int64_t *dims, int64_t first,
                                                               int64_t n, struct qr_tensor *out,
                                                               struct qr_error *err);
/* data[n_bytes] of a tensor have been copied to where they are needed: the memory that they take
 * here is given back, and their content may be lost. */
void qr_checkpoint_forget(const struct qr_checkpoint *checkpoint, const void *data, size_t n_bytes);
/* Gives the memory of all mapped files back. What is used again comes back as it is used. */
void qr_checkpoint_forget_files(const struct qr_checkpoint *checkpoint);

enum { QR_CHECKPOINT_ID_BYTES = 16 };
/*
 * Stands for the tensors and for what they hold, wherever the files lie: a hash of their sizes, of
 * when they were last written and changed, of samples and of the list of tensors. A file that is
 * copied, renamed or written to gets another. False: of a synthetic one there is none.
 */
bool qr_checkpoint_identify(const struct qr_checkpoint *checkpoint,
                            uint8_t id[QR_CHECKPOINT_ID_BYTES]);
/* Whether the files are those that were opened, and nobody has written to them since. */
bool qr_checkpoint_is_unchanged(const struct qr_checkpoint *checkpoint);

int64_t qr_checkpoint_n_parameters(const struct qr_checkpoint *checkpoint);
int64_t qr_checkpoint_n_bytes(const struct qr_checkpoint *checkpoint);
/* The dtype that most bytes have; of a synthetic checkpoint: its own. */
enum qr_dtype qr_checkpoint_dtype(const struct qr_checkpoint *checkpoint);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_WEIGHTS_CHECKPOINT_H */
