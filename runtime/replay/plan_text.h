/* plan_text.h - plans in words, and where two of them begin to differ. */
#ifndef QUIRE_RUNTIME_REPLAY_PLAN_TEXT_H
#define QUIRE_RUNTIME_REPLAY_PLAN_TEXT_H

#include "base/buffer.h"
#include "runtime/replay/replay.h"

QR_BEGIN_DECLS

/* "swap", "recomputation", "recomputation, nothing kept", "its slow reader" */
const char *qr_replay_way_name(enum qr_release how);
const char *qr_replay_tier_name(enum qr_tier tier); /* "host", "disk" */

/*
 * False when the two plans are the same to the bit. Otherwise appends what differs first
 * and then both plans whole.
 */
QR_MUST_CHECK enum qr_status qr_replay_compare_plans(const struct qr_replay *replay,
                                                     const struct qr_plan *recorded,
                                                     const struct qr_plan *replayed, bool *differ,
                                                     struct qr_buffer *text);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_REPLAY_PLAN_TEXT_H */
