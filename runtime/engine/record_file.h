/*
 * record_file.h - the file that a flight recorder writes to, with a thread of its own,
 * so that the engine thread never waits for a disk.
 *
 * A file that is already there is kept as PATH.old: the recording of a process that
 * crashed survives its restart. When the disk is too slow or full, or the bound on the
 * size is reached, the recording ends with a mark in the file and a warning in the log;
 * nothing else stops.
 *
 *     qr_record_file_open(path, 0, &file, &err);
 *     sink = qr_record_file_sink(file);
 *     qr_record_file_origin(&origin);
 *     qr_recorder_create(&origin, &blocks_config, &scheduler_config, &sink, &recorder);
 *     qr_scheduler_set_recorder(sched, recorder);     before the scheduler's first call
 *     ...
 *     qr_recorder_destroy(recorder);
 *     qr_record_file_close(file);
 */
#ifndef QUIRE_RUNTIME_ENGINE_RECORD_FILE_H
#define QUIRE_RUNTIME_ENGINE_RECORD_FILE_H

#include "base/status.h"
#include "scheduler/recorder.h"

struct qr_record_file;

QR_BEGIN_DECLS

/* max_bytes 0: no bound. On QR_OK the caller owns *out. Errors name the path and the cause. */
QR_MUST_CHECK enum qr_status qr_record_file_open(const char *path, int64_t max_bytes,
                                                 struct qr_record_file **out, struct qr_error *err);
/* Waits until all is written; accepts NULL. After the recorder is destroyed. */
void qr_record_file_close(struct qr_record_file *file);
/* Its write is for one thread at a time. */
struct qr_record_sink qr_record_file_sink(struct qr_record_file *file);
/* This program, now. */
void qr_record_file_origin(struct qr_record_origin *origin);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_RECORD_FILE_H */
