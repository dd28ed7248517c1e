/* log.c - see log.h for the contract. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum qr_log_level min_level = QR_LOG_INFO;
static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

void qr_log_set_level(enum qr_log_level level)
{
    min_level = level;
}

bool qr_log_parse_level(const char *name, enum qr_log_level *level)
{
    for (int i = QR_LOG_DEBUG; i <= QR_LOG_OFF; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *level = (enum qr_log_level)i;
            return true;
        }
    }
    return false;
}

bool qr_log_enabled(enum qr_log_level level)
{
    return level >= min_level;
}

static size_t write_timestamp(char *out, size_t size)
{
    struct timespec now;
    struct tm utc;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &utc);
    return n + (size_t)snprintf(out + n, size - n, ".%03ldZ", now.tv_nsec / 1000000);
}

void qr_log(enum qr_log_level level, const char *event, const char *fmt, ...)
{
    if (!qr_log_enabled(level))
        return;

    char line[2048];
    const size_t limit = sizeof(line) - 1; /* room for the newline */
    size_t n = write_timestamp(line, limit);
    n += (size_t)snprintf(line + n, limit - n, " %s %s", level_names[level], event);
    if (fmt[0] != '\0' && n < limit - 1) {
        line[n++] = ' ';
        va_list args;
        va_start(args, fmt);
        int added = vsnprintf(line + n, limit - n, fmt, args);
        va_end(args);
        n += added > 0 ? (size_t)added : 0;
    }
    if (n > limit - 1)
        n = limit - 1; /* cut: what snprintf wrote there is its NUL */
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* stderr is gone: there is nowhere left to say so */
}

const char *qr_log_quote(const char *text, char *out, size_t out_size)
{
    size_t n = 0;

    if (out_size < 3)
        return "";
    out[n++] = '"';
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0' && n + 6 < out_size;
         p++) {
        if (*p == '"' || *p == '\\') {
            out[n++] = '\\';
            out[n++] = (char)*p;
        } else if (*p < 0x20) {
            n += (size_t)snprintf(out + n, out_size - n, "\\x%02x", *p);
        } else {
            out[n++] = (char)*p;
        }
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}
