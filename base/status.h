/*
 * status.h - the one error type every layer returns, and the words that go with it.
 *
 * Functions that read what a user wrote (files, options, requests) also take a
 * struct qr_error: it carries one sentence that names the file or field, the value
 * and what to do. Functions that only meet the program's own state return the
 * status alone.
 */
#ifndef QUIRE_BASE_STATUS_H
#define QUIRE_BASE_STATUS_H

#include <stdarg.h>

#ifdef __cplusplus
#define QR_BEGIN_DECLS extern "C" {
#define QR_END_DECLS   }
#else
#define QR_BEGIN_DECLS
#define QR_END_DECLS
#endif

#define QR_MUST_CHECK                   __attribute__((warn_unused_result))
#define QR_PRINTF(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))

enum qr_status {
    QR_OK = 0,
    QR_ERR_INVALID = -1,     /* the caller's input is wrong */
    QR_ERR_NOMEM = -2,       /* host or device memory */
    QR_ERR_NO_PAGES = -3,    /* KV pool exhausted; preempt and retry */
    QR_ERR_IO = -4,          /* a file, socket or disk failed */
    QR_ERR_DEVICE = -5,      /* an op failed on the device */
    QR_ERR_QUEUE_FULL = -6,  /* the bounded request queue is full; retry later */
    QR_ERR_NOT_FOUND = -7,   /* no such file, model or name */
    QR_ERR_UNSUPPORTED = -8, /* well-formed, but not something Quire can do */
    QR_ERR_CLOSED = -9,      /* the engine or server is shutting down */
};

#define QR_TRY(expr)                        \
    do {                                    \
        enum qr_status qr_try_st_ = (expr); \
        if (qr_try_st_ != QR_OK)            \
            return qr_try_st_;              \
    } while (0)

/* What a person sees. Empty unless a function that takes it failed. */
struct qr_error {
    char message[512];
};

QR_BEGIN_DECLS

/* A short constant name such as "INVALID"; never NULL. */
const char *qr_status_name(enum qr_status status);

/*
 * Writes the sentence (truncated to fit) and returns `status`, so that a failing
 * function can say `return qr_fail(err, QR_ERR_INVALID, "%s: ...", path);`.
 * `err` may be NULL.
 */
enum qr_status qr_fail(struct qr_error *err, enum qr_status status, const char *fmt, ...)
    QR_PRINTF(3, 4);

/* Puts "context: " before the message, for a caller that knows more than its callee. */
void qr_error_prefix(struct qr_error *err, const char *fmt, ...) QR_PRINTF(2, 3);

QR_END_DECLS

#endif /* QUIRE_BASE_STATUS_H */
