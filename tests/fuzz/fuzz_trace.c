/* fuzz_trace.c - whatever a trace says, its requests are in order, bounded, and have ids. */
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "runtime/bench/trace.h"

enum { CONTEXT = 64, LOW = 3, HIGH = 500 };

static void check(const struct qr_trace *trace)
{
    int32_t ids[CONTEXT];

    QR_ASSERT(trace->n_requests >= 1);
    for (int32_t i = 0; i < trace->n_requests; i++) {
        const struct qr_trace_request *request = &trace->requests[i];
        QR_ASSERT(request->arrival_ns >= (i > 0 ? request[-1].arrival_ns : 0));
        QR_ASSERT(request->n_prompt >= 1 && request->n_output >= 1);
        QR_ASSERT(request->n_prompt + request->n_output <= CONTEXT);
        qr_trace_prompt(trace, i, LOW, HIGH, ids);
        for (int32_t k = 0; k < request->n_prompt; k++)
            QR_ASSERT(ids[k] >= LOW && ids[k] < HIGH);
    }
}

/* The first byte picks the format and the options. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qr_trace trace;

    if (size == 0)
        return 0;
    const struct qr_trace_options options = {
        .divide = data[0] >> 2 & 3,
        .context = CONTEXT,
        .exchange = (data[0] >> 4 & 1) != 0 && (data[0] & 3) != QR_TRACE_SHAREGPT,
        .rate = 10,
        .seed = 1,
    };
    if (qr_trace_parse("fuzz", (const char *)data + 1, size - 1,
                       (enum qr_trace_format)(data[0] & 3), &options, &trace, NULL) == QR_OK)
        check(&trace);
    qr_trace_free(&trace);
    return 0;
}
