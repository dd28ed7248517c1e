/* model_tokenizer.c - see model_tokenizer.h for the contract. */
#include "runtime/models/model_tokenizer.h"

#include "runtime/weights/synthetic.h"

enum qr_status qr_model_open_tokenizer(const char *path, struct qr_tokenizer **out,
                                       struct qr_error *err)
{
    struct qr_gguf_file file;

    *out = NULL;
    if (qr_is_synthetic(path))
        return qr_tokenizer_open_bytes(out, err);
    if (!qr_gguf_is_path(path))
        return qr_tokenizer_open(path, out, err);
    QR_TRY(qr_gguf_open(path, &file, err));
    enum qr_status status = qr_tokenizer_from_gguf(&file.gguf, out, err);
    qr_gguf_close(&file);
    return status;
}
