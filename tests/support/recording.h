/* recording.h - recordings in memory, and the comparison of what was recorded and read. */
#ifndef QUIRE_TESTS_SUPPORT_RECORDING_H
#define QUIRE_TESTS_SUPPORT_RECORDING_H

#include "base/buffer.h"
#include "scheduler/record_reader.h"

/* Failures are those of cmocka's assertions. */

/* A sink that appends to the buffer and never refuses. */
struct qr_record_sink recording_sink(struct qr_buffer *bytes);
struct qr_record_reader *recording_open(const struct qr_buffer *bytes);
/* Reads one record, which must be of this kind. */
void recording_next(struct qr_record_reader *reader, enum qr_record_kind kind,
                    struct qr_record *record);
void recording_assert_same_plan(const struct qr_plan *a, const struct qr_plan *b);

#endif /* QUIRE_TESTS_SUPPORT_RECORDING_H */
