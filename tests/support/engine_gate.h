/*
 * engine_gate.h - holds an engine before its next plan until a test has sent all that is to meet,
 * so that who meets whom does not depend on whether the test or the engine is faster.
 */
#ifndef QUIRE_TESTS_SUPPORT_ENGINE_GATE_H
#define QUIRE_TESTS_SUPPORT_ENGINE_GATE_H

#include <pthread.h>
#include <stdbool.h>

#include "runtime/engine/engine_hooks.h"

struct engine_gate {
    struct qr_engine_hook inner;
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool is_open;
};

QR_BEGIN_DECLS

/*
 * Becomes the engine's hook, before its first request, and calls `inner` (NULL: nobody) in each
 * plan once it is open. Outlives the engine. Whoever closes it opens it before waiting for tokens.
 */
void engine_gate_close(struct engine_gate *gate, struct qr_engine *engine,
                       const struct qr_engine_hook *inner);
void engine_gate_open(struct engine_gate *gate);
void engine_gate_destroy(struct engine_gate *gate);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_ENGINE_GATE_H */
