/*
 * gguf_names.h - the names of a GGUF file's tensors as a Hugging Face checkpoint of the same
 * architecture has them ("blk.3.attn_q.weight": "model.layers.3.self_attn.q_proj.weight"), and
 * what the conversion to GGUF did to them.
 */
#ifndef QUIRE_RUNTIME_WEIGHTS_GGUF_NAMES_H
#define QUIRE_RUNTIME_WEIGHTS_GGUF_NAMES_H

#include "runtime/weights/gguf.h"

struct qr_gguf_name {
    char head[QR_TENSOR_NAME_MAX]; /* the whole name; of a stack, what comes before the number */
    char tail[QR_TENSOR_NAME_MAX]; /* of a stack, what comes after the number */
    bool is_stack; /* all experts of a layer: tensor i of dims[0] has the name head i tail */
    enum qr_tensor_change change;
    bool is_kv; /* of QR_TENSOR_PAIRED_ROWS: its heads are those of the KV cache */
};

QR_BEGIN_DECLS

/* False: the name says nothing in this architecture (general.architecture), and stays. */
bool qr_gguf_translate(struct qr_gguf_text architecture, const char *name,
                       struct qr_gguf_name *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_WEIGHTS_GGUF_NAMES_H */
