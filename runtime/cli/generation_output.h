/*
 * generation_output.h - shows a generation: text as it comes and a line of figures,
 * or one JSON object at the end. Of several outputs the text comes at the end, one
 * after the other.
 */
#ifndef QUIRE_RUNTIME_CLI_GENERATION_OUTPUT_H
#define QUIRE_RUNTIME_CLI_GENERATION_OUTPUT_H

#include <jansson.h>

#include "base/buffer.h"
#include "runtime/engine/request.h"
#include "runtime/engine/stream.h"

struct qr_shown_output {
    json_t *ids;     /* output token ids */
    json_t *details; /* one object a token, when log-probabilities are shown */
    struct qr_buffer text;
    struct qr_finish finish;
};

struct qr_generation_output {
    bool json;
    bool logprobs; /* of every output token, with the top ones, in the JSON */
    int32_t n_outputs;
    struct qr_shown_output outputs[QR_MAX_WIDTH];
};

QR_BEGIN_DECLS

/* n_outputs in [1, QR_MAX_WIDTH]. */
QR_MUST_CHECK enum qr_status qr_generation_output_init(struct qr_generation_output *output,
                                                       int32_t n_outputs, bool json, bool logprobs);
void qr_generation_output_free(struct qr_generation_output *output);

/* Streams the chunk's text to standard output, or keeps it for the end. */
QR_MUST_CHECK enum qr_status qr_generation_output_chunk(struct qr_generation_output *output,
                                                        const struct qr_stream_chunk *chunk);
/*
 * After the last chunk: the JSON object on standard output, or a newline there and
 * the figures on standard error. prompt_ids[n_prompt] may be NULL when they are not
 * known (the server tokenized the prompt).
 */
QR_MUST_CHECK enum qr_status qr_generation_output_end(struct qr_generation_output *output,
                                                      const int32_t *prompt_ids, int32_t n_prompt);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_CLI_GENERATION_OUTPUT_H */
