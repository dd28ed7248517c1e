/* scheduler_index.h - looks inside the scheduler: a fingerprint of its state and its world's. */
#ifndef QUIRE_TESTS_SUPPORT_SCHEDULER_INDEX_H
#define QUIRE_TESTS_SUPPORT_SCHEDULER_INDEX_H

#include "tests/support/scheduler_world.h"

QR_BEGIN_DECLS

/*
 * Of all that decides what can happen next, with sequences in the order of the
 * scheduler's lists, whatever their slots. Left out: counters, clock values, and ranks
 * beyond the order that they have led to, except with several tenants (see also
 * block_index_fingerprint).
 */
uint64_t scheduler_index_fingerprint(const struct scheduler_world *world, int32_t n_tenants);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_SCHEDULER_INDEX_H */
