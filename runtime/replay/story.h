/*
 * story.h - what happened to one request, in words or as JSON: arrival, queue, prefill,
 * tokens, preemptions with their reasons, where its pages went, pauses, forks, its end.
 *
 * Watches a replay: for every record, qr_story_before, qr_replay_apply, qr_story_after.
 */
#ifndef QUIRE_RUNTIME_REPLAY_STORY_H
#define QUIRE_RUNTIME_REPLAY_STORY_H

#include <jansson.h>

#include "base/buffer.h"
#include "runtime/replay/replay.h"

struct qr_story;

QR_BEGIN_DECLS

/* request: its number, from 1 in the order of arrival. The replay must outlive the story. */
QR_MUST_CHECK enum qr_status qr_story_create(const struct qr_replay *replay, int32_t request,
                                             struct qr_story **out);
void qr_story_destroy(struct qr_story *story); /* accepts NULL */

/* QR_ERR_NOMEM */
QR_MUST_CHECK enum qr_status qr_story_before(struct qr_story *story,
                                             const struct qr_record *record);
QR_MUST_CHECK enum qr_status qr_story_after(struct qr_story *story, const struct qr_record *record);

/*
 * When the replay has ended and the request is in it. A heading and one line an event,
 * times in milliseconds after its arrival.
 */
QR_MUST_CHECK enum qr_status qr_story_write(struct qr_story *story,
                                            const struct qr_record_header *header,
                                            struct qr_buffer *text);
/* The same as an object, a new reference; NULL when memory is exhausted. */
json_t *qr_story_to_json(struct qr_story *story);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_REPLAY_STORY_H */
