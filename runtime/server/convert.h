/*
 * convert.h - requests of quire.v1 to the engine's own types.
 *
 * What a message leaves out gets its documented default, what it says wrong is an
 * error that names the field. Any thread.
 */
#ifndef QUIRE_RUNTIME_SERVER_CONVERT_H
#define QUIRE_RUNTIME_SERVER_CONVERT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/quire/v1/inference.pb-c.h"
#include "runtime/engine/request.h"
#include "runtime/tokenizer/tokenizer.h"

QR_BEGIN_DECLS

/*
 * All fields of `message`; on QR_OK the caller owns *out. A prompt of text is encoded
 * with `tokenizer`; one that cannot fit max_seq_tokens is refused unread. Ranges that
 * qr_request_check knows are left to it. On QR_ERR_INVALID *field is the path of the
 * field, a constant; QR_ERR_NOMEM has none. *wants_logprobs: report them for output.
 */
QR_MUST_CHECK enum qr_status qr_convert_generate_request(const Quire__V1__GenerateRequest *message,
                                                         const struct qr_tokenizer *tokenizer,
                                                         int32_t max_seq_tokens,
                                                         struct qr_request **out,
                                                         bool *wants_logprobs, const char **field,
                                                         struct qr_error *err);

/* A field's name as qr_request_check has it ("top_p") to its path ("sampling.top_p"). */
const char *qr_convert_field_path(const char *name);

/* `text` must be UTF-8. On QR_ERR_INVALID *field and the error say so. */
QR_MUST_CHECK enum qr_status qr_convert_text(const ProtobufCBinaryData *text, const char *name,
                                             const char **field, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SERVER_CONVERT_H */
