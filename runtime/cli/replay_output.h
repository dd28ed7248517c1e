/* replay_output.h - what `quire replay` prints: for people, and as JSON. */
#ifndef QUIRE_RUNTIME_CLI_REPLAY_OUTPUT_H
#define QUIRE_RUNTIME_CLI_REPLAY_OUTPUT_H

#include <jansson.h>

#include "runtime/replay/replay.h"

/* A replay that has ended. */
struct qr_replay_result {
    const char *path;
    int64_t n_bytes; /* of the file */
    const struct qr_record_header *header;
    const struct qr_replay *replay;
    struct qr_record end; /* its last record; of another kind when it was left before */
    bool is_damaged;
    struct qr_error damage; /* when it is */
    int64_t wall_ns;        /* reading, running and comparing */
};

QR_BEGIN_DECLS

void qr_replay_print_summary(const struct qr_replay_result *result);
/* A line for every request. */
void qr_replay_print_requests(const struct qr_replay_result *result);
/* New references; NULL when memory is exhausted. */
json_t *qr_replay_summary_json(const struct qr_replay_result *result);
json_t *qr_replay_requests_json(const struct qr_replay_result *result);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_CLI_REPLAY_OUTPUT_H */
