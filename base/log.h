/*
 * log.h - structured logs on stderr: one line an event, `key=value` pairs (logfmt).
 *
 *     qr_log(QR_LOG_INFO, "ready", "addr=%s kv_pages=%d", addr, n);
 *     2026-11-24T10:00:00.123Z info ready addr=127.0.0.1:7070 kv_pages=512
 *
 * Thread-safe; a line is written by a single write. Values that may hold spaces
 * or quotes are the caller's to quote (qr_log_quote).
 */
#ifndef QUIRE_BASE_LOG_H
#define QUIRE_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum qr_log_level {
    QR_LOG_DEBUG,
    QR_LOG_INFO,
    QR_LOG_WARN,
    QR_LOG_ERROR,
    QR_LOG_OFF,
};

QR_BEGIN_DECLS

/* Default: QR_LOG_INFO. Call before other threads start. */
void qr_log_set_level(enum qr_log_level level);
/* "debug", "info", "warn", "error" or "off". False when the name is none of them. */
bool qr_log_parse_level(const char *name, enum qr_log_level *level);
bool qr_log_enabled(enum qr_log_level level);

/* `event` is a short constant word; `fmt` holds the pairs and may be "". */
void qr_log(enum qr_log_level level, const char *event, const char *fmt, ...) QR_PRINTF(3, 4);

/* Writes `text` in double quotes with \", \\ and control bytes escaped; returns `out`. */
const char *qr_log_quote(const char *text, char *out, size_t out_size);

QR_END_DECLS

#endif /* QUIRE_BASE_LOG_H */
